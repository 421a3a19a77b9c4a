"""The study list as OHIF asks for it: at three sizes, on both databases, and beside Orthanc's."""

from __future__ import annotations

import base64
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from bench.figures import Curve, Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers import archive_data, catalog_data, latency, postgresql, site
from bench.servers.latency import Questions
from bench.servers.tiny_study import Study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options
    from bench.servers.site import Site
    from support.orthanc import Orthanc

_SIZES = (10_000, 100_000, 1_000_000)
_COMPARED = 100_000
_MANY = 16
_COMMON = "/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060"
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_PEERS = {
    "sqlite": "Its index looks at every study, whatever is asked.",
    "postgresql": "Its index knows texts, too: for a rare name or a number the two take about as long; the "
    "difference is in what finds many, and in modalities.",
}
_Database = Literal["sqlite", "postgresql"]
_ByKind = dict[str, Sample]


def run(options: Options) -> Iterator[Figure]:
    """P3 on each database: the worst kind of question, growth, and beside Orthanc at 1 and 16 connections."""
    yield from _on("sqlite", options)
    yield from _on("postgresql", options)


def _on(database: _Database, options: Options) -> Iterator[Figure]:
    with ExitStack() as stack:
        lists = {size: _ours(size, one) for size, one in _sites(database, options, stack).items()}
        grown = _grown(lists, options)
        yield _worst(database, grown[_SIZES[-1]], lists[_SIZES[-1]], options)
        yield _flat(database, grown)
        orthanc = stack.enter_context(archive_data.running(_COMPARED, database, say=options.say))
        yield _beside(database, lists[_COMPARED], _orthancs(orthanc), options)
        yield _beside_at_once(database, lists[_COMPARED], _orthancs(orthanc), options)


def _sites(database: _Database, options: Options, stack: ExitStack) -> dict[int, Site]:
    """One of each size, each with its own `python -m gateway` of two processes."""
    if database == "sqlite":
        urls = {size: catalog_data.sqlite_url(size) for size in _SIZES}
    else:
        server = stack.enter_context(postgresql.running(catalog_data.DATABASES))
        urls = {size: catalog_data.postgresql_url(server, size) for size in _SIZES}
    return {
        size: stack.enter_context(site.running(options.folder / f"{database}-{size}", database_url=url))
        for size, url in urls.items()
    }


@dataclass(frozen=True)
class _List:
    """A study list: whom to ask, as whom, and what, by kind."""

    url: str
    headers: dict[str, str]
    queries: dict[str, str]
    issuer: Site | None = None

    def by_kind(self, times: int) -> dict[str, float]:
        """The p50 of each kind in milliseconds, at one connection."""
        paths = {kind: f"{_COMMON}&{query}" for kind, query in self.queries.items()}
        found = latency.ask(Questions(self.url, self.headers, list(paths.values()), times=times))
        return {kind: statistics.median(found[path]) for kind, path in paths.items()}

    def at_once(self, connections: int, times: int) -> float:
        """The p50 of all kinds together, when each connection asks one of them again and again."""
        paths = [f"{_COMMON}&{query}" for query in self.queries.values()]
        questions = Questions(self.url, self.headers, paths, connections, times, one_each=True)
        found = latency.ask(questions)
        return statistics.median(each for taken in found.values() for each in taken)


def _ours(size: int, one: Site) -> _List:
    study = next(each for each in catalog_data.examples(size) if "ampl" not in each.name.lower())
    queries = {
        "newest": "",
        "a year": "StudyDate=20240101-20241231",
        "a rare name": f"PatientName=*{study.name.lower()}*",
        "a frequent name": "PatientName=*ampl*",
        "a name that nobody has": "PatientName=*gramorzor^ulosfen*",
        "a patient id": f"00100020=*P{study.patient:07}*",
        "an accession number": f"AccessionNumber=*A{size // 2:08}*",
        "CT or MR": "ModalitiesInStudy=CT%2CMR",
        "a rare modality": "ModalitiesInStudy=XC",
        "a description": "StudyDescription=*neck*",
    }
    token = one.token(clinic=catalog_data.CLINICS[0])
    return _List(one.gateway_url, {"Authorization": f"Bearer {token}"}, queries, one)


def _of_others(mine: _List) -> dict[str, _List]:
    """The same list for callers who see more."""
    assert mine.issuer is not None
    until = int((datetime.now(UTC) + timedelta(hours=2)).timestamp())
    groups = [f"/clinics/{clinic}" for clinic in catalog_data.CLINICS[:5]]
    tokens = {
        "for a user of five clinics": mine.issuer.issuer.token("sam", groups=groups, exp=until),
        "for a radiologist, who sees all": mine.issuer.token("rita", clinic="", roles=["radiologist"]),
    }
    return {
        who: _List(mine.url, {"Authorization": f"Bearer {token}"}, mine.queries)
        for who, token in tokens.items()
    }


def _orthancs(orthanc: Orthanc) -> _List:
    """Orthanc's, bound to one of its ten clinics by InstitutionName."""
    login = base64.b64encode(f"{orthanc.username}:{orthanc.password}".encode()).decode()
    study = Study.of(_COMPARED // 2)
    queries = {
        "newest": "",
        "a year": "StudyDate=20240101-20241231",
        "a rare name": f"PatientName=*{study.patient_name.lower()}*",
        "a frequent name": "PatientName=*777*",
        "a name that nobody has": "PatientName=*gramorzor^ulosfen*",
        "a patient id": f"00100020=*{study.patient_id}*",
        "an accession number": f"AccessionNumber=*{study.accession_number}*",
        "CT or MR": "ModalitiesInStudy=CT%2CMR",
        "a rare modality": "ModalitiesInStudy=XC",
        "a description": "StudyDescription=*US*",
    }
    bound = {kind: f"InstitutionName={study.clinic}&{query}" for kind, query in queries.items()}
    return _List(orthanc.dicomweb_url, {"Authorization": f"Basic {login}"}, bound)


def _measured(lists: dict[str, _List], times: dict[str, int], rounds: int) -> dict[str, _ByKind]:
    """Each list's p50 by kind, in turn."""
    kept: dict[str, list[dict[str, float]]] = {name: [] for name in lists}

    def once(name: str) -> float:
        kept[name].append(lists[name].by_kind(times[name]))
        return statistics.mean(kept[name][-1].values())

    interleaved({name: partial(once, name) for name in lists}, rounds)
    return {
        name: {kind: Sample(tuple(each[kind] for each in found)) for kind in found[0]}
        for name, found in kept.items()
    }


def _mean(kinds: _ByKind) -> Sample:
    """Of all kinds, round by round."""
    return Sample(tuple(map(statistics.mean, zip(*(each.values for each in kinds.values()), strict=True))))


def _times(options: Options) -> int:
    return 10 if options.quick else 30


def _grown(lists: dict[int, _List], options: Options) -> dict[int, _ByKind]:
    by_name = {str(size): one for size, one in lists.items()}
    found = _measured(by_name, dict.fromkeys(by_name, _times(options)), options.rounds)
    return {int(name): kinds for name, kinds in found.items()}


def _rows(kinds: _ByKind, whose: str = "") -> tuple[Row, ...]:
    return tuple(Row(f"{whose}{kind}", "ms", sample) for kind, sample in kinds.items())


def _worst(database: _Database, kinds: _ByKind, mine: _List, options: Options) -> Figure:
    others = _of_others(mine)
    found = _measured(others, dict.fromkeys(others, _times(options)), 1 if options.quick else 3)
    worst = max(kinds, key=lambda kind: kinds[kind].median)
    return Figure(
        key=f"P3-p50-{database}",
        what=f"the study list of a clinic among 1,000,000 studies on {_NAMES[database]}, its slowest kind",
        unit="ms",
        ours=kinds[worst],
        goal=Goal("ours", at_most=10),
        more_is_better=False,
        rows=_rows(kinds) + tuple(row for who, more in found.items() for row in _rows(more, f"{who}: ")),
        note=f"The p50 of {worst}. One of forty clinics, with a tenth of the studies; one connection, over "
        "HTTP to `python -m gateway`; token, clinic, revocation looked at every time, no answer kept.",
    )


def _flat(database: _Database, grown: dict[int, _ByKind]) -> Figure:
    least, most = grown[_SIZES[0]], grown[_SIZES[-1]]
    ratios = {
        kind: Sample(tuple(b / a for a, b in zip(least[kind].values, most[kind].values, strict=True)))
        for kind in least
    }
    worst = max(ratios, key=lambda kind: ratios[kind].median)
    lines = {
        kind: [(float(size), kinds[kind].median) for size, kinds in grown.items()]
        for kind in grown[_SIZES[0]]
    }
    return Figure(
        key=f"P3-flat-{database}",
        what=f"the study list among 1,000,000 studies beside 10,000 on {_NAMES[database]}, its worst kind",
        unit="times as long",
        ours=ratios[worst],
        goal=Goal("ours", at_most=2),
        more_is_better=False,
        rows=tuple(Row(kind, "times as long", sample) for kind, sample in ratios.items()),
        curves=(Curve("studies in the catalog", "ms, p50", lines),),
        note=f"The worst is {worst}. The studies are in the databases in no order of time.",
    )


def _beside(database: _Database, mine: _List, peer: _List, options: Options) -> Figure:
    found = _measured({"ours": mine, "peer": peer}, {"ours": _times(options), "peer": 1}, options.rounds)
    return Figure(
        key=f"P3-{database}",
        what=f"the study list of a clinic among 100,000 studies on {_NAMES[database]}, mean of its kinds",
        unit="ms",
        ours=_mean(found["ours"]),
        peer=_mean(found["peer"]),
        peer_name=f"Orthanc, its index on {_NAMES[database]}",
        goal=Goal("ratio", at_least=50),
        more_is_better=False,
        rows=_rows(found["ours"]) + _rows(found["peer"], "Orthanc: "),
        note="Asked as OHIF asks; of Orthanc by InstitutionName as well, a tenth of its studies, with "
        "names of its own. " + _PEERS[database],
    )


def _beside_at_once(database: _Database, mine: _List, peer: _List, options: Options) -> Figure:
    found = interleaved(
        {
            "ours": lambda: mine.at_once(_MANY, 5 if options.quick else 20),
            "peer": lambda: peer.at_once(_MANY, 1),
            "ours, newest": lambda: _newest(mine).at_once(_MANY, 2 if options.quick else 20),
            "Orthanc, newest": lambda: _newest(peer).at_once(_MANY, 1),
        },
        1 if options.quick else 2,
    )
    return Figure(
        key=f"P3-16-{database}",
        what=f"the same from {_MANY} connections at once, p50",
        unit="ms",
        ours=found["ours"],
        peer=found["peer"],
        peer_name=f"Orthanc, its index on {_NAMES[database]}",
        goal=Goal("ratio", at_least=50),
        more_is_better=False,
        rows=(
            Row("all asking for the newest", "ms", found["ours, newest"]),
            Row("Orthanc: all asking for the newest", "ms", found["Orthanc, newest"]),
        ),
        note="Each connection asks one kind; client, gateway and database share two processors.",
    )


def _newest(asked: _List) -> _List:
    return replace(asked, queries={"newest": asked.queries["newest"]})
