"""How measurements are taken: in turn, several rounds, so that a drifting machine is the same for all."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def interleaved(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Sample]:
    """Measure each subject once a round, A B C A B C ..., after nothing: warm-up is the subjects' own."""
    values: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        # In turn, but not always in the same order: who comes second finds warmer caches.
        names = list(subjects)
        for name in names if number % 2 == 0 else reversed(names):
            values[name].append(subjects[name]())
    return {name: Sample(tuple(found)) for name, found in values.items()}


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of the clock and of the processors, and its peak memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float


def run_and_weigh(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end; what it itself took, not any other child of ours.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            end = said.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}: {end}")
    seconds = time.monotonic() - began
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time that running processes have used so far, without their ended children."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - no file of a disk
            fields = file.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / ticks
