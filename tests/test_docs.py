"""The documentation is under test: settings, commands, make targets and links that it names exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from admin.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def settings_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_docs", ROOT / "scripts" / "settings_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OF_THE_HOST = {"rotate"}
"""What ./clinicpacs does without the container."""


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path) -> Iterator[str]:
    """Every line of a code block, and every span of code."""
    text = page.read_text(encoding="utf-8")
    for block in _FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from _CODE.findall(_FENCE.sub("", text))


def arguments_after(program: str, line: str) -> list[str] | None:
    """The words after `program` where a line runs it; None where it does not."""
    try:
        words = shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:
        return None
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0].rpartition("/")[2] != program:
        return None
    ends = [words.index(stop) for stop in ("|", ">", "&&", ";") if stop in words]
    return words[1 : min(ends, default=len(words))]


def is_placeholder(word: str) -> bool:
    return word.strip("[]").isupper() or "..." in word or "…" in word or "<" in word


def test_settings_md_is_what_the_settings_say() -> None:
    page = ROOT / "docs" / "SETTINGS.md"
    assert page.read_text(encoding="utf-8") == settings_docs().page(), "run: python scripts/settings_docs.py"


def test_every_setting_of_every_service_is_documented() -> None:
    generator = settings_docs()
    text = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    services = {cls.__module__.partition(".")[0] for cls in generator.settings_classes()}
    assert services >= {"pacs", *(path.parent.name for path in ROOT.glob("*/settings.py"))}
    names = {name.upper() for cls in generator.settings_classes() for name in cls.model_fields}
    assert {name for name in names if f"| `{name}` |" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_that_are_named_exist(page: Path) -> None:
    for line in code(page):
        arguments = arguments_after("clinicpacs", line)
        if not arguments or arguments[0].startswith("-") or is_placeholder(arguments[0]):
            continue
        if arguments[0] in OF_THE_HOST:
            continue
        command: click.Command | None = cli
        while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
            name, *arguments = arguments
            command = command.get_command(click.Context(command), name)
        assert command is not None, f"{by_name(page)}: {line}"
        options = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert used <= options | {"--help"}, f"{by_name(page)}: {line}"
        if arguments and not any(is_placeholder(word) for word in arguments):
            command.make_context(command.name, arguments, resilient_parsing="--help" in arguments)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    makefile = ROOT / "Makefile"
    known = (
        set(re.findall(r"^([a-z][a-z0-9-]*):", makefile.read_text(), re.MULTILINE))
        if makefile.exists()
        else set()
    )
    for line in code(page):
        words = [word for word in arguments_after("make", line) or [] if "=" not in word]
        wanted = {word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
        assert wanted <= known, f"{by_name(page)}: {line}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{by_name(page)}: {target}"
        assert place.is_relative_to(ROOT), f"{by_name(page)}: {target} leads out of the repository"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{by_name(page)}: {target}"


def test_the_reader_of_pages_sees_commands_and_links(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One  heading\n```sh\n$ DATA_PATH=x clinicpacs add-clinic a \\\n  'A' | cat\nls\n```\n"
        "`clinicpacs status` and [a](b.md#c)\n"
    )
    found = [words for line in code(page) if (words := arguments_after("clinicpacs", line)) is not None]
    assert found == [["add-clinic", "a", "A"], ["status"]]
    assert _LINK.findall(page.read_text()) == ["b.md#c"]


def test_the_generator_refuses_a_setting_without_a_meaning() -> None:
    generator = settings_docs()
    for cls in generator.settings_classes():
        for name, field in generator.own_fields(cls).items():
            assert field.description.rstrip().endswith("."), f"{name.upper()}: its meaning is no sentence"
    assert "settings_docs" not in sys.modules, "the script is read, not imported, by these tests"


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = set(
        re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8"))
    )
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in code} == set()
