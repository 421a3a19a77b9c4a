"""`python -m tests.mutations`: take out one check after the other, and see which test notices.

Each mutation is made in a copy of the tree. One that no test notices makes this fail, and so does one that
breaks the program rather than a check. With `--write` each result goes into docs/MUTATIONS.md as it comes:
a run of some leaves the rows of the others, and one that is broken off what it had.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from pytest import main as _pytest_main  # noqa: PT013 - `pytest` is a function here

from tests.mutations import page
from tests.mutations.listed import MUTATIONS
from tests.mutations.model import ROOT, Mutation

_FAILED = re.compile(r"^FAILED (?P<test>\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)
_SECONDS, _BASELINE_SECONDS = 400, 3600
_PASSED, _SOME_FAILED = 0, 1
_OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
_OURS = frozenset({"tests", "support", "gateway", "pacs", "admin", "importer", "demo", "bench", "monitoring"})
_LOADED = (
    "PIL.Image", "alembic", "authlib.oauth2", "click", "dicomweb_client.web", "flask", "hypothesis",
    "joserfc", "numpy", "prometheus_client", "psycopg", "pydantic_settings", "pydicom", "requests",
    "rich.console", "sqlalchemy", "structlog", "urllib3", "werkzeug.serving",
)  # fmt: skip

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue


@dataclass(frozen=True)
class Outcome:
    """What became of one: `test` noticed it; without one `trouble` says why not."""

    mutation: Mutation
    test: str
    trouble: str
    seconds: float

    @property
    def said(self) -> str:
        return f"`{self.test.removeprefix('tests/')}`" if self.test else f"**{self.trouble}**"


def copy_tree(target: Path) -> None:
    """The files of the working tree, whether they are committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def pytest(tree: Path, *arguments: str, seconds: int = _SECONDS) -> tuple[int, str]:
    """Run tests in a copy; pytest's exit code, and what it said.

    In a fork of this process, which has loaded the libraries already: to load them takes most of a run.
    """
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if not process:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            signal.alarm(seconds)
            os._exit(_run(tree, [*_OPTIONS, f"--basetemp={scratch}/t", *arguments]))
        _, status = os.waitpid(process, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


def _run(tree: Path, arguments: list[str]) -> int:
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "ISOLATION_SWEEP": "2000"}
    # Ours come from the copy: what was loaded of them is forgotten, and the original's folder left out.
    sys.path[:] = [str(tree), *(each for each in sys.path if Path(each or ".").resolve() != ROOT)]
    for name in [each for each in sys.modules if each.split(".")[0] in _OURS]:
        del sys.modules[name]
    code = int(_pytest_main(arguments))
    sys.stdout.flush()
    return code


def judge(tree: Path, mutation: Mutation) -> Outcome:
    """Mutate, run its tests one after the other until one notices, and put the file back."""
    place, began = tree / mutation.path, time.monotonic()
    original = place.read_text(encoding="utf-8")
    place.write_text(mutation.applied(tree), encoding="utf-8")
    trouble = "survived"
    try:
        for argument in mutation.tests:
            code, said = pytest(tree, argument)
            found = _FAILED.search(said)
            if code == _SOME_FAILED and found:
                return Outcome(mutation, found["test"], "", time.monotonic() - began)
            if code != _PASSED:
                trouble = f"broken: {said.strip().splitlines()[-1] if said.strip() else code}"
        return Outcome(mutation, "", trouble, time.monotonic() - began)
    finally:
        place.write_text(original, encoding="utf-8")


def check_baseline(tree: Path, mutations: list[Mutation]) -> None:
    """A test that fails anyway notices nothing."""
    tests = dict.fromkeys(argument for each in mutations for argument in each.tests)
    code, said = pytest(tree, *tests, seconds=_BASELINE_SECONDS)
    if code != _PASSED:
        raise SystemExit(f"without any mutation:\n{said[-3000:]}")


def main() -> None:
    """Run them all, or some."""
    options = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    options.add_argument("only", nargs="?", default="", help="a regular expression for `FILE: SENTENCE`")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--no-baseline", action="store_true", help="the tests are known to pass")
    options.add_argument("--write", action="store_true", help="write docs/MUTATIONS.md")
    chosen = options.parse_args()
    mutations = [each for each in MUTATIONS if re.search(chosen.only, f"{each.path}: {each.what}")]
    for each in mutations:
        each.applied()
    for name in _LOADED:
        import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        for number in range(chosen.jobs):
            copy_tree(Path(folder) / str(number))
        if not chosen.no_baseline:
            check_baseline(Path(folder) / "0", mutations)
        finish(run_all(mutations, Path(folder), chosen.jobs, write=chosen.write))


def run_all(mutations: list[Mutation], folder: Path, jobs: int, *, write: bool) -> list[Outcome]:
    """In their order; each process has a copy of its own."""
    fork = get_context("fork")
    free = fork.SimpleQueue()
    for number in range(jobs):
        free.put(folder / str(number))
    outcomes = []
    with fork.Pool(jobs, _take_copy, (free,)) as pool:
        for outcome in pool.imap(_judge_in_copy, mutations):
            print(f"{outcome.seconds:5.1f} s  {page.row(outcome.mutation, outcome.said)}", flush=True)  # noqa: T201
            outcomes.append(outcome)
            if write:
                page.write({page.key(outcome.mutation): outcome.said})
    return outcomes


_copies: list[Path] = []


def _take_copy(free: SimpleQueue[Path]) -> None:
    _copies.append(free.get())


def _judge_in_copy(mutation: Mutation) -> Outcome:
    return judge(_copies[0], mutation)


def finish(outcomes: list[Outcome]) -> None:
    """Tell what is left over."""
    unnoticed = [each for each in outcomes if not each.test]
    print(f"{len(outcomes)} mutations, {len(outcomes) - len(unnoticed)} noticed")  # noqa: T201
    if unnoticed:
        raise SystemExit(
            "not noticed: " + "; ".join(f"{each.mutation.what} ({each.trouble})" for each in unnoticed)
        )


if __name__ == "__main__":
    main()
