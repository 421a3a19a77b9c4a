"""Text as people search it: without case and accents."""

from __future__ import annotations

import unicodedata


def fold(text: str) -> str:
    """The text without case, accents and control characters, for comparison only.

    Person names are matched like this (PS3.4 section C.2.2.2.1: matching of VR PN may ignore case and
    accents); PostgreSQL takes no NUL in a text.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c) and unicodedata.category(c) != "Cc")
