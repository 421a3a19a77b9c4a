"""scripts/lib/env.sh reads and writes .env as Docker Compose reads it, and never runs what it holds."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.shell import Machine

HOSTILE = [
    *("plain", "a b", " lead", "$HOME", "${X}", "`id`", "$(touch pwned)", "it's", 'say "x"', "a#b", "x # y"),
    *("#x", "\\n", "end\\", "'\"\\$(id)", "p@ss%w0rd!&|;<>", "é漢", "a=b=c", "", "-n", "*", "~/x"),
]


def test_values_of_any_letters_are_read_back(machine: Machine) -> None:
    for number, value in enumerate(HOSTILE):
        machine.bash(f"env_set V{number} {shlex.quote(value)}")
    read = machine.bash(f'for ((i = 0; i < {len(HOSTILE)}; i++)); do env_get "V$i"; done')
    assert read.splitlines() == HOSTILE
    assert not (machine.root / "pwned").exists()
    assert stat.S_IMODE((machine.root / ".env").stat().st_mode) == 0o600


def test_compose_reads_the_same(machine: Machine) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], check=False).returncode
    ):
        pytest.skip("Docker Compose is not installed")
    for number, value in enumerate(HOSTILE):
        machine.bash(f"env_set V{number} {shlex.quote(value)}")
    names = {f"V{number}": f"${{V{number}}}" for number in range(len(HOSTILE))}
    (machine.root / "docker-compose.yml").write_text(
        json.dumps({"services": {"any": {"image": "any", "environment": names}}})
    )
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=machine.root,
        capture_output=True,
        text=True,
        check=True,
    )
    read = json.loads(done.stdout)["services"]["any"]["environment"]
    # Compose writes $ as $$ in what it prints.
    assert [read[name].replace("$$", "$") for name in names] == HOSTILE


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("V=x", "x"),
        ("export V=x", "x"),
        ("  V = x  ", "x"),
        ("V=x # why", "x"),
        ("V=x#y", "x#y"),
        ("V='x # y' # why", "x # y"),
        ('V="a \\"b\\" \\$c"', 'a "b" $c'),
        ("V=x\r", "x"),
        ("V=first\nV=second", "second"),
        ("#V=x", ""),
        ("VV=x\nNOT_V=y", ""),
        ("V=", ""),
    ],
)
def test_lines_as_people_write_them(machine: Machine, line: str, value: str) -> None:
    (machine.root / ".env").write_bytes(f"{line}\n".encode())
    assert machine.bash("env_get V") == f"{value}\n"


def test_a_change_touches_one_line_and_keeps_the_rest(machine: Machine) -> None:
    env = machine.root / ".env"
    env.write_text("# a comment\nA=1\n\nB='two words'\nA=3\nC=4")
    machine.bash("env_set A 9; env_set D new")
    assert env.read_text() == "# a comment\nA=9\n\nB='two words'\nC=4\nD=new\n"


def test_a_link_stays_one(machine: Machine) -> None:
    (machine.root / "kept.env").write_text("A=1\n")
    (machine.root / ".env").symlink_to("kept.env")
    machine.bash("env_set A 2")
    assert (machine.root / ".env").is_symlink()
    assert (machine.root / "kept.env").read_text() == "A=2\n"


@pytest.mark.parametrize("arguments", ["'A B' x", "'A;id' x", "A $'x\\ny'", "a x"])
def test_what_is_no_assignment_is_refused(machine: Machine, arguments: str) -> None:
    done = machine.run(
        "bash", "-c", f". scripts/lib/say.sh; . scripts/lib/env.sh; (env_set {arguments}) || exit 3"
    )
    assert done.returncode == 3
    assert not (machine.root / ".env").exists()


def test_the_environment_comes_before_the_file_and_the_default_last(machine: Machine) -> None:
    (machine.root / ".env").write_text("A=file\nB=file\n")
    machine.environment["A"] = "environment"
    assert machine.bash("setting A x; setting B x; setting C default") == "environment\nfile\ndefault\n"


def test_versions_are_compared_as_numbers(machine: Machine) -> None:
    said = machine.bash(
        "for pair in 20.10.24+dfsg1:20.10 2.26.1-4:2.20 v2.20:2.20 28.2.2:20.10 2.9.9:2.20 19.3:20.10; do "
        'version_at_least "${pair%:*}" "${pair#*:}" && echo yes || echo no; done'
    )
    assert said.split() == ["yes", "yes", "yes", "yes", "no", "no"]


def test_ages_and_sizes_for_people(machine: Machine) -> None:
    said = machine.bash(
        "for s in 42 300 10800 200000; do age $s; done; for b in 7 40000000 3210000000; do size $b; done"
    )
    assert said.splitlines() == ["42 s", "5 min", "3 h", "2 d", "7 B", "40 MB", "3.2 GB"]
