"""P3b: one frame and one series' metadata that nobody has seen before, as the archive grows."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3

from bench.figures import Curve, Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers import archive_data
from support.orthanc import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.options import Options
    from bench.servers.archive_data import Index
    from bench.servers.tiny_study import Study
    from support.orthanc import Orthanc

_EACH = {"postgresql": 40, "sqlite": 8}
"""Requests a round, whose median is its value; few of what takes long."""
_FRAME = 'multipart/related; type="application/octet-stream"'
_METADATA = "application/dicom+json"
_WHAT = {"frame": "one frame", "metadata": "one series' metadata"}
_Case = tuple[int, "Index"]


def run(options: Options) -> Iterator[Figure]:
    """Orthanc by itself, as the gateway asks it: what we add does not depend on its size."""
    few, many = (1000, 10_000) if options.quick else (1000, 100_000)
    cases: list[_Case] = [(few, "postgresql"), (many, "postgresql"), (few, "sqlite"), (many, "sqlite")]
    if not options.quick:
        cases.insert(1, (10_000, "postgresql"))
    # The first round warms what belongs to the process and not to a study.
    rounds = options.rounds + 1
    unseen = {case: archive_data.unseen(*case, 2 * _EACH[case[1]] * rounds) for case in cases}
    with ExitStack() as stack:
        subjects: dict[str, Callable[[], float]] = {}
        for case in cases:
            archive = stack.enter_context(archive_data.running(*case, say=options.say))
            pool = stack.enter_context(_pool(archive))
            each = _EACH[case[1]]
            frames, series = _rounds(unseen[case][::2], each), _rounds(unseen[case][1::2], each)
            subjects[_key("frame", case)] = partial(_next_round, pool, frames, _frame)
            subjects[_key("metadata", case)] = partial(_next_round, pool, series, _metadata)
            subjects[_key("again", case)] = partial(_median, pool, unseen[case][1::2][:each], _metadata)
        for subject in subjects.values():
            subject()
        measured = interleaved(subjects, options.rounds)
    yield _figure("frame", measured, cases)
    again = tuple(
        Row(f"the same again, kept by Orthanc, {_told(case)}", "ms", measured[_key("again", case)])
        for case in cases
    )
    yield _figure("metadata", measured, cases, again)


def _figure(
    kind: str, measured: dict[str, Sample], cases: Sequence[_Case], rows: tuple[Row, ...] = ()
) -> Figure:
    sizes = [size for size, _ in cases]
    few, many = min(sizes), max(sizes)
    rest = [case for case in cases if case not in {(few, "postgresql"), (many, "postgresql")}]
    lines = {
        name: [
            (float(case[0]), measured[_key(kind, case)].median) for case in sorted(cases) if case[1] == index
        ]
        for name, index in (("PostgreSQL", "postgresql"), ("SQLite", "sqlite"))
    }
    return Figure(
        f"P3b-{kind}",
        f"{_WHAT[kind]}, never seen before, of an archive of {many:,} studies, index on PostgreSQL",
        "ms",
        measured[_key(kind, (many, "postgresql"))],
        Goal("ratio", at_least=0.5),
        measured[_key(kind, (few, "postgresql"))],
        f"the same of {few:,}",
        more_is_better=False,
        rows=tuple(Row(_told(case), "ms", measured[_key(kind, case)]) for case in rest) + rows,
        curves=(Curve("studies in the archive", "ms", lines),),
        note="Orthanc as the gateway asks it, over one connection, its index in the system's cache; "
        "each value is the median of a round.",
    )


def _key(kind: str, case: _Case) -> str:
    return f"{kind} {case[0]} {case[1]}"


def _told(case: _Case) -> str:
    return f"{case[0]:,} studies, {'SQLite' if case[1] == 'sqlite' else 'PostgreSQL'}"


@contextmanager
def _pool(archive: Orthanc) -> Iterator[urllib3.HTTPConnectionPool]:
    address = urlsplit(archive.url)
    headers = urllib3.make_headers(basic_auth=f"gateway:{PASSWORDS['gateway']}")
    with urllib3.HTTPConnectionPool(str(address.hostname), address.port, headers=headers) as pool:
        yield pool


def _frame(study: Study) -> tuple[str, str]:
    series = f"/dicom-web/studies/{study.uid}/series/{study.series_uid}"
    return f"{series}/instances/{study.sop_instance_uid}/frames/1", _FRAME


def _metadata(study: Study) -> tuple[str, str]:
    return f"/dicom-web/studies/{study.uid}/series/{study.series_uid}/metadata", _METADATA


def _rounds(studies: Sequence[Study], each: int) -> Iterator[Sequence[Study]]:
    return (studies[first : first + each] for first in range(0, len(studies), each))


def _next_round(
    pool: urllib3.HTTPConnectionPool,
    rounds: Iterator[Sequence[Study]],
    request: Callable[[Study], tuple[str, str]],
) -> float:
    return _median(pool, next(rounds), request)


def _median(
    pool: urllib3.HTTPConnectionPool,
    studies: Sequence[Study],
    request: Callable[[Study], tuple[str, str]],
) -> float:
    """The median time of an answer, in ms."""
    times = []
    for study in studies:
        path, accept = request(study)
        began = time.perf_counter()
        answer = pool.request("GET", path, headers={**pool.headers, "Accept": accept})
        times.append(time.perf_counter() - began)
        if answer.status != 200:
            raise SystemExit(f"Orthanc answered {answer.status} to {path}")
    return statistics.median(times) * 1000
