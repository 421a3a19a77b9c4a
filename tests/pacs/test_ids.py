"""Identifiers: what is one and what is not."""

from __future__ import annotations

import pytest

from pacs.ids import ClinicId, InvalidClinicIdError, InvalidUidError, Uid


@pytest.mark.parametrize("text", ["a", "northside", "denscan-almaty", "0", "a" * 63, "a-"])
def test_a_clinic_id(text: str) -> None:
    assert ClinicId(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-a", "A", "north side", "a" * 64, "a\n", "a/b", "..", "ä", "a_b", "٣", "northside,southside"],
)
def test_no_clinic_id(text: str) -> None:
    with pytest.raises(InvalidClinicIdError):
        ClinicId(text)


@pytest.mark.parametrize("text", ["1", "1.2.840.10008.1.1", "1.02.3", "9" * 64])
def test_a_uid(text: str) -> None:
    assert Uid(text) == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".1", "1..2", "..", "1.2\n", "1.2 ", "1.2\\1.3", "1.2,1.3", "1.a", "٣.٤", "9" * 65, "*"],
)
def test_no_uid(text: str) -> None:
    with pytest.raises(InvalidUidError):
        Uid(text)
