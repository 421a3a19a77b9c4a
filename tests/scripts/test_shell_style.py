"""Every shell script of ours: strict, short, and clean by shellcheck where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.shell import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except UnicodeDecodeError:
        return ""


FILES = [ROOT / name for name in _LISTED if (ROOT / name).is_file() and not name.startswith("build/")]
PROGRAMS = [
    path for path in FILES if _first_line(path) in {"#!/usr/bin/env bash", "#!/bin/bash", "#!/bin/sh"}
]
PARTS = [path for path in FILES if _first_line(path).startswith("# shellcheck shell=")]


def test_the_scripts_are_found() -> None:
    names = {path.name for path in PROGRAMS}
    assert {"setup.sh", "generate-certs.sh", "status.sh", "certbot.sh"} <= names
    assert len(PARTS) > 10


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        # The parts are read where a program sources them: alone they would seem to use what nobody sets.
        (
            ["--external-sources", "--check-sourced"],
            [path for path in PROGRAMS if path.parent.name == "scripts"],
        ),
        ([], [path for path in PROGRAMS if path.parent.parent.name == "scripts"]),
        # The entrypoints of containers source what is mounted.
        (
            ["--severity=warning", "--exclude=SC1090"],
            [path for path in PROGRAMS if "scripts" not in path.parts],
        ),
    ],
    ids=["scripts", "in containers", "elsewhere"],
)
def test_shellcheck_finds_nothing(options: list[str], paths: list[Path]) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    assert paths
    done = subprocess.run(
        ["shellcheck", *options, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "path",
    [path for path in PROGRAMS if path.parent != ROOT / "tests/backup"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_programs_stop_at_the_first_fault(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.startswith("#!/bin/sh"):
        assert "\nset -e" in text or len(text.splitlines()) < 5 or path.name.endswith(".envsh")
    else:
        assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize(
    "path", [ROOT / "scripts/setup.sh", *(ROOT / "scripts/setup").glob("*.sh")], ids=lambda p: p.name
)
def test_steps_of_setup_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 90
