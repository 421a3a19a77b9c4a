"""How a data set is really encoded, where its file meta information is silent or wrong.

What is sent has a new one, which states what is true: then all parsers read the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.dicom.encoding import (
    EXPLICIT_LITTLE_UID,
    IMPLICIT_LITTLE_UID,
    PIXEL_DATA,
    TransferSyntax,
)
from importer.dicom.meta import guess_transfer_syntax
from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.walk import Walker

if TYPE_CHECKING:
    from importer.dicom.meta import FileMeta
    from importer.dicom.source import Limits, Source

_LITTLE = frozenset({IMPLICIT_LITTLE_UID, EXPLICIT_LITTLE_UID})
# Image Pixel and Multi-frame modules (PS3.3 sections C.7.6.3 and C.7.6.6), and what a missing one counts for.
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
_DIMENSIONS = {_SAMPLES: 1, _FRAMES: 1, _ROWS: 0, _COLUMNS: 0, _BITS: 0}
_LONGEST = 12  # An IS (PS3.5 section 6.2).


def transfer_syntax(meta: FileMeta, head: bytes) -> TransferSyntax:
    """The transfer syntax of the data set that begins with `head`, six bytes.

    Raises:
        RefusedFileError: the file does not tell (``unknown-transfer-syntax``), or is none (``not-dicom``).
    """
    stated, found = meta.transfer_syntax_uid, guess_transfer_syntax(head)
    if stated is None or {stated, found} == _LITTLE:
        if found is not None:
            return TransferSyntax(found)
        if meta.values:
            raise RefusedFileError(Reason.UNKNOWN_TRANSFER_SYNTAX, "The file states no transfer syntax.")
        raise RefusedFileError(Reason.NOT_DICOM, "The file is not a DICOM file.")
    return TransferSyntax(stated)


def require_encoding(syntax: TransferSyntax, head: bytes) -> None:
    """Pydicom believes the first element rather than the transfer syntax; here they must agree.

    Raises:
        RefusedFileError: they do not.
    """
    vr = head[4:6]
    has_vr = vr.isalpha() and vr.isupper()
    if vr and has_vr != syntax.encoding.explicit:
        if not syntax.is_standard:
            raise RefusedFileError(
                Reason.UNKNOWN_TRANSFER_SYNTAX, "The private transfer syntax is not known."
            )
        raise RefusedFileError(
            Reason.TRANSFER_SYNTAX_MISMATCH, "The data set is not encoded as its transfer syntax says."
        )


def native_syntax(source: Source, start: int, length: int, limits: Limits) -> TransferSyntax:
    """The true syntax of a data set whose pixel data is said to be compressed, and is not in fragments.

    Args:
        source: the file, from its beginning.
        start: where the data set begins.
        length: of its pixel data, in bytes.
        limits: what it is read with.

    Raises:
        RefusedFileError: it is not exactly as long as its frames are (``transfer-syntax-mismatch``).
    """
    syntax = TransferSyntax(EXPLICIT_LITTLE_UID)
    found = _DIMENSIONS.copy()
    for tag, _, _, value, size, _ in Walker(source, start, syntax, limits).elements():
        if tag == PIXEL_DATA:
            break
        if tag in found:
            content = source.read(value, min(size, _LONGEST))
            found[tag] = _count(content) if tag == _FRAMES else int.from_bytes(content, "little")
    bits = found[_ROWS] * found[_COLUMNS] * found[_SAMPLES] * found[_BITS] * found[_FRAMES]
    whole = (bits + 7) // 8
    if not bits or length != whole + whole % 2:
        raise RefusedFileError(
            Reason.TRANSFER_SYNTAX_MISMATCH,
            "The transfer syntax says that the pixel data is compressed, but it does not come in fragments.",
        )
    return syntax


def _count(value: bytes) -> int:
    text = value.strip(b"\0 ")
    return int(text) if text.isdigit() else 0
