"""Identifiers that were checked once and are trusted from then on."""

from __future__ import annotations

import re
from typing import Self

_CLINIC_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# PS3.5 section 9.1 forbids leading zeros in a component. Devices write them all the same and every
# archive takes them, so only what could not be a path segment of digits and dots is refused.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_MAX = 64


class InvalidClinicIdError(ValueError):
    """A text that can be no clinic id."""


class InvalidUidError(ValueError):
    """A text that can be no DICOM unique identifier."""


class ClinicId(str):
    """The id of a clinic: also the name of its inbox folder, its group and its InstitutionName.

    ASCII only, so that it can be written into a data set of any SpecificCharacterSet.

    Raises:
        InvalidClinicIdError: when the text is not ``[a-z0-9][a-z0-9-]{0,62}``.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check, once."""
        if not _CLINIC_ID.fullmatch(text):
            raise InvalidClinicIdError(
                f"{text!r} is not a clinic id: use 1 to 63 lower-case letters, digits and hyphens, "
                "starting with a letter or digit"
            )
        return super().__new__(cls, text)


class Uid(str):
    """A DICOM unique identifier (PS3.5 section 9.1): digits and dots, 64 characters at most.

    Raises:
        InvalidUidError: when the text is none.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check, once."""
        if len(text) > _UID_MAX or not _UID.fullmatch(text):
            raise InvalidUidError("not a valid UID: expected 1 to 64 digits and dots")
        return super().__new__(cls, text)
