"""What the importer says of a file that it does not store.

UnstorableFileError
├── RefusedFileError    the file is filed under failed, with the reason and the text
└── SkippedFileError    the file is filed under processed: it holds no image, and nobody is alerted
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pacs.ids import Uid


@unique
class Reason(StrEnum):
    """Why a file is not stored: stable codes, found in ``.error.json`` files and metrics."""

    NOT_DICOM = "not-dicom"
    MALFORMED_FILE_META = "malformed-file-meta"
    UNKNOWN_TRANSFER_SYNTAX = "unknown-transfer-syntax"
    TRANSFER_SYNTAX_MISMATCH = "transfer-syntax-mismatch"
    TRUNCATED = "truncated"
    MISSING_DELIMITER = "missing-delimiter"
    TRAILING_GARBAGE = "trailing-garbage"
    UNKNOWN_VR = "unknown-vr"
    UNEXPECTED_VR = "unexpected-vr"
    UNDEFINED_LENGTH = "undefined-length"
    MALFORMED_SEQUENCE = "malformed-sequence"
    MALFORMED_PIXEL_DATA = "malformed-pixel-data"
    MALFORMED_ELEMENT = "malformed-element"
    DUPLICATE_ELEMENT = "duplicate-element"
    ELEMENT_OUT_OF_ORDER = "element-out-of-order"
    TOO_DEEP = "too-deep"
    TOO_MANY_ELEMENTS = "too-many-elements"
    TAKES_TOO_LONG = "takes-too-long"
    MALFORMED_UID = "malformed-uid"
    NO_SOP_CLASS_UID = "no-sop-class-uid"
    NO_SOP_INSTANCE_UID = "no-sop-instance-uid"
    NO_STUDY_INSTANCE_UID = "no-study-instance-uid"
    NO_SERIES_INSTANCE_UID = "no-series-instance-uid"
    MALFORMED_PATIENT_ID = "malformed-patient-id"
    MALFORMED_DEFLATE = "malformed-deflate"
    INFLATES_TOO_FAR = "inflates-too-far"
    DICOMDIR = "dicomdir"


class UnstorableFileError(Exception):
    """A file that never reaches the archive.

    Attributes:
        reason: stable code.
        text: one sentence for a person. It names tags and offsets, never a value of the file.
        uids: the UIDs that were read before the fault, by keyword (``SOPInstanceUID`` ...).
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text
        self.uids: dict[str, Uid] = {}


class RefusedFileError(UnstorableFileError):
    """A file that is no DICOM instance the archive could store and that a person should look at."""


class SkippedFileError(UnstorableFileError):
    """A file that rightly lies in a DICOM folder but is no instance."""
