"""docs/MUTATIONS.md: a row for each mutation, which stays when only others are run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.mutations.listed import MUTATIONS
from tests.mutations.model import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.mutations.model import Mutation

PAGE = ROOT / "docs" / "MUTATIONS.md"
NOT_RUN = "not run"
"""Said of a mutation that was listed after the last run."""
Key = tuple[str, str]
_ROW = re.compile(r"^\| (?P<what>[^|]+) \| `(?P<path>[^`|]+)` \| (?P<said>.+) \|$", re.MULTILINE)
_HEAD = """# What each check is tested by

Made by `make mutations`: each line is a check that was taken out of the program, and the first test that then
failed.

| not checked | file | noticed by |
|---|---|---|
"""


def key(mutation: Mutation) -> Key:
    return mutation.what, mutation.path


def rows(text: str) -> dict[Key, str]:
    """What a page says of each mutation, in its order."""
    return {(found["what"], found["path"]): found["said"] for found in _ROW.finditer(text)}


def row(mutation: Mutation, said: str) -> str:
    return f"| {mutation.what} | `{mutation.path}` | {said} |"


def merged(text: str, news: Mapping[Key, str]) -> str:
    """The page with what is new of some mutations: a row for each that is listed, and no other."""
    said = rows(text) | dict(news)
    return _HEAD + "".join(f"{row(each, said.get(key(each), NOT_RUN))}\n" for each in MUTATIONS)


def write(news: Mapping[Key, str]) -> None:
    """Merge into the page; whoever is killed meanwhile leaves a whole one."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    fresh = PAGE.with_suffix(".new")
    fresh.write_text(merged(text, news), encoding="utf-8")
    fresh.replace(PAGE)
