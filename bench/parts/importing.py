"""Inbox to archive: CT files of 0.5 MB, against the ceiling and against the script that one would write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers import postgresql
from bench.servers.importing import Delivery
from bench.servers.inbox_data import ct_studies
from bench.servers.stow import WAYS, Prepared, Way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options

_BATCH = 50
_POSTS = 4


def run(options: Options) -> Iterator[Figure]:
    """P1: against the same bytes ready to be sent; P1b-ct: against scripts."""
    files = 1000 if options.quick else 2000
    delivery = Delivery(ct_studies(files), options.folder)
    prepared = Prepared(delivery.source, options.folder / "prepared")
    way = _best(delivery, prepared, options)
    names = {
        "ours": delivery.by_our_importer,
        "ceiling": lambda: delivery.by_ready_requests(prepared, way),
        "script": lambda: delivery.by_script(_BATCH),
    }
    found = interleaved(names, 2 if options.quick else 4)
    beside = interleaved(
        {
            "posts": lambda: delivery.by_ready_posts(prepared, _POSTS),
            "series": lambda: delivery.by_script(0),
            "post each": delivery.by_posting_each,
        },
        1 if options.quick else 2,
    )
    stored = f"{files:,} CT files of 0.5 MB in 8 studies"
    yield Figure(
        key="P1",
        what=f"{stored}, from stable to stored and filed",
        unit="files/s",
        ours=found["ours"],
        peer=found["ceiling"],
        peer_name=f"ready requests, STOW-RS, {way}",
        goal=Goal("ratio", at_least=0.85),
        rows=(
            Row(f"ready requests, POST /instances, {_POSTS} connections", "files/s", beside["posts"]),
            *_costs(delivery),
            *_on_postgresql(delivery, prepared, way, options),
        ),
        note="The peer is the ceiling: the same bytes, tagged beforehand, lie as finished requests in one "
        "file that the kernel sends; of 1 to 8 connections and 1 to 50 instances a request it takes what "
        "was best at the beginning of this run. It reads, reserves, checks and moves nothing. Ours is the "
        "importer as a daemon with its defaults: the clock begins one cooldown after it has seen the files "
        "and ends when the last one has been moved out of the inbox. Each time into a new, empty Orthanc "
        "that syncs every file; both are limited by its processor time, of cores that the importer shares.",
    )
    yield Figure(
        key="P1b-ct",
        what=f"{stored}, against a plain import script",
        unit="files/s",
        ours=found["ours"],
        peer=found["script"],
        peer_name=f"pydicom and dicomweb-client, {_BATCH} a request",
        goal=Goal("ratio", at_least=2),
        rows=(
            Row("the script with a series a request, as mercure does", "files/s", beside["series"]),
            Row("Orthanc's own script: POST, file by file, untagged", "files/s", beside["post each"]),
            Row("the ceiling of P1", "files/s", found["ceiling"]),
        ),
        note="The script walks the folder, reads with pydicom, sets InstitutionName, stores and moves; it "
        "checks nothing else, keeps no record and knows no cooldown. Its clock leaves out the start of "
        "Python. It cannot be beaten by more than the ceiling is above it.",
    )


def _best(delivery: Delivery, prepared: Prepared, options: Options) -> Way:
    """What this Orthanc likes best, on a part of the files."""
    files, ways = (200, [Way(4, 20), Way(8, 10)]) if options.quick else (300, WAYS)
    rates = {}
    for way in ways:
        with delivery.archive() as server:
            rates[way] = prepared.store(server, way, files).rate
        options.say(f"{way}: {rates[way]:.0f} files/s")
    return max(rates, key=lambda way: rates[way])


def _costs(delivery: Delivery) -> Iterator[Row]:
    drained, sent = delivery.drained, delivery.sent
    unit = "ms of CPU a file"
    yield Row("the importer's processor time", unit, Sample(tuple(each.importer for each in drained)))
    yield Row("Orthanc's processor time under it", unit, Sample(tuple(each.server for each in drained)))
    yield Row("the ready client's processor time", unit, Sample(tuple(each.client for each in sent)))
    yield Row("Orthanc's processor time under it ", unit, Sample(tuple(each.server for each in sent)))
    yield Row("the importer's peak memory", "MB", Sample(tuple(each.megabytes for each in drained)))


def _on_postgresql(delivery: Delivery, prepared: Prepared, way: Way, options: Options) -> Iterator[Row]:
    with postgresql.running() as server:
        there = Delivery(delivery.source, options.folder, server)
        found = interleaved(
            {
                "ours, Orthanc's index and the catalog on PostgreSQL": there.by_our_importer,
                "ready requests, Orthanc's index on PostgreSQL": lambda: there.by_ready_requests(
                    prepared, way
                ),
            },
            1 if options.quick else 2,
        )
    for name, sample in found.items():
        yield Row(name, "files/s", sample)
