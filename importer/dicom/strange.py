"""What a file is that is no DICOM file: the reason tells whoever sent it what to do."""

from __future__ import annotations

from contextlib import suppress

from importer.dicom.encoding import TransferSyntax
from importer.dicom.meta import guess_transfer_syntax
from importer.dicom.padding import is_filled
from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.source import FileSource, Limits
from importer.dicom.walk import Walker

# Recognition code, of ACR-NEMA alone, and Modality.
_OLD = frozenset({0x00080010, 0x00080060})
_END_OF_GROUP = 0x0008FFFF


def not_dicom(fd: int, limits: Limits) -> RefusedFileError:
    """Why the file open at `fd`, which has no file meta information and no SOPInstanceUID, is not stored."""
    if is_filled(FileSource(fd, limits), 0, b"\0"):
        return RefusedFileError(Reason.TRUNCATED, "The file is empty, or holds nothing but zeros.")
    if _is_acr_nema(FileSource(fd, limits), limits):
        return RefusedFileError(
            Reason.NO_SOP_INSTANCE_UID,
            "The data set has no SOPInstanceUID (0008,0018). ACR-NEMA, which is older than DICOM, had none.",
        )
    return RefusedFileError(Reason.NOT_DICOM, "The file is not a DICOM file.")


def _is_acr_nema(source: FileSource, limits: Limits) -> bool:
    guessed = guess_transfer_syntax(source.read(0, 6))
    if guessed is None:
        return False
    with suppress(RefusedFileError):
        for tag, *_ in Walker(source, 0, TransferSyntax(guessed), limits).elements():
            if tag in _OLD or tag > _END_OF_GROUP:
                return tag in _OLD
    return False
