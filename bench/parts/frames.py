"""Frames of a study that is open: through nginx and gateway with a token, and from bare Orthanc without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import cpu_seconds, interleaved
from bench.servers import postgresql, scene, site
from bench.servers.ct import CtStudy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.options import Options
    from bench.servers.load import Report
    from bench.servers.scene import Scene

_SLICES = 1000
_OPEN = 64
_NEW = 960
_SECONDS = 1
"""Longer, and the limit by user would count (nginx/snippets/limits.conf)."""


def run(options: Options) -> Iterator[Figure]:
    """P2: seen before; P2b: never seen before; P6: what the gateway's part costs."""
    with postgresql.running() as database:
        url = database.new_catalog()
        with scene.playing(options.folder, CtStudy(_SLICES), database_url=url) as both:
            yield _seen(both, options)
            yield _new(both, options)
            yield _gateway_cpu(both, options)


def _seen(both: Scene, options: Options) -> Figure:
    stages, seconds = both.frames(1, _OPEN), _SECONDS
    both.ask_ours(stages, token=both.ours.new_token())
    both.ask_peer(stages)
    found = interleaved(
        {
            "ours": lambda: both.ask_ours(stages, token=both.ours.new_token(), seconds=seconds).rate,
            "peer": lambda: both.ask_peer(stages, seconds=seconds).rate,
            "over TLS": lambda: (
                both.ask_ours(stages, token=both.ours.new_token(), tls=True, seconds=seconds).rate
            ),
        },
        options.rounds,
    )
    return Figure(
        key="P2",
        what=f"{_OPEN} frames of an open study, 512 x 512 x 16 bit, 16 connections, seen before",
        unit="frames/s",
        ours=found["ours"],
        peer=found["peer"],
        peer_name=scene.PEER,
        goal=Goal("ratio", at_least=2),
        rows=(Row("ours over TLS, as browsers ask", "frames/s", found["over TLS"]),),
        note="Ours through nginx and gateway with a token, each request authorised; the peer on its own "
        "port, no authentication, no TLS. Like is compared with like: ours without TLS, and with it beside.",
    )


def _new(both: Scene, options: Options) -> Figure:
    stages = both.frames(1, _OPEN if options.quick else _NEW)

    def ours() -> float:
        both.renew()
        return both.ask_ours(stages, token=both.ours.new_token()).rate

    found = interleaved({"ours": ours, "peer": lambda: both.ask_peer(stages).rate}, options.rounds)
    return Figure(
        key="P2b",
        what="the same, never seen before",
        unit="frames/s",
        ours=found["ours"],
        peer=found["peer"],
        peer_name=scene.PEER,
        goal=Goal("ratio", at_least=0.9),
        note="nginx fetches each from Orthanc, sends it on and keeps it.",
    )


def _gateway_cpu(both: Scene, options: Options) -> Figure:
    with site.running(options.folder / "sqlite", both.ours.archive) as other:
        other.own(both.study.uid)
        on_sqlite = scene.Scene(other, both.peer, both.study)
        tokens: list[float] = []
        found = interleaved(
            {
                "PostgreSQL": lambda: _milliseconds(both, both.ask_ours, tokens),
                "SQLite": lambda: _milliseconds(on_sqlite, on_sqlite.ask_ours, tokens),
                "PostgreSQL, alone": lambda: _milliseconds(both, both.ask_gateway, tokens),
                "SQLite, alone": lambda: _milliseconds(on_sqlite, on_sqlite.ask_gateway, tokens),
            },
            options.rounds,
        )
    return Figure(
        key="P6",
        what="the gateway's processor time for an authorised frame",
        unit="ms",
        ours=found["PostgreSQL"],
        goal=Goal("ours", at_most=0.35),
        more_is_better=False,
        rows=(
            Row("with the catalog on SQLite", "ms", found["SQLite"]),
            Row("asked without nginx, over kept connections", "ms", found["PostgreSQL, alone"]),
            Row("the same on SQLite", "ms", found["SQLite, alone"]),
            Row("tokens verified in 1,000 requests", "tokens", Sample(tuple(tokens))),
        ),
        note="User and system time of all its processes, by 16 connections through nginx. Each process "
        "verifies a token once in 30 seconds; revocation, clinic, study, share, series are asked each time. "
        "Through nginx the pictures pass through the same processors, and what they leave of their caches "
        "makes the same instructions dearer.",
    )


def _milliseconds(both: Scene, ask: Callable[..., Report], tokens: list[float]) -> float:
    token, stages = both.ours.new_token(), both.frames(1, _OPEN)
    pids, count = both.ours.gateway_pids(), "gateway_tokens_verified_total"
    verified = both.ours.metric(count)
    both.ask_ours(stages, token=token)
    before = cpu_seconds(pids)
    report = ask(stages, token=token, seconds=_SECONDS)
    spent = cpu_seconds(pids) - before
    tokens.append((both.ours.metric(count) - verified) / report.requests * 1000)
    return spent / report.requests * 1000
