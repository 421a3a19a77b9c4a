"""Each of Orthanc's users does what it is for, and nothing else, however the request is written."""

from __future__ import annotations

import base64
import json
import subprocess
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from demo import orthanc as orthanc_parts
from support.archives import multipart
from support.corpus import instance_bytes, sample_uid
from support.orthanc import PASSWORDS, Orthanc, command
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

STUDY = sample_uid("study of the filter's tests")
FORBIDDEN = 403
# Orthanc's own id of a resource that it does not have: a request that is let through is a 404.
NOBODY = "00000000-00000000-00000000-00000000-00000000"


def ask(orthanc: Orthanc, user: str, method: str, path: str, **more: Any) -> int:
    """The status of a request whose path is sent as it is written."""
    return answer(orthanc, user, method, path, **more)[0]


def answer(
    orthanc: Orthanc,
    user: str,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, bytes]:
    login = base64.b64encode(f"{user}:{PASSWORDS.get(user, 'unknown-secret')}".encode()).decode()
    connection = HTTPConnection(urlsplit(orthanc.url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {"Authorization": f"Basic {login}"} | (headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def stow(orthanc: Orthanc, user: str, path: str, content: bytes) -> int:
    kind = 'multipart/related; type="application/dicom"; boundary=boundary'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    return ask(orthanc, user, "POST", path, headers=headers, body=multipart("boundary", [content]))


@pytest.fixture(scope="module")
def stored(orthanc: Orthanc) -> str:
    """Orthanc's id of a stored study."""
    content = instance_bytes(study_uid=STUDY, seed="filter")
    assert stow(orthanc, "importer", "/dicom-web/studies", content) == 200
    return orthanc_id(orthanc, STUDY)


def orthanc_id(orthanc: Orthanc, study_uid: str) -> str:
    query = json.dumps({"Level": "Study", "Query": {"StudyInstanceUID": study_uid}}).encode()
    status, content = answer(orthanc, "admin", "POST", "/tools/find", body=query)
    assert status == 200
    (found,) = json.loads(content)
    return str(found)


@pytest.mark.parametrize(
    ("user", "method", "path"),
    [
        ("gateway", "GET", "/dicom-web/studies?PatientID=none&limit=1"),
        ("gateway", "GET", "/dicom-web/series?limit=1"),
        ("gateway", "GET", "/dicom-web/instances?limit=1"),
        ("gateway", "GET", f"/dicom-web/studies/{STUDY}/series"),
        ("gateway", "GET", f"/dicom-web/studies/{STUDY}/metadata"),
        ("importer", "GET", "/dicom-web/studies"),
        ("importer", "GET", f"/dicom-web/studies/{STUDY}/instances"),
        ("importer", "GET", "/system"),
        ("importer", "GET", "/studies"),
        ("monitor", "GET", "/tools/metrics-prometheus"),
        ("monitor", "GET", "/system"),
        ("admin", "GET", "/statistics"),
        ("admin", "GET", "/app/explorer.html"),
        ("admin", "GET", "/changes?last"),
        ("admin", "GET", "/dicom-web/studies"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_user_does_its_work(orthanc: Orthanc, user: str, method: str, path: str) -> None:
    assert ask(orthanc, user, method, path) == 200


def test_the_importer_stores_into_a_named_study(orthanc: Orthanc) -> None:
    uid = sample_uid("named study")
    content = instance_bytes(study_uid=uid, seed="named")
    assert stow(orthanc, "importer", f"/dicom-web/studies/{uid}", content) == 200


@pytest.mark.parametrize("user", ["gateway", "monitor", "admin"])
def test_nobody_else_stores(orthanc: Orthanc, user: str) -> None:
    uid = sample_uid(f"not stored {user}")
    content = instance_bytes(study_uid=uid, seed=f"not stored {user}")
    assert stow(orthanc, user, "/dicom-web/studies", content) == FORBIDDEN
    assert ask(orthanc, user, "POST", "/instances", body=content) == FORBIDDEN
    form = {"Content-Type": "multipart/form-data; boundary=boundary"}
    head = b'--boundary\r\nContent-Disposition: form-data; name="x"; filename="x.dcm"\r\n\r\n'
    upload = head + content + b"\r\n--boundary--\r\n"
    assert ask(orthanc, user, "POST", "/instances", headers=form, body=upload) == FORBIDDEN
    assert (
        json.loads(answer(orthanc, "importer", "GET", f"/dicom-web/studies?StudyInstanceUID={uid}")[1]) == []
    )


# What would change, take or tell more than reading, storing and metrics; a `*` is the id of the stored study.
_ABUSES = [
    ("GET", "/patients"),
    ("GET", "/studies/*/archive"),
    ("GET", "/statistics"),
    ("GET", "/changes"),
    ("GET", "/plugins"),
    ("GET", "/jobs"),
    ("GET", "/app/explorer.html"),
    ("GET", "/dicom-web/servers"),
    ("GET", "/dicom-web/app/client/index.html"),
    ("GET", "/dicom-web/studiesx"),
    ("GET", "/dicom-web/studies/1.2%20x/series"),
    ("GET", f"/dicom-web/studies/{STUDY}%27/metadata"),
    ("GET", "/wado"),
    ("DELETE", "/studies/*"),
    ("DELETE", f"/dicom-web/studies/{STUDY}"),
    ("PUT", f"/dicom-web/studies/{STUDY}"),
    ("POST", f"/dicom-web/studies/{STUDY}/series"),
    ("POST", "/dicom-web/servers/x/stow"),
    ("POST", "/tools/find"),
    ("POST", "/tools/reset"),
    ("POST", "/tools/shutdown"),
    ("POST", "/tools/execute-script"),
    ("PUT", "/tools/log-level"),
    ("PUT", "/tools/metrics"),
    ("PUT", "/peers/x"),
    ("PUT", "/modalities/x"),
    ("POST", "/studies/*/anonymize"),
    # The same by another name: decoded, resolved and overridden before they are routed.
    ("GET", "/dicom-web/../patients"),
    ("GET", "/dicom-web/studies/..%2F..%2Fpatients"),
    ("GET", "/dicom-web/studies/..%5C..%5Cpatients"),
    ("GET", "/dicom-web/studies\\..\\..\\patients"),
    ("GET", "/dicom-web/studies/%2e%2e/%2e%2e/patients"),
    ("GET", "//patients"),
    ("GET", "/./patients"),
    ("GET", "/%70atients"),
    ("GET", "/patients%00/dicom-web/studies"),
    ("GET", "/tools/metrics-prometheus/../../patients"),
    ("GET", "/system/..%2Fpatients"),
    ("GET", "/studies/*?_method=DELETE"),
    ("GET", f"/dicom-web/studies/{STUDY}?_method=DELETE"),
    ("GET", "/dicom-web/studies?_method=put"),
    ("GET", "/system?_method=PUT"),
    ("MKCOL", "/webdav/uploads/x"),
    ("PROPFIND", "/webdav/"),
    ("OPTIONS", "/patients"),
    ("HEAD", "/patients"),
]


@pytest.mark.parametrize(("method", "path"), _ABUSES)
def test_no_service_can_do_more(orthanc: Orthanc, stored: str, method: str, path: str) -> None:
    for user in ("gateway", "importer", "monitor"):
        assert ask(orthanc, user, method, path.replace("*", stored)) == FORBIDDEN, user


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "x-http-method-override"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("override", ["DELETE", "delete", "PUT"])
def test_a_method_in_a_header_counts(
    orthanc: Orthanc, stored: str, header: str, method: str, override: str
) -> None:
    for user in ("gateway", "importer", "monitor"):
        for path in (f"/studies/{stored}", "/dicom-web/studies", "/system", "/tools/metrics-prometheus"):
            assert ask(orthanc, user, method, path, headers={header: override}) == FORBIDDEN, (user, path)
    assert ask(orthanc, "admin", "GET", f"/studies/{stored}") == 200


@pytest.mark.parametrize(
    ("user", "path"),
    [
        ("gateway", "/system"),
        ("gateway", "/tools/metrics-prometheus"),
        ("importer", "/tools/metrics-prometheus"),
        ("monitor", "/dicom-web/studies"),
        ("gateway", "/studies"),
        ("gateway", "/dicom-web/studies/..%2F..%2Fstudies"),
        ("monitor", "/studies"),
        ("importer", "/studies/x"),
        ("monitor", f"/dicom-web/studies/{STUDY}/metadata"),
        ("monitor", "/dicom-web/studies/..%5Cstudies"),
    ],
)
def test_no_user_does_another_ones_work(orthanc: Orthanc, user: str, path: str) -> None:
    assert ask(orthanc, user, "GET", path) == FORBIDDEN


@pytest.mark.parametrize("user", ["orthanc", "Admin", "", "nora"])
def test_nobody_else_gets_in(orthanc: Orthanc, user: str) -> None:
    assert ask(orthanc, user, "GET", "/dicom-web/studies") == 401


def test_nothing_is_told_without_a_login(orthanc: Orthanc) -> None:
    for path in ("/system", "/dicom-web/studies", "/tools/metrics-prometheus", "/app/explorer.html"):
        assert ask(orthanc, "", "GET", path, headers={"Authorization": "Bearer e30.e30.e30"}) == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tools/reset"),
        ("POST", "/tools/shutdown"),
        ("POST", "/tools/execute-script"),
        ("POST", "/tools/create-dicom"),
        ("POST", "/tools/dicom-echo"),
        ("POST", "/tools/invalidate-tags"),
        ("POST", "/tools/find/../shutdown"),
        ("POST", "/tools/find/..%2Freset"),
        ("POST", "/tools/bulk-modify"),
        ("PUT", "/tools/log-level"),
        ("PUT", "/tools/log-level-http"),
        ("PUT", "/tools/metrics"),
        ("PUT", "/tools/default-encoding"),
        ("PUT", "/peers/x"),
        ("PUT", "/modalities/x"),
        ("POST", "/modalities/x/store"),
        ("PUT", "/dicom-web/servers/x"),
        ("POST", "/dicom-web/studies"),
        ("POST", "/studies/*/modify"),
        # With Keep and Force it would replace stored images in place.
        ("POST", "/studies/*/anonymize"),
        ("POST", "/tools/bulk-anonymize"),
        ("POST", "/studies/*/merge"),
        ("POST", "/studies/*/split"),
        ("POST", f"/instances/{NOBODY}/export"),
        ("PUT", "/webdav/uploads/x"),
        ("MKCOL", "/webdav/uploads/x"),
        ("DELETE", "/peers/x"),
        ("PUT", "/peers/x/metadata/1024"),
        ("DELETE", "/studies/*/anonymize"),
        ("DELETE", "/studies"),
        ("DELETE", "/changes"),
        ("GET", "/peers/x?_method=DELETE"),
        ("GET", "/tools/log-level?_method=PUT"),
    ],
)
def test_an_administrator_does_not_break_the_platform(
    orthanc: Orthanc, stored: str, method: str, path: str
) -> None:
    assert ask(orthanc, "admin", method, path.replace("*", stored), body=b"verbose") == FORBIDDEN


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/studies/{NOBODY}/archive"),
        ("POST", f"/jobs/{NOBODY}/cancel"),
        ("DELETE", f"/studies/{NOBODY}"),
        ("GET", f"/series/{NOBODY}?_method=DELETE"),
        ("PUT", f"/patients/{NOBODY}/protected"),
        ("DELETE", f"/instances/{NOBODY}/metadata/1024"),
    ],
)
def test_an_administrator_works_on_what_is_stored(orthanc: Orthanc, method: str, path: str) -> None:
    assert ask(orthanc, "admin", method, path, body=b"{}") not in (401, FORBIDDEN)


def test_there_is_no_webdav(orthanc: Orthanc) -> None:
    assert ask(orthanc, "admin", "PROPFIND", "/webdav/", headers={"Depth": "0"}) == 404


def test_an_administrator_searches_and_deletes(orthanc: Orthanc) -> None:
    uid = sample_uid("to be deleted")
    assert (
        stow(orthanc, "importer", "/dicom-web/studies", instance_bytes(study_uid=uid, seed="deleted")) == 200
    )
    assert ask(orthanc, "admin", "DELETE", f"/studies/{orthanc_id(orthanc, uid)}") == 200


@pytest.mark.parametrize("user", orthanc_parts.USERS)
def test_a_user_without_a_password_keeps_it_from_starting(
    orthanc: Orthanc, tmp_path: Path, user: str
) -> None:
    variables = orthanc_parts.environment(tmp_path / "storage", free_port(), PASSWORDS, 1)
    del variables[f"ARCHIVE_{user.upper()}_PASSWORD"]
    _refuses_to_start(command(), variables, f"ARCHIVE_{user.upper()}_PASSWORD is not set")


def test_without_its_filter_it_does_not_start(orthanc: Orthanc, tmp_path: Path) -> None:
    alone = tmp_path / "orthanc.json"
    alone.write_text(orthanc_parts.CONFIGURATION.read_text())
    variables = orthanc_parts.environment(tmp_path / "storage", free_port(), PASSWORDS, 1)
    _refuses_to_start(command(alone), variables, "filter.lua")


def _refuses_to_start(started: list[str], variables: dict[str, str], why: str) -> None:
    ended = subprocess.run(
        started, env={"PATH": "/usr/bin"} | variables, capture_output=True, timeout=30, check=False
    )
    assert ended.returncode != 0
    assert why in ended.stderr.decode()
