"""One user who asks for everything as fast as a script can: what the others notice of it."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers import load, orthanc, postgresql, reader, scene, site
from bench.servers.ct import CtStudy
from pacs.catalog import clinics
from pacs.ids import ClinicId
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.options import Options
    from bench.servers.site import Site
    from pacs.ids import Uid

_SOUTH = ClinicId("southside")
_SCRIPT_CONNECTIONS = 64
_VIEWER_CONNECTIONS = 20
"""`maxNumRequests.interaction` of our app-config.js."""
_FRAMES_A_SECOND = 30
_FIRST_FRAMES = 90
"""Looked at before the script has spent what passes at once."""
_RENEWED_SECONDS = 1.0
"""So soon nothing is asked for twice."""
_LONGEST_SECONDS = 600
_SPENT_SECONDS = 180
"""After these the machine is too slow, or too busy, for the limit to be met."""
_ALONE = "nobody floods"
_MEDIAN, _P95, _SEEN_MEDIAN, _SEEN_P95, _OPENING = "median", "p95", "seen: median", "seen: p95", "opening"
_NOTE = (
    "The script has 64 connections of as many addresses and is another clinic's user, who has spent what "
    "passes at once (`delay` in nginx/snippets/gateway.conf). The peer is the same reader, undisturbed."
)


@dataclass(frozen=True)
class _Flood:
    """What a script asks for."""

    name: str
    paths: list[str]
    accept: str = scene.FRAME
    unseen: bool = True


@dataclass
class _Ward:
    """A reader of one clinic, and a script of another's.

    Attributes:
        read: the study that is read.
        flooded: the other clinic's.
        scrolled: so many of its frames are scrolled through.
        noticed: what the reader noticed in each round, by flood and kind.
        users: each flood is of somebody new, who has all that a user has at once.
    """

    site: Site
    read: CtStudy
    flooded: CtStudy
    scrolled: int
    noticed: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    users: Iterator[int] = field(default_factory=count)

    def look(self, flood: _Flood | None) -> float:
        """Scroll and open while that floods."""
        with self._flooding(flood) if flood else nullcontext():
            self.site.renew(self.read.uid)
            unseen, seen = self._scroll(self.scrolled), self._scroll(self.scrolled)
            self.site.renew(self.read.uid)
            opening = self._open()
        name = flood.name if flood else _ALONE
        self._note(name, {_MEDIAN: unseen.median, _P95: unseen.p95, _OPENING: opening})
        self._note(name, {_SEEN_MEDIAN: seen.median, _SEEN_P95: seen.p95})
        return opening

    def look_at_once(self, flood: _Flood) -> float:
        """Scroll through what was not seen while all that passes at once does."""
        with self._flooding(flood, spent=False):
            self.site.renew(self.read.uid)
            unseen = self._scroll(_FIRST_FRAMES)
        self._note(f"{flood.name}, in the first seconds", {_MEDIAN: unseen.median, _P95: unseen.p95})
        return unseen.median

    def _note(self, flood: str, found: dict[str, float]) -> None:
        for kind, value in found.items():
            self.noticed.setdefault((flood, kind), []).append(value)

    def sample(self, flood: str, kind: str) -> Sample:
        return Sample(tuple(self.noticed[flood, kind]))

    @contextmanager
    def _flooding(self, flood: _Flood, *, spent: bool = True) -> Iterator[None]:
        token = self.site.token(f"sam-{next(self.users)}", clinic=_SOUTH)
        with ExitStack() as stack:
            if flood.unseen:
                stack.enter_context(_renewing(self.site, self.flooded.uid))
            delayed = self._delayed()
            stage = [(f"/dicom-web{path}", flood.accept) for path in flood.paths]
            script = load.Load(
                self.site.plain_port,
                self._headers(token),
                [stage],
                _SCRIPT_CONNECTIONS,
                seconds=_LONGEST_SECONDS,
            )
            stack.enter_context(load.beside(script))
            if spent:
                limit = delayed + _SCRIPT_CONNECTIONS
                wait_until(lambda: self._delayed() > limit, _SPENT_SECONDS, "nginx slows it down")
            yield

    def _delayed(self) -> int:
        return self.site.nginx.log.read_text().count('"limit":"DELAYED"')

    def _headers(self, token: str) -> dict[str, str]:
        return {"Host": f"localhost:{self.site.nginx.https_port}", "Authorization": f"Bearer {token}"}

    def _scroll(self, frames: int) -> reader.Waited:
        paths = [f"/dicom-web{self.read.frame_path(number)}" for number in range(1, frames + 1)]
        token, every = self.site.token("nora"), 1 / _FRAMES_A_SECOND
        return reader.scroll(self.site.nginx, paths, token=token, accept=scene.FRAME, every=every)

    def _open(self) -> float:
        nginx, study = self.site.nginx, self.read
        metadata = f"/dicom-web/studies/{study.uid}/series/{study.series}/metadata"
        frames = [
            (f"/dicom-web{study.frame_path(number)}", scene.FRAME) for number in range(1, study.slices + 1)
        ]
        authority = str(nginx.certificates / "fullchain.pem")
        stages = [[(metadata, scene.JSON)], frames]
        headers = self._headers(self.site.token("nora"))
        return load.run(load.Load(nginx.https_port, headers, stages, _VIEWER_CONNECTIONS, authority)).seconds


def run(options: Options) -> Iterator[Figure]:
    """P8: each beside the same while nobody floods."""
    slices = 250 if options.quick else 1000
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.running())
        archive = stack.enter_context(orthanc.running(options.folder / "orthanc"))
        ours = stack.enter_context(
            site.running(options.folder / "site", archive, database_url=database.new_catalog())
        )
        ward = _Ward(ours, CtStudy(slices), CtStudy(slices, "flood"), 100 if options.quick else 300)
        _fill(ward)
        # What belongs to processes that have just begun, and not to floods.
        ward.look(None)
        ward.noticed.clear()
        floods = _floods(ward.flooded)
        subjects: dict[str, Callable[[], float]] = {_ALONE: partial(ward.look, None)}
        for flood in floods:
            subjects[flood.name] = partial(ward.look, flood)
            subjects[f"{flood.name}, in the first seconds"] = partial(ward.look_at_once, flood)
        interleaved(subjects, options.rounds)
    yield _figure(ward, floods, _MEDIAN, "the median of a scrolling reader's frames", "ms")
    yield _figure(ward, floods, _P95, "the slowest twentieth of a scrolling reader's frames, p95", "ms")
    yield _figure(ward, floods, _OPENING, f"opening a study of {slices} slices for the first time", "s")


def _fill(ward: _Ward) -> None:
    with ward.site.catalog.write() as connection:
        clinics.add(connection, _SOUTH, "Southside", datetime.now(UTC))
    assert ward.site.archive is not None
    for study, clinic in ((ward.read, site.CLINIC), (ward.flooded, _SOUTH)):
        study.store(ward.site.archive)
        ward.site.own(study.uid, clinic)


def _floods(study: CtStudy) -> list[_Flood]:
    frames = [study.frame_path(number) for number in range(1, study.slices + 1)]
    return [
        _Flood("frames that nobody has seen", frames),
        _Flood("frames that were seen before", frames[:64], unseen=False),
        _Flood("pictures to be rendered", [f"{path}/rendered" for path in frames], "image/jpeg"),
    ]


@contextmanager
def _renewing(ours: Site, study: Uid) -> Iterator[None]:
    """Nothing of that study is ever found in nginx's cache."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEWED_SECONDS):
            ours.renew(study)

    ours.renew(study)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _figure(ward: _Ward, floods: list[_Flood], kind: str, what: str, unit: str) -> Figure:
    worst, *others = sorted(
        (flood.name for flood in floods), key=lambda name: ward.sample(name, kind).median, reverse=True
    )
    rows = [Row(f"while it asks for {name}", unit, ward.sample(name, kind)) for name in others]
    for flood in floods:
        once = f"{flood.name}, in the first seconds"
        if (once, kind) in ward.noticed:
            rows.append(Row(f"while it asks for {once}", unit, ward.sample(once, kind)))
    if kind != _OPENING:
        rows += [
            Row(f"of what was seen before: {name}", unit, ward.sample(name, f"seen: {kind}"))
            for name in (_ALONE, *(flood.name for flood in floods))
        ]
    return Figure(
        key=f"P8-{kind}",
        what=f"{what}, while another user's script asks for {worst}",
        unit=unit,
        ours=ward.sample(worst, kind),
        peer=ward.sample(_ALONE, kind),
        peer_name=_ALONE,
        goal=Goal("ratio", at_least=0.5),
        more_is_better=False,
        rows=tuple(rows),
        note=_NOTE,
    )
