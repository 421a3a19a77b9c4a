"""Nobody sees a study that is not theirs: every way to smuggle one in that we know of.

Nora belongs to northside and holds MINE; THEIRS is southside's, UNOWNED has no row in the catalog. Raw paths
are asked over real HTTP, byte for byte as they stand here, so that no client library tidies them up.
"""

from __future__ import annotations

import http.client
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import event

from pacs.catalog.schema import series, study_access
from support.gateway import (
    CLIP,
    CLOSED,
    DOCUMENT,
    MINE,
    NORTH,
    NOWHERE,
    SOUTH,
    THEIRS,
    UNOWNED,
    Sample,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.gateway import World

M, T, U = MINE.study, THEIRS.study, UNOWNED.study
NOT_FOUND = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "There is no such study, series, instance or resource.",
}
LEVELS = [
    "/studies/{study}",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    "/studies/{study}/metadata",
    "/studies/{study}/rendered",
    "/studies/{study}/thumbnail",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/series/{series}/rendered?viewport=256,256",
    "/studies/{study}/series/{series}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/7fe00010",
    "/series?StudyInstanceUID={study}",
    "/instances?StudyInstanceUID={study}",
    "/instances?0020000d={study}&SeriesInstanceUID={series}",
]


def resource(template: str, sample: Sample) -> str:
    return template.format(study=sample.study, series=sample.series(), instance=sample.instance())


def told(world: World, path: str, token: str | None = None) -> tuple[int, object]:
    answer = world.get(path, token)
    return answer.status_code, answer.get_json(force=True) if answer.status_code >= 400 else None


@pytest.mark.parametrize("sample", [THEIRS, UNOWNED, NOWHERE], ids=lambda sample: sample.name)
def test_what_is_not_mine_does_not_exist(sample: Sample, both: World) -> None:
    for template in LEVELS:
        assert told(both, resource(template, sample)) == (404, NOT_FOUND), template


def test_what_is_mine_is_there(both: World) -> None:
    for template in LEVELS:
        assert told(both, resource(template, MINE))[0] == 200, template


@pytest.mark.parametrize("sample", [MINE, THEIRS, UNOWNED], ids=lambda sample: sample.name)
def test_a_radiologist_reads_all_that_the_archive_has(sample: Sample, both: World) -> None:
    token = both.rita
    for template in LEVELS:
        assert told(both, resource(template, sample), token)[0] == 200, template


def test_what_the_archive_has_not_is_nowhere_for_a_radiologist_too(both: World) -> None:
    token = both.rita
    for template in LEVELS:
        assert told(both, resource(template, NOWHERE), token) == (404, NOT_FOUND), template


MIXED = {
    "my study, their series": (M, THEIRS.series(), THEIRS.instance()),
    "my study and series, their instance": (M, MINE.series(), THEIRS.instance()),
    "my study, their series, my instance": (M, THEIRS.series(), MINE.instance()),
    "my study, another of mine's series": (M, CLIP.series(), CLIP.instance()),
    "my study and series, another of mine's instance": (M, MINE.series(), CLIP.instance()),
    "my study, an unowned series": (M, UNOWNED.series(), UNOWNED.instance()),
    "my study, a series of no study": (M, NOWHERE.series(), MINE.instance()),
    "their study, my series": (T, MINE.series(), MINE.instance()),
}


@pytest.mark.parametrize("case", MIXED)
def test_paths_that_mix_studies_lead_nowhere(case: str, both: World) -> None:
    study, series_uid, instance = MIXED[case]
    for template in (each for each in LEVELS if "instance}" in each):
        path = template.format(study=study, series=series_uid, instance=instance)
        assert told(both, path) == (404, NOT_FOUND), template


def test_a_radiologist_cannot_mix_an_unowned_study_with_an_owned_series(both: World) -> None:
    token = both.rita
    for template in (each for each in LEVELS if "/series/{series}" in each):
        path = template.format(study=U, series=THEIRS.series(), instance=THEIRS.instance())
        assert told(both, path, token) == (404, NOT_FOUND), template


RAW = [
    f"/studies/{M}%5C{T}/series",
    f"/studies/{M}\\{T}/series",
    f"/studies/{M},{T}/series",
    f"/studies/{M}%2C{T}/series",
    f"/studies/{M}%5C..%5C{T}/series",
    f"/studies/{M}%2F..%2F{T}/series",
    f"/studies/{M}/../{T}/series",
    f"/studies/{M}/..%2F{T}/series",
    f"/studies/{M}/%2e%2e/{T}/series",
    f"/studies/{M}/..;/{T}/series",
    f"/studies/{M};x/../{T}/series",
    f"/studies/{M}/./../{T}/series",
    f"/studies//{T}/series",
    f"//studies/{T}/series",
    f"/studies/{M}//series",
    f"/studies/{T}%00/series",
    f"/studies/{T}%20/series",
    f"/studies/{T}%0a/series",
    f"/studies/%20{T}/series",
    f"/studies/{T}./series",
    f"/studies/.{T}/series",
    f"/studies/{T.replace('.', '..', 1)}/series",
    f"/studies/{T.replace('1', '%31', 1)}/series",
    f"/studies/{T.replace('1', '%2531', 1)}/series",
    f"/studies/{M.replace('1', '%31', 1)}/series",
    f"/studies/{M}%2Fseries",
    f"/studies/{M}/%73eries",
    f"/studies/{T.replace('1', '%EF%BC%91', 1)}/series",
    "/studies/*/series",
    "/studies/%2A/series",
    "/studies//series",
    "/studies/%5C/series",
    "/studies/..%5C..%5Cstatistics?",
    "/studies/..%2F..%2Fsystem",
    "/../system",
    "/..%2fsystem",
    "/%2e%2e/system",
    "/%252e%252e/system",
    "/studies/../../instances",
    "/studies/../../patients",
    "/servers",
    "/wado?requestType=WADO&objectUID=" + THEIRS.instance(),
    f"/studies/{M}/series/{THEIRS.series()}%5C{MINE.series()}/metadata",
    f"/studies/{M}/series/{MINE.series()}%5C{THEIRS.series()}/instances",
    f"/studies/{M}/series/{MINE.series()}/instances/{MINE.instance()}%5C{THEIRS.instance()}/metadata",
    f"/studies/{M}/series/{MINE.series()}/instances/{MINE.instance()}/../{THEIRS.instance()}",
    f"{MINE.path()}/frames/1%2F..%2F..%2F..%2F{THEIRS.instance()}",
    f"{MINE.path()}/frames/1,..",
    f"{MINE.path()}/frames/0",
    f"{MINE.path()}/frames/-1",
    f"{MINE.path()}/frames/1,1",
    f"{MINE.path()}/frames/99",
    f"{MINE.path()}/bulk/..%2F..%2F{THEIRS.instance()}%2Fbulk%2F7fe00010",
    f"{MINE.path()}/bulk/../../{THEIRS.instance()}/bulk/7fe00010",
    f"{MINE.path()}/bulk/7fe00010/../../../{THEIRS.instance()}",
    f"{MINE.path()}/bulk/7fe00010/0/7fe00010",
    f"{MINE.path()}/bulk/",
    f"{MINE.path()}/bulk/PixelData",
    f"/series?StudyInstanceUID={T}",
    f"/series?StudyInstanceUID={M},{T}",
    f"/series?StudyInstanceUID={M},{CLIP.study}",
    f"/series?StudyInstanceUID={M}%5C{T}",
    f"/series?StudyInstanceUID={M}&StudyInstanceUID={T}",
    f"/series?StudyInstanceUID={M}&0020000D={T}",
    f"/series?StudyInstanceUID={M}&%30020000D={T}",
    f"/instances?StudyInstanceUID={T}&studyinstanceuid={M}",
    f"/studies/{M}/series?StudyInstanceUID={T}",
    f"/studies/{M}/series?0020000D={T}",
    f"/studies/{M}/series?0020,000d={T}",
    f"/studies/{M}/instances?StudyInstanceUID={T}",
    f"/studies/{M}/series/{MINE.series()}/instances?SeriesInstanceUID={THEIRS.series()}",
    "/series",
    "/instances?limit=1000",
    "/series?StudyInstanceUID=",
    "/series?StudyInstanceUID=*",
    f"/instances?SOPInstanceUID={THEIRS.instance()}",
    f"/series?SeriesInstanceUID={THEIRS.series()}",
    f"/studies/{T}?_method=DELETE",
    f"/studies/{T}/archive",
    f"/studies/{T}/bulkdata",
    "/internal-archive/studies",
]  # fmt: skip


@pytest.fixture(scope="session")
def root(still_world: World) -> Iterator[str]:
    with running(still_world.app) as url:
        yield url


@pytest.fixture(scope="session")
def orthanc_root(still_orthanc_world: World) -> Iterator[str]:
    with running(still_orthanc_world.app) as url:
        yield url


def asked(root: str, target: str, token: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(root).netloc, timeout=20)
    # The checks of the client's own are what an attacker leaves out.
    connection._validate_path = lambda _url: None  # type: ignore[attr-defined]
    try:
        named = {"Authorization": f"Bearer {token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        connection.request(method, target, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


FOREIGN = [each.encode() for each in (T, THEIRS.series(), THEIRS.instance(), U, UNOWNED.series())]


def holds_foreign(body: bytes) -> bool:
    return any(uid in body for uid in FOREIGN)


@pytest.fixture
def both_root(both: World, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue("root" if both.archive.kind == "embedded" else "orthanc_root")
    return found


@pytest.mark.parametrize("path", RAW)
def test_a_smuggled_path_gets_nothing(path: str, both: World, both_root: str) -> None:
    status, body = asked(both_root, f"/dicom-web{path}", both.issuer.token())
    assert status in {400, 404}, body[:200]
    assert json.loads(body)["status"] == status
    assert not holds_foreign(body)


SEARCHES = [
    "",
    "InstitutionName=*",
    "InstitutionName=",
    f"InstitutionName={SOUTH}",
    f"InstitutionName={NORTH},{SOUTH}",
    f"InstitutionName={NORTH}%5C{SOUTH}&multiplevaluematching=true",
    f"00080080={SOUTH}",
    f"0008,0080={SOUTH}&InstitutionName={NORTH}",
    f"clinic_id={SOUTH}",
    f"StudyInstanceUID={T}",
    f"StudyInstanceUID={M},{T},{U}",
    f"StudyInstanceUID={M}%5C{T}",
    f"StudyInstanceUID={M}&StudyInstanceUID={T}",
    f"0020000D={T}&0020000d={U}",
    "PatientName=*&includefield=all",
    "PatientName=%25",
    "PatientID=_%25",
    "PatientID=SAMPLE-2",
    "PatientID=SAMPLE-*",
    "PatientName='%20OR%201=1%20--",
    "PatientID=%5C'%20OR%20''='",
    "StudyDescription=*&fuzzymatching=true",
    "StudyDate=19000101-20991231",
    "ModalitiesInStudy=CT,MR,DOC,SR,US",
    "ModalitiesInStudy=*",
    "limit=100000&offset=0",
    "emptyvaluematching=true&InstitutionName=%22%22",
    f"_method=GET&StudyInstanceUID={T}",
]


@pytest.mark.parametrize("query", SEARCHES)
def test_no_search_finds_what_is_not_mine(query: str, root: str, still_world: World) -> None:
    status, body = asked(root, f"/dicom-web/studies?{query}", still_world.issuer.token())
    found = json.loads(body)
    if status == 200:
        assert {each["0020000D"]["Value"][0] for each in found} <= {M, CLIP.study, DOCUMENT.study}
    else:
        assert status == 400
    assert not holds_foreign(body)


HEADERS: list[dict[str, str]] = [
    {"X_HTTP_Method_Override": "DELETE"},
    {"X_Original_URL": f"/dicom-web/studies/{T}/metadata"},
    {"X_Rewrite_URL": f"/dicom-web/studies/{T}/metadata"},
    {"X_Forwarded_Host": "attacker.example", "X_Forwarded_Proto": "gopher"},
    {"Forwarded": "host=attacker.example;proto=http"},
    {"Host": "attacker.example"},
    {"X_Forwarded_Prefix": "/attacker"},
    {"Script_Name": "/attacker"},
    {"Range": "bytes=0-10"},
    {"If_None_Match": "*"},
    {"Accept_Encoding": "gzip, br"},
    {"Cookie": "x=1"},
    {"Connection": "close, Authorization"},
    {"X_Accel_Redirect": f"/x/studies/{T}"},
]


@pytest.mark.parametrize("headers", HEADERS, ids=lambda each: next(iter(each)))
def test_a_header_changes_nothing(headers: dict[str, str], both: World, both_root: str) -> None:
    path = f"/dicom-web/studies/{M}/metadata"
    plain = asked(both_root, path, both.issuer.token())
    assert asked(both_root, path, both.issuer.token(), **headers) == plain
    assert plain[0] == 200
    assert b"attacker" not in plain[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "X"])
@pytest.mark.parametrize("path", ["/studies", f"/studies/{M}", f"/studies/{T}"])
def test_nothing_but_reading_is_served(method: str, path: str, root: str, still_world: World) -> None:
    status, body = asked(root, f"/dicom-web{path}", still_world.issuer.token(), method)
    assert status == 405, body
    assert asked(root, f"/dicom-web/studies/{M}", still_world.issuer.token())[0] == 200


def test_a_share_opens_that_study_and_nothing_else_until_its_last_day(any_catalog_world: World) -> None:
    world = any_catalog_world
    today = world.clock.today()
    world.insert(study_access, study_uid=M, clinic_id=CLOSED, until=today)
    # One that has ended says nothing beside one that has not.
    world.insert(study_access, study_uid=DOCUMENT.study, clinic_id=SOUTH, until=today - timedelta(days=1))
    assert set(world.uids("", world.sam)) == {T}
    assert told(world, f"/studies/{M}/metadata", world.sam) == (404, NOT_FOUND)
    world.insert(study_access, study_uid=CLIP.study, clinic_id=SOUTH, until=today)
    assert set(world.uids("", world.sam)) == {T, CLIP.study}
    assert told(world, f"/studies/{CLIP.study}/metadata", world.sam)[0] == 200
    assert told(world, f"{CLIP.path()}/frames/1", world.sam)[0] == 200
    for sample in (MINE, DOCUMENT, UNOWNED):
        assert told(world, f"/studies/{sample.study}/metadata", world.sam) == (404, NOT_FOUND)
    assert told(world, f"/studies/{T}/metadata") == (404, NOT_FOUND)
    assert set(world.uids()) == {M, CLIP.study, DOCUMENT.study}
    world.clock.turn(24 * 3600)
    assert set(world.uids("", world.sam)) == {T}
    assert told(world, f"/studies/{CLIP.study}/metadata", world.sam) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    "values",
    [{"state": "provisional"}, {"state": "missing"}, {"state": "deleted"}, {"dicom_json": ""}],
    ids=lambda values: next(iter(values.values())) or "no row from the archive yet",
)
def test_a_study_that_is_not_confirmed_exists_for_nobody(
    values: dict[str, str], any_catalog_world: World
) -> None:
    world = any_catalog_world
    world.set_study(MINE, **values)
    for token in (world.issuer.token(), world.rita):
        assert M not in world.uids("", token)
        assert M not in world.uids(f"StudyInstanceUID={M}", token)
        assert told(world, f"/studies/{M}/metadata", token) == (404, NOT_FOUND)


def test_a_series_that_the_importer_did_not_bring_is_not_shown(any_catalog_world: World) -> None:
    world = any_catalog_world
    with world.catalog.write() as connection:
        connection.execute(series.delete().where(series.c.series_uid == MINE.series("SR")))
    assert told(world, f"/studies/{M}/series/{MINE.series('SR')}/metadata") == (404, NOT_FOUND)
    assert told(world, f"/studies/{M}/series/{MINE.series('CT')}/metadata")[0] == 200


def test_someone_in_two_clinics_sees_both(any_catalog_world: World) -> None:
    token = any_catalog_world.issuer.token("ada", groups=[f"/clinics/{NORTH}", f"/clinics/{SOUTH}"])
    assert set(any_catalog_world.uids("", token)) == {M, CLIP.study, DOCUMENT.study, T}


def test_not_mine_and_not_there_cost_the_same(
    any_catalog_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    world = any_catalog_world
    token = world.issuer.token()
    event.listen(world.catalog._engine, "before_cursor_execute", count)
    ask = world.catalog._reading.ask
    monkeypatch.setattr(
        world.catalog._reading, "ask", lambda *asked: statements.append(asked[0].sql) or ask(*asked)
    )
    for template in LEVELS:
        costs = []
        for sample in (THEIRS, UNOWNED, NOWHERE):
            statements.clear()
            world.get(resource(template, sample), token)
            costs.append(list(statements))
        assert costs[0] == costs[1] == costs[2] != []
    event.remove(world.catalog._engine, "before_cursor_execute", count)


def test_not_mine_and_not_there_differ_in_nothing(both: World) -> None:
    for template in LEVELS:
        answers = [both.get(resource(template, sample)) for sample in (THEIRS, UNOWNED, NOWHERE)]
        assert len({(each.status_code, each.data, str(each.headers)) for each in answers}) == 1
