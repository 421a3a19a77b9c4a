"""The patient id as text, in whatever character set the file was written (PS3.5 section 6.1)."""

from __future__ import annotations

from functools import lru_cache

from pydicom.charset import STAND_ALONE_ENCODINGS, decode_bytes, python_encoding

from importer.dicom.refusal import Reason, RefusedFileError

_ESCAPE = b"\x1b"
# PS3.5 section 6.1.3: no other control character has a place in the VR LO.
_CONTROL = bytes(set(range(0x20)) - {0x1B}) + b"\x7f"


# The files of a study follow each other, and all say the same.
@lru_cache(maxsize=64)
def decode_patient_id(value: bytes, character_set: bytes) -> str:
    """PatientID without the spaces around it and the NULs behind. What cannot be decoded becomes U+FFFD.

    Raises:
        RefusedFileError: a control character is in it or in the character set. DCMTK ends a text at a NUL,
            pydicom does not.
    """
    value = value.rstrip(b"\0 ").lstrip(b" ")
    if any(byte in _CONTROL for byte in value):
        raise RefusedFileError(Reason.MALFORMED_PATIENT_ID, "PatientID (0010,0020) has control characters.")
    encodings = _encodings(character_set)
    if _ESCAPE in value:
        return decode_bytes(value, encodings, set()).strip()
    return value.decode(encodings[0], errors="replace").strip()


def _encodings(character_set: bytes) -> list[str]:
    """Python's names for the terms of SpecificCharacterSet; Latin-1, as Orthanc, for one that is unknown."""
    terms = character_set.rstrip(b"\0 ")
    if any(byte in _CONTROL for byte in terms):
        # pydicom and with it the embedded archive raise ValueError on a NUL in a term.
        raise RefusedFileError(
            Reason.MALFORMED_ELEMENT, "SpecificCharacterSet (0008,0005) has control characters."
        )
    first, *extensions = (term.strip() for term in terms.decode("ascii", "replace").split("\\"))
    encodings = [python_encoding.get(first, "iso8859")]
    if first not in STAND_ALONE_ENCODINGS:
        encodings += [
            python_encoding[term]
            for term in extensions
            if term in python_encoding and term not in STAND_ALONE_ENCODINGS
        ]
    return encodings
