"""Terms find every row that holds what is searched; a row too many is sorted out by its columns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs.catalog import terms


@given(st.text(), st.text(), st.text())
def test_a_value_has_the_terms_of_each_of_its_parts(before: str, part: str, after: str) -> None:
    row = dict.fromkeys(terms.TEXT_COLUMNS, "") | {"modalities": "", "patient_id": before + part + after}
    assert terms.to_find("patient_id", part) <= set(terms.of_row(row).split())
    whole = f"{terms.EDGE}{before}{part}{after}{terms.EDGE}"
    assert not row["patient_id"] or terms.to_find("patient_id", whole) <= set(terms.of_row(row).split())


def test_two_signs_that_are_a_name_have_terms_and_two_letters_have_none() -> None:
    assert terms.to_find("patient_name_key", "見本")
    assert not terms.to_find("patient_name_key", "ab")
