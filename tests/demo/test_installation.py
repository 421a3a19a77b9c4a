"""What a start of the demo chooses, and what it says to type."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from demo.installation import Installation
from demo.settings import DemoSettings


def installation(path: Path) -> Installation:
    return Installation.choose(DemoSettings(data_path=path, demo_port=8800))


def test_commands_need_nothing_where_they_look_by_themselves() -> None:
    assert installation(Path("data")).command == ".venv/bin/clinicpacs"


def test_commands_are_told_of_another_folder_in_words_that_a_shell_reads(tmp_path: Path) -> None:
    path = tmp_path / "my $data é"
    assignment = installation(path).command.removesuffix(" .venv/bin/clinicpacs")
    told = subprocess.run(
        ["sh", "-c", f'{assignment}; printf %s "$DATA_PATH"'], capture_output=True, check=True
    )
    assert told.stdout.decode() == str(path)


def test_a_folder_has_one_demo_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with installation(folder).claim(), pytest.raises(BlockingIOError):
        installation(folder).claim()
    installation(folder).claim().close()
