"""What a mutation is: one check taken out of the product, and the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class StaleMutationError(Exception):
    """The text that a mutation replaces is not in its file exactly once: the list must follow the code."""


@dataclass(frozen=True)
class Mutation:
    """One check less.

    Args:
        what: what is not checked any more, as a sentence for the table.
        path: the file.
        changes: pairs of a text that is there once and what stands there instead.
        tests: arguments for pytest; those that are likely to notice, the quickest first.
    """

    what: str
    path: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def applied(self, root: Path = ROOT) -> str:
        """The file's text without the check.

        Raises:
            StaleMutationError: see there.
        """
        text = (root / self.path).read_text(encoding="utf-8")
        for old, new in self.changes:
            if text.count(old) != 1:
                raise StaleMutationError(f"{self.path}: {text.count(old)} times: {old!r} ({self.what})")
            text = text.replace(old, new)
        return text


def mutation(what: str, path: str, old: str, new: str, *tests: str) -> Mutation:
    """One with a single change."""
    return Mutation(what, path, ((old, new),), tests)
