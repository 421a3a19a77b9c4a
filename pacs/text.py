"""Text as people search it: without case and accents."""

from __future__ import annotations

import unicodedata

# Letters of names that are no other letter with an accent, as people write them who cannot type them.
_LETTERS = str.maketrans(
    {
        0x131: "i",  # without its dot
        0xF8: "o",
        0x142: "l",
        0x111: "d",
        0xF0: "d",
        0x127: "h",
        0xE6: "ae",
        0x153: "oe",
        0xFE: "th",
    }
)


def fold(text: str) -> str:
    """The text without case, accents and control characters, for comparison only.

    Person names are matched like this (PS3.4 section C.2.2.2.1: matching of VR PN may ignore case and
    accents); PostgreSQL takes no NUL in a text.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return "".join(c for c in decomposed if not unicodedata.combining(c) and unicodedata.category(c) != "Cc")
