"""What orthanc.json promises, of a server that runs by it: settings, health, a log without patients."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from demo import orthanc as orthanc_parts
from pacs.ids import Uid
from support import patient_data
from support.archives import Web
from support.corpus import PATIENTS, instance_bytes, sample_uid
from support.orthanc import PASSWORDS, Orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.archive.dicomweb import DicomWebArchive

HEALTH_CHECK = orthanc_parts.CONFIGURATION.parent / "healthcheck.py"


@pytest.fixture
def importer(orthanc: Orthanc) -> Iterator[Web]:
    with Web("orthanc", orthanc.dicomweb_url, (orthanc.username, orthanc.password)) as web:
        yield web


def check(orthanc: Orthanc, **variables: str) -> subprocess.CompletedProcess[str]:
    port = str(urlsplit(orthanc.url).port)
    env = {"ORTHANC_HTTP_PORT": port, "ARCHIVE_MONITOR_PASSWORD": PASSWORDS["monitor"]} | variables
    return subprocess.run(
        [sys.executable, "-I", str(HEALTH_CHECK)],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_is_healthy(orthanc: Orthanc) -> None:
    told = check(orthanc)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"ARCHIVE_MONITOR_PASSWORD": "wrong"}, "401"),
        ({"ARCHIVE_MONITOR_PASSWORD": ""}, "401"),
        ({"ORTHANC_HTTP_PORT": "1"}, "refused"),
    ],
)
def test_an_orthanc_that_does_not_answer_is_not(
    orthanc: Orthanc, variables: dict[str, str], why: str
) -> None:
    told = check(orthanc, **variables)
    assert told.returncode == 1
    assert why in told.stderr
    assert "Traceback" not in told.stderr


def test_an_index_in_the_wrong_place_is_unhealthy(orthanc: Orthanc) -> None:
    told = check(orthanc, ORTHANC_DB_PASSWORD="secret")
    assert told.returncode == 1
    assert "does not run on PostgreSQL" in told.stderr


@pytest.mark.usefixtures("orthanc")  # which skips where there is none
def test_it_runs_no_script_even_if_the_filter_let_one_in(tmp_path: Path) -> None:
    for name in ("orthanc.json", "filter.lua"):
        text = orthanc_parts.CONFIGURATION.with_name(name).read_text()
        (tmp_path / name).write_text(text.replace("return allowed ~= nil and", "return true or"))
    server = Orthanc.start(tmp_path, configuration=tmp_path / "orthanc.json")
    url, admin = f"{server.url}/tools/execute-script", ("admin", PASSWORDS["admin"])
    answer = requests.post(url, data="print(6 * 7)", auth=admin, timeout=10)
    server.stop()
    assert answer.status_code == 403
    assert "42" not in answer.text


def test_it_says_that_it_overwrites(orthanc: Orthanc) -> None:
    admin = ("admin", PASSWORDS["admin"])
    system = requests.get(f"{orthanc.url}/system", auth=admin, timeout=10).json()
    assert system["Name"] == "clinicpacs"
    if "OverwriteInstances" in system:  # Orthanc 1.10 does not tell
        assert system["OverwriteInstances"] is True
        assert system["MaximumStorageMode"] == "Reject"
        assert system["MaximumStorageSize"] == 0
    metrics = requests.get(
        f"{orthanc.url}/tools/metrics-prometheus", auth=("monitor", PASSWORDS["monitor"]), timeout=10
    )
    assert "orthanc_count_studies " in metrics.text


def test_a_corrected_image_replaces_the_old_one(importer: Web) -> None:
    study, series, sop = (sample_uid(f"{level} to be corrected") for level in ("study", "series", "image"))
    uids = {"study_uid": study, "series_uid": series, "sop_instance_uid": sop}
    for size in (32, 48):
        assert importer.store(instance_bytes("CT", size=size, **uids)).status_code == 200
    kept = importer.get(f"/studies/{study}/series/{series}/instances/{sop}/frames/1").content
    assert len(kept) > 48 * 48 * 2


def test_its_log_names_no_patient_and_no_query(orthanc: Orthanc, importer: Web) -> None:
    before = orthanc.log.stat().st_size
    for key in ("kazakh", "japanese", "cyrillic"):
        patient = PATIENTS[key]
        uid = sample_uid(f"logged {key}")
        content = instance_bytes(patient=key, study_uid=uid, seed=f"logged {key}")
        assert importer.store(content).status_code == 200
        importer.store(content[:400])  # no image any more
        importer.store(content[: len(content) // 2], b"PatientName=" + patient.name.encode())
        importer.store(instance_bytes(patient=key, seed="elsewhere"), path=f"/studies/{uid}")
        for path in ("/studies", "/series", f"/studies/{uid}/instances", f"/studies/{patient.id}/series"):
            importer.get(path, PatientName=patient.name, PatientID=patient.id, limit="nonsense")
            importer.get(path, PatientName=patient.name, Nonsense=patient.name, includefield=patient.id)
            importer.get(path, "text/html", PatientName=f"{patient.name}*", fuzzymatching="true")
        importer.get(f"/studies/{uid}/rendered", viewport=patient.id)
        for method in ("PUT", "DELETE", "PATCH", "PROPFIND"):
            importer.session.request(method, f"{orthanc.url}/studies?PatientName={patient.name}", timeout=10)
    requests.get(f"{orthanc.url}/studies?PatientName=Sample^Aurora&token=geheim", timeout=10)
    log = orthanc.log.read_bytes()[before:].decode(errors="replace")
    assert patient_data.find(log) is None, log
    assert not re.search(r"geheim|secret|limit=|\?[A-Za-z]+=", log), log


def test_what_we_ask_is_no_warning_in_its_log(server: Orthanc, archive: DicomWebArchive) -> None:
    """One for each question would be thousands of lines a day."""
    assert not archive.has_instance(Uid("1.2.3"), Uid("1.2.3.4"))
    told = server.log.read_text(errors="replace")
    assert "Unsupported return MIME type: application/dicom+json" not in told
