"""Terms: what a text index on either database finds a study by, before its columns are compared.

A term stands for three characters in a row of one column, so that a text anywhere in a value is found by the
terms that it is made of. Terms only narrow down: two texts may share one, and whoever asks by them
compares the columns as well.

Migration 0002 calls this: what it reads of a row must have been there then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT_COLUMNS = ("patient_name_key", "patient_id", "accession_number", "study_description_key")
"""Searched by any part of their text."""
EDGE = "\n"
"""Begins and ends every value: no value that is searched by its terms holds it otherwise."""

_GRAM = 3
# One or two such characters are a whole name.
_WORDS = re.compile("[\u2e80-\U0003ffff]")


def of_row(columns: Mapping[str, Any]) -> str:
    """The terms of one row of `studies`, separated by spaces; the same row always has the same."""
    found = {of_modality(modality) for modality in columns["modalities"].split("\\") if modality}
    for column in TEXT_COLUMNS:
        if value := columns[column]:
            whole = value if column == "patient_name_key" else f"{EDGE}{value}{EDGE}"
            found |= _terms(column, whole, every=1)
    return " ".join(sorted(found))


def to_find(column: str, text: str) -> set[str]:
    """Terms that every value has which holds the text; none for a text that is too short.

    As few as tell the most: a term more costs the index more than it spares the columns.
    """
    return _terms(column, text, every=_GRAM) | _terms(column, text[-_GRAM:], every=1)


def of_modality(modality: str) -> str:
    """The term of one modality."""
    return _term("modalities", modality)


def _terms(column: str, text: str, *, every: int) -> set[str]:
    grams = (text[start : start + _GRAM] for start in range(0, len(text) - _GRAM + 1, every))
    return {_term(column, gram) for gram in (*grams, *_WORDS.findall(text))}


def _term(column: str, gram: str) -> str:
    return f"{crc32(f'{column}{gram}'.encode(errors='surrogatepass')) & 0xFFFFF:05x}"
