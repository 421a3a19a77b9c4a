"""The patient id as text, as Orthanc reads it: its study is a hash of PatientID and StudyInstanceUID.

Two texts of one id would be two patients in the archive and split a study, so everything here follows what
Orthanc does with the bytes (Toolbox.cpp and FromDcmtkBridge.cpp of Orthanc 1.12; measured with 1.10.1 and
1.12.7 in tests/orthanc/test_patient_ids.py), also where PS3.5 section 6.1 would have it otherwise.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category

from importer.dicom.refusal import Reason, RefusedFileError

# PS3.5 section 6.1.3: no other control character has a place in the VR LO.
_CONTROL = bytes(set(range(0x20)) - {0x1B}) + b"\x7f"
_SPACE = " \t\n\v\f\r"

_ASCII, _UTF_8, _JIS, _SHIFT_JIS = "ascii", "utf_8", "iso2022_jp", "shift_jis"
_ENCODINGS = {
    "ISO_IR 192": _UTF_8,
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "ISO 2022 IR 58": "gb2312",
    "ISO 2022 IR 87": _JIS,
    "ISO 2022 IR 149": "euc_kr",
} | {
    f"{kind} {number}": encoding
    for kind in ("ISO_IR", "ISO 2022 IR")
    for number, encoding in {
        "6": _ASCII,
        "13": _SHIFT_JIS,
        "100": "iso8859_1",
        "101": "iso8859_2",
        "109": "iso8859_3",
        "110": "iso8859_4",
        "126": "iso8859_7",
        "127": "iso8859_6",
        "138": "iso8859_8",
        "144": "iso8859_5",
        "148": "iso8859_9",
        "166": "tis_620",
    }.items()
}
_KNOWN = frozenset(_ENCODINGS.values())
# All converters read what these have alike.
_UNDISPUTED = "iso8859"
# Some converters make a yen sign and an overline of the first, and drop an escape that they do not know.
_DISPUTED = {_SHIFT_JIS: frozenset("\\~"), _JIS: frozenset("\x1b")}
_NEVER_SURE = frozenset(b"\\~\x1b")
# What of ISO 2022 Orthanc takes out of the text, in UTF-8, where there are several character sets.
_SHIFTS = re.compile(rb"[\x0E\x0F]|\x1B[noNO|}~]|\x8E\x1BN|\x8F\x1BO|\x1B[ -/]+[0-\x7F]")
# As Boost counts the bytes of a character: one that does not belong to it is taken with it.
_CHARACTERS = re.compile(
    rb"[\xC2-\xDF].?|[\xE0-\xEF][\x80-\xBF]?.?|[\xF0-\xF4][\x80-\xBF]{0,2}.?|.", re.DOTALL
)


class _CharacterSet(NamedTuple):
    encoding: str
    has_extensions: bool


# The files of a study follow each other, and all say the same.
@lru_cache(maxsize=64)
def decode_patient_id(value: bytes, character_set: bytes) -> str:
    """The text that Orthanc makes of PatientID: with the spaces before it, without those that pad it.

    Where converters differ, it is the bytes and the name of their encoding instead, with U+0001 between
    them: then only the same bytes in the same encoding are the same id.

    Raises:
        RefusedFileError: a control character is in it or in the character set. DCMTK ends a text at a NUL,
            pydicom does not.
    """
    # DCMTK pads an odd length with a NUL first, and finds no spaces at the end then.
    padded = value if len(value) % 2 else value.rstrip(b" ")
    content, _, rest = padded.partition(b"\0")
    if rest.strip(b"\0 ") or any(byte in _CONTROL for byte in content):
        raise RefusedFileError(Reason.MALFORMED_PATIENT_ID, "PatientID (0010,0020) has control characters.")
    encoding, has_extensions = _character_set(character_set)
    text = _decoded(content, encoding)
    if text is None:
        return f"{content.decode('latin_1')}\x01{encoding}{'+' * has_extensions}"
    return _SHIFTS.sub(b"", text.encode()).decode("utf_8", "replace") if has_extensions else text


def _character_set(value: bytes) -> _CharacterSet:
    """The first term that says anything; ASCII for an unknown one, UTF-8 for none (orthanc.json says so)."""
    value = value.rstrip(b"\0 ")
    if any(byte in _CONTROL for byte in value):
        # pydicom and with it the embedded archive raise ValueError on a NUL in a term.
        raise RefusedFileError(
            Reason.MALFORMED_ELEMENT, "SpecificCharacterSet (0008,0005) has control characters."
        )
    terms = [term.strip(_SPACE) for term in value.decode("latin_1").split("\\")]
    term = next(filter(None, terms), "ISO_IR 192")
    spelt = term.upper().replace("ISO_IR_", "ISO_IR ").replace("ISO_2022_IR_", "ISO 2022 IR ")
    # Not all versions of Orthanc know a misspelt one: it stands for itself.
    encoding = term if term != spelt and spelt in _ENCODINGS else _ENCODINGS.get(term, _ASCII)
    return _CharacterSet(encoding, len(terms) > 1)


def _decoded(content: bytes, encoding: str) -> str | None:
    """None where not all converters make the same of it: Orthanc has glibc's, ICU's or libiconv's."""
    if encoding == _ASCII:
        return content.replace(b"\x1b", b"").decode("ascii", "ignore")
    if encoding == _UTF_8:
        return "".join(map(_character, _CHARACTERS.findall(content)))
    if encoding not in _KNOWN:
        return content.decode() if content.isascii() and _NEVER_SURE.isdisjoint(content) else None
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    if encoding.startswith(_UNDISPUTED):
        return text
    disputed = _DISPUTED.get(encoding, frozenset())
    return text if disputed.isdisjoint(text) and all(map(_is_undisputed, text)) else None


def _character(content: bytes) -> str:
    """One character of UTF-8, or nothing where it is none."""
    try:
        return content.decode("utf_8")
    except UnicodeDecodeError:
        return ""


def _is_undisputed(character: str) -> bool:
    """The tables of Asian encodings differ in symbols and in what is not assigned, not in letters."""
    return character.isascii() or category(character)[0] in "LMN"
