"""Logs carry no patient data, whoever writes the line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Any:
    logs.configure("importer")

    def last() -> dict[str, Any]:
        text = capsys.readouterr().err
        assert "Aurora" not in text
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
        return found

    return last


def test_a_line_is_json_with_its_safe_keys(line: Any) -> None:
    logs.get("x").info("stored", clinic="northside", files=3)
    written = line()
    assert (written["event"], written["clinic"], written["files"]) == ("stored", "northside", 3)
    assert (written["service"], written["level"]) == ("importer", "info")


def test_a_key_that_may_hold_patient_data_is_withheld(line: Any) -> None:
    logs.get("x").info("stored", path="northside/Sample^Aurora/1.dcm")
    assert line()["path"] == "(withheld)"


def test_an_exception_is_told_without_its_text(line: Any) -> None:
    try:
        open("/nowhere/Sample^Aurora")  # noqa: PTH123, SIM115
    except OSError:
        logs.get("x").exception("could not read")
    assert line()["exception"].startswith("FileNotFoundError errno 2 at test_logs.py:")


def test_a_librarys_arguments_are_left_out(line: Any) -> None:
    logging.getLogger("library").warning("cannot read %s", "Sample^Aurora")
    assert line()["event"] == "cannot read %s"


def test_a_text_that_a_library_formatted_itself_is_left_out(line: Any) -> None:
    logging.getLogger("library").warning("cannot read Sample^Aurora")
    assert "characters" in line()["event"]
