"""A study of 1,000 slices, opened as OHIF opens one: its requests in its order, to the last frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers import postgresql, scene
from bench.servers.ct import CtStudy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.options import Options
    from bench.servers.load import Report
    from bench.servers.scene import Scene, Stages

_STEPS = ("the study", "its patient's other studies", "its series", "the metadata", "the frames")


def run(options: Options) -> Iterator[Figure]:
    """P2c, warm and cold."""
    slices = 250 if options.quick else 1000
    with (
        postgresql.running() as database,
        scene.playing(options.folder, CtStudy(slices), database_url=database.new_catalog()) as both,
    ):
        yield _cold(both, options)
        yield _warm(both, options)


def _stages(both: Scene) -> Stages:
    study, series = both.study.uid, both.study.series
    asked = "fuzzymatching=false&includefield=00081030%2C00080060"
    return [
        [(f"/studies?limit=101&offset=0&{asked}&StudyInstanceUID={study}", scene.JSON)],
        [(f"/studies?limit=101&offset=0&{asked}&00100020=SAMPLE-1", scene.JSON)],
        [(f"/studies/{study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011", scene.JSON)],
        [(f"/studies/{study}/series/{series}/metadata", scene.JSON)],
        *both.frames(1, both.study.slices),
    ]


def _warm(both: Scene, options: Options) -> Figure:
    both.ask_ours(_stages(both), token=both.ours.new_token())
    return _figure(
        both,
        options,
        key="P2c-warm",
        token=both.ours.new_token,
        goal=2,
        what=f"opening a study of {both.study.slices} slices as OHIF does, opened before by somebody",
        note="Frames and metadata come from nginx's cache, each request authorised by the gateway.",
    )


def _cold(both: Scene, options: Options) -> Figure:
    def somebody_new() -> str:
        both.renew()
        return both.ours.new_token()

    return _figure(
        both,
        options,
        key="P2c-cold",
        token=somebody_new,
        goal=0.9,
        what=f"opening a study of {both.study.slices} slices as OHIF does, for the first time",
        note="Nothing of it is in nginx's cache, and the reader is on record for the first time.",
    )


def _figure(
    both: Scene, options: Options, *, key: str, token: Callable[[], str], goal: float, what: str, note: str
) -> Figure:
    stages = _stages(both)
    steps: dict[str, list[list[float]]] = {"ours": [], "peer": [], "over TLS": []}

    def told(name: str, report: Report) -> float:
        steps[name].append(report.stages)
        return report.seconds

    found = interleaved(
        {
            "ours": lambda: told("ours", both.ask_ours(stages, token=token())),
            "peer": lambda: told("peer", both.ask_peer(stages)),
            "over TLS": lambda: told("over TLS", both.ask_ours(stages, token=token(), tls=True)),
        },
        options.rounds,
    )
    rows = [Row("ours over TLS, as browsers ask", "s", found["over TLS"])]
    rows += [
        Row(f"{name}: {step}", "ms", Sample(tuple(round_[number] * 1000 for round_ in steps[who])))
        for number, step in enumerate(_STEPS)
        for who, name in (("ours", "ours"), ("peer", scene.PEER))
    ]
    return Figure(
        key=key,
        what=what,
        unit="s",
        ours=found["ours"],
        peer=found["peer"],
        peer_name=scene.PEER,
        goal=Goal("ratio", at_least=goal),
        more_is_better=False,
        rows=tuple(rows),
        note=note,
    )
