"""Our shell scripts on a machine of their own: a copy of them, and a `docker` that answers as told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# The one outside program that these tests do without. What it is called with goes to `calls`: a line a call,
# its arguments ended by the unit separator. What it answers stands in `answers/`.
_DOCKER = r"""#!/bin/bash
here=$(dirname "$0")/..
{ printf '%s\037' "$@"; printf '\n'; } >> "$here/calls"
answer() { [ ! -f "$here/answers/$1" ] || cat "$here/answers/$1"; [ ! -f "$here/answers/$1.fails" ]; }
case "$*" in
    "version --format"*) answer version ;;
    "compose version --short"*) answer compose ;;
    "info --format"*) answer info ;;
    "volume ls"*) answer volumes ;;
    "ps --quiet"*) answer ours ;;
    "ps --all"*) answer containers ;;
    "compose pull"*) answer pull ;;
    "compose config --services"*) answer services ;;
    "compose run"* | "compose --profile letsencrypt run"*) answer run ;;
    "compose up"*) answer up ;;
esac
"""


def secrets() -> str:
    """Lines of .env that set every secret."""
    names = [
        name
        for name in assignments(ROOT / ".env.example")
        if re.search("_(PASSWORD|SECRET|SECRET_KEY)$", name)
    ]
    return "".join(f"{name}=old\n" for name in names)


@dataclass
class Machine:
    """A folder with our scripts in it, as an administrator has them."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path) -> Machine:
        """Copy the scripts; Docker answers with the oldest versions that are taken."""
        root.mkdir()
        for name in (
            "scripts",
            "clinicpacs",
            ".env.example",
            "Makefile",
            "docker-compose.yml",
            "docker-compose.apart.yml",
        ):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, root / name)
        (root / "pacs").mkdir()
        shutil.copy(ROOT / "pacs" / "__init__.py", root / "pacs")
        for name in ("bin", "answers"):
            (root / name).mkdir()
        made = cls(root)
        made.program("docker", _DOCKER)
        made.answer("version", "20.10.24+dfsg1")
        made.answer("compose", "2.26.1-4")
        made.answer("info", f"4 {16 * 2**30} linux x86_64 {root}")
        return made

    def program(self, name: str, text: str) -> None:
        """Put a program before all others."""
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def answer(self, to: str, text: str, *, fails: bool = False) -> None:
        """What docker answers."""
        (self.root / "answers" / to).write_text(f"{text}\n" if text else "")
        (self.root / "answers" / f"{to}.fails").unlink(missing_ok=True)
        if fails:
            (self.root / "answers" / f"{to}.fails").touch()

    def run(self, *command: str, as_user: tuple[int, int] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with nobody at the terminal; its two outputs are one."""
        keep = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        environment = {**keep, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", **self.environment}
        who = {} if as_user is None else {"user": as_user[0], "group": as_user[1], "extra_groups": []}
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **who,  # type: ignore[call-overload]
        )

    def bash(self, script: str) -> str:
        """What a piece of bash prints that uses scripts/lib; it must succeed."""
        libraries = "set -euo pipefail; for each in say env docker; do . scripts/lib/$each.sh; done\n"
        done = self.run("bash", "-c", libraries + script)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def calls(self) -> list[list[str]]:
        """What docker was called with since the last reset."""
        path = self.root / "calls"
        lines = path.read_text().split("\x1f\n") if path.exists() else []
        return [line.split("\x1f") for line in lines if line]

    def forget_calls(self) -> None:
        """Begin a new list of calls."""
        (self.root / "calls").unlink(missing_ok=True)

    @property
    def env(self) -> dict[str, str]:
        """The assignments of .env, as they stand there."""
        return assignments(self.root / ".env")

    def secret(self, name: str) -> str:
        """As containers get it."""
        return (self.root / "secrets" / name).read_text(encoding="utf-8")

    def everything(self) -> dict[str, tuple[int, int, bytes]]:
        """Mode, owner and content of all that setup may write."""
        paths = [self.root / ".env", *self._below("certs"), *self._below("data"), *self._below("backups")]
        return {
            str(path.relative_to(self.root)): (
                path.stat().st_mode,
                path.stat().st_uid,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in paths
        }

    def _below(self, name: str) -> list[Path]:
        return [self.root / name, *sorted((self.root / name).rglob("*"))]


def assignments(path: Path) -> dict[str, str]:
    """NAME=value lines."""
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, mark, value in lines if mark and name.isidentifier()}
