"""What must not be in a log: the sample patients, and folders named after them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from support.corpus import PATIENTS

# Family and given names of every sample patient, in every script, and their ids as whole words.
_WORDS = {word for patient in PATIENTS.values() for word in re.split(r"[\^= ]+", patient.name) if word}
_IDS = {patient.id for patient in PATIENTS.values()}
# A handler that escapes what is not ASCII must not hide a name.
_ESCAPED = {word.encode("ascii", "backslashreplace").decode() for word in _WORDS}
# `sample` and `patient` are ordinary words of our own sentences: names count only beside their separator.
_PATTERN = re.compile(
    "|".join(
        [
            rf"(?<!\w){re.escape(word)}(?!\w)"
            for word in sorted((_WORDS | _ESCAPED) - {"Sample"})
            if len(word) > 2
        ]
        + [r"sample[\^_]+\w+", *(rf"(?<!\w){re.escape(each)}(?!\d)" for each in sorted(_IDS))]
        + [r"(?<!\w)(?:aurora|doe)(?!\w)"]
    ),
    re.IGNORECASE,
)
# One of these is in whatever the pattern finds: a hundred times as fast to look for.
_PARTS = tuple({each.lower() for each in _WORDS | _ESCAPED | _IDS} | {"aurora", "doe"})


def find(text: str) -> re.Match[str] | None:
    """The first patient datum in a text."""
    return _PATTERN.search(text)


def in_logs(folder: Path) -> list[str]:
    """The offending lines of every `*.log` below the folder, each with its file's name."""
    return [
        f"{path.name}: {line}"
        for path in _logs_below(folder)
        if path.is_file()
        for line in _suspects(path.read_text(encoding="utf-8", errors="replace").lower())
        if find(line)
    ]


def _logs_below(folder: Path) -> list[Path]:
    # os.walk: Path.rglob takes seconds for all that a run leaves in its temporary folder.
    return sorted(
        Path(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".log")
    )


def _suspects(text: str) -> set[str]:
    """The lines that hold a part, found in the whole text: line by line it would take ten times as long."""
    found = set()
    for part in _PARTS:
        at = text.find(part)
        while at >= 0:
            end = text.find("\n", at)
            if end < 0:
                end = len(text)
            found.add(text[text.rfind("\n", 0, at) + 1 : end])
            at = text.find(part, end)
    return found
