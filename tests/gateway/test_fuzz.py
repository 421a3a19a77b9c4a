"""No request makes the gateway fail: whatever is asked, the answer is a 2xx or a 4xx."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from support.gateway import MINE, THEIRS, UNOWNED

if TYPE_CHECKING:
    from support.gateway import World

RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WORDS = st.sampled_from(
    [
        "studies", "series", "instances", "metadata", "frames", "bulk", "rendered", "thumbnail", "1", "1,2",
        "7fe00010", "..", ".", "", "%2e%2e", "%5C", "%2F", "%00", "*", "wado", str(MINE.study),
        str(MINE.series()), str(MINE.instance()), str(THEIRS.study), str(THEIRS.series()), str(UNOWNED.study),
    ]
)  # fmt: skip
SEGMENTS = WORDS | st.text(max_size=20) | st.from_regex(r"[0-9.]{1,70}", fullmatch=True)
NAMES = st.sampled_from(
    [
        "PatientName", "PatientID", "StudyDate", "StudyTime", "StudyInstanceUID", "0020000D",
        "ModalitiesInStudy",
        "StudyDescription", "limit", "offset", "includefield", "fuzzymatching", "InstitutionName", "accept",
        "viewport", "window", "quality", "00080061", "0010,0010", "emptyvaluematching",
        "multiplevaluematching",
    ]
) | st.text(max_size=20)  # fmt: skip
VALUES = (
    st.text(max_size=60)
    | st.sampled_from(
        ["*", "?", "-", "true", "false", "all", "", "CT,MR", "20240101-", "1,2", '""', "%", "_", "!"]
    )
    | st.integers().map(str)
)
FOREIGN = (THEIRS.study.encode(), UNOWNED.study.encode(), THEIRS.series().encode())


def status_of(
    world: World, path: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> tuple[int, bytes]:
    builder = EnvironBuilder(path="/", query_string=urlencode(query), headers=Headers(headers))
    environ = builder.get_environ()
    # As a server passes on what came over the wire, decoded once.
    environ["PATH_INFO"] = path.encode("utf-8", "replace").decode("latin-1")
    environ["RAW_URI"] = ""
    chunks, status, _ = run_wsgi_app(world.app, environ)
    return int(status.split()[0]), b"".join(chunks)


@RELAXED
@given(path=st.lists(SEGMENTS, max_size=10), query=st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_no_path_and_no_query_fails_or_leaks(
    path: list[str], query: list[tuple[str, str]], still_world: World
) -> None:
    token = still_world.issuer.token()
    headers = {"Authorization": f"Bearer {token}"}
    status, body = status_of(still_world, "/dicom-web/" + "/".join(path), query, headers)
    assert 200 <= status < 500, body
    assert not any(uid in body for uid in FOREIGN)


@RELAXED
@given(query=st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_no_search_fails_or_leaks(query: list[tuple[str, str]], still_world: World) -> None:
    headers = {"Authorization": f"Bearer {still_world.issuer.token()}"}
    status, body = status_of(still_world, "/dicom-web/studies", query, headers)
    assert status in {200, 400, 406, 414}, body
    assert not any(uid in body for uid in FOREIGN)


@RELAXED
@given(
    accept=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80)
    | st.lists(
        st.sampled_from(["a/b", ";", ",", "q=", "0", '"', "type=", "*/*", " ", "multipart/related"])
    ).map("".join)
)
def test_no_accept_header_fails(accept: str, still_world: World) -> None:
    headers = {"Authorization": f"Bearer {still_world.issuer.token()}", "Accept": accept}
    status, body = status_of(still_world, f"/dicom-web{MINE.path()}/frames/1", [], headers)
    assert status in {200, 400, 406}, body


@RELAXED
@given(authorization=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=120))
def test_no_authorization_header_fails_or_opens(authorization: str, still_world: World) -> None:
    for header in (
        authorization,
        f"Bearer {authorization}",
        f"Bearer {still_world.issuer.token()}{authorization}x",
    ):
        status, body = status_of(still_world, "/dicom-web/studies", [], {"Authorization": header})
        assert status == 401, body
