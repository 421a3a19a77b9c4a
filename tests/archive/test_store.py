"""STOW-RS, and what is left of it after faults."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pydicom import dcmread

from demo.archive.errors import ArchiveInUseError
from demo.archive.server import ArchiveProcess, running
from demo.archive.storage import lock
from support.archives import Study, Web, failures, multipart, stored_uids, values
from support.corpus import ENCAPSULATED_SYNTAXES, NATIVE_SYNTAXES, make_instance, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORED_AS_IT_IS = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def open_web(process: ArchiveProcess, root: Path) -> Web:
    return Web("embedded", process.url, ("", ""), root, process)


def test_a_stored_file_is_listed_and_comes_back_byte_for_byte(archive: Web, study: Study) -> None:
    file = study.file()
    answer = archive.store(file)
    assert (answer.status_code, stored_uids(answer)) == (200, [study.sop()])
    assert values(answer.json()["00081199"]["Value"][0], "00081150") == ["1.2.840.10008.5.1.4.1.1.2"]
    back = archive.get(study.path(1), STORED_AS_IT_IS)
    assert file in back.content


@pytest.mark.parametrize("syntax", NATIVE_SYNTAXES + ENCAPSULATED_SYNTAXES)
def test_every_transfer_syntax_is_kept_as_it_came(embedded: Web, study: Study, syntax: str) -> None:
    file = study.file(transfer_syntax=syntax)
    assert stored_uids(embedded.store(file)) == [study.sop()]
    assert embedded.get(study.path(1), "application/dicom").content == file


def test_the_same_sop_instance_uid_again_replaces_bytes_and_search_attributes(
    archive: Web, study: Study
) -> None:
    archive.store(study.file(patient="latin"))
    corrected = dcmread(BytesIO(study.file(patient="latin")))
    corrected.StudyDescription = "Corrected"
    archive.store(to_bytes(corrected))
    assert to_bytes(corrected) in archive.get(study.path(1), STORED_AS_IT_IS).content
    (found,) = archive.found("/studies", StudyInstanceUID=study.uid, includefield="00081030")
    assert values(found, "00081030") == ["Corrected"]
    assert values(found, "00201208") in ([1], ["1"])


def test_a_bad_part_is_not_listed_and_does_not_harm_the_good_one(archive: Web, study: Study) -> None:
    answer = archive.store(study.file(), b"this is no DICOM file")
    assert answer.status_code == {"embedded": 202, "orthanc": 400}[archive.kind]
    assert (stored_uids(answer), failures(answer)) == ([study.sop()], {})


def test_a_bad_part_alone_is_refused_in_dicom_json(archive: Web) -> None:
    answer = archive.store(b"this is no DICOM file")
    assert (answer.status_code, stored_uids(answer), failures(answer)) == (400, [], {})


def test_an_instance_of_another_study_than_the_url_says_is_refused(archive: Web, study: Study) -> None:
    answer = archive.store(study.file(), path="/studies/1.2.3.4")
    assert (answer.status_code, stored_uids(answer)) == (409, [])
    assert failures(answer) == {study.sop(): 0x0110}
    assert archive.found("/studies", StudyInstanceUID=study.uid) == []


def test_a_request_without_parts_stores_nothing(archive: Web) -> None:
    answer = archive.store()
    assert (answer.status_code, stored_uids(answer)) == (200, [])


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "../../escaped", "1.2.x", "1" * 65])
def test_a_uid_that_is_none_is_not_stored(embedded: Web, study: Study, keyword: str, value: str) -> None:
    dataset = make_instance(study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    # As bytes: pydicom would refuse to write some of them as UIDs.
    dataset[keyword].VR = "LO"
    dataset[keyword].value = value
    buffer = BytesIO()
    dataset.save_as(buffer)
    answer = embedded.store(buffer.getvalue().replace(b"LO", b"UI"))
    assert (answer.status_code, stored_uids(answer)) == (400, [])


def test_pixel_data_that_ends_early_is_not_stored(embedded: Web, study: Study) -> None:
    assert embedded.store(study.file()[:-100]).status_code == 400
    assert embedded.found("/studies", StudyInstanceUID=study.uid) == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/dicom", 415),
        ("multipart/form-data; boundary=x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', 415),
        ("multipart/related", 400),
        ("multipart/related; boundary=" + "x" * 71, 400),
    ],
)
def test_bodies_that_are_no_dicom_multipart_are_refused(
    embedded: Web, content_type: str, status: int
) -> None:
    answer = embedded.session.post(
        f"{embedded.url}/studies", data=b"--x--\r\n", headers={"Content-Type": content_type}, timeout=10
    )
    assert answer.status_code == status


def test_a_type_without_quotes_is_understood(embedded: Web, study: Study) -> None:
    answer = embedded.session.post(
        f"{embedded.url}/studies",
        data=multipart("a=b/c", [study.file()]),
        headers={"Content-Type": 'multipart/related;type=application/dicom;boundary="a=b/c"'},
        timeout=10,
    )
    assert stored_uids(answer) == [study.sop()]


def test_a_request_that_is_cut_off_stores_nothing_and_leaves_nothing(embedded: Web, study: Study) -> None:
    body = multipart("cut", [study.file(number=1), study.file(number=2, size=1024)])
    address = urlsplit(embedded.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.putrequest("POST", f"{address.path}/studies")
    connection.putheader("Authorization", "Basic " + b64encode(":".join(embedded.auth).encode()).decode())
    connection.putheader("Content-Type", "multipart/related; boundary=cut")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:-2000])
    root = embedded.root
    assert root is not None
    wait_until(lambda: len(list((root / "incoming").iterdir())) > 1)
    connection.close()
    wait_until(lambda: not list((root / "incoming").iterdir()))
    assert embedded.found("/studies", StudyInstanceUID=study.uid) == []


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_does_not_grow_with_a_part(embedded: Web, study: Study) -> None:
    big = make_instance("PDF", study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    big.EncapsulatedDocument = bytes(160 << 20)
    file = to_bytes(big)
    assert embedded.process is not None
    embedded.store(study.file(number=2))
    worker = int(
        Path(f"/proc/{embedded.process.process.pid}/task")
        .joinpath(str(embedded.process.process.pid), "children")
        .read_text()
        .split()[0]
    )
    before = peak_memory(worker)
    assert stored_uids(embedded.store(file)) == [study.sop()]
    assert embedded.get(study.path(1), "application/dicom").content == file
    assert embedded.get(f"{study.path(1)}/bulk/00420011", "application/octet-stream").content == bytes(
        160 << 20
    )
    embedded.found(f"{study.path(1)}/metadata")
    assert peak_memory(worker) - before < 40 << 20


def peak_memory(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


def test_readers_see_one_version_or_the_other_while_an_instance_is_replaced(
    embedded: Web, study: Study
) -> None:
    versions = [study.file(patient="latin", size=64), study.file(patient="cyrillic", size=128)]
    embedded.store(versions[0])

    def write(version: int) -> None:
        for turn in range(12):
            assert embedded.store(versions[(turn + version) % 2]).status_code == 200

    def read(_: int) -> None:
        for _ in range(25):
            assert embedded.get(study.path(1), "application/dicom").content in versions
            assert len(embedded.found(f"{study.path(1)}/metadata")) == 1

    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(work, each) for each in range(4) for work in (write, read)]
        for task in tasks:
            task.result()
    (found,) = embedded.found("/studies", StudyInstanceUID=study.uid)
    kept = dcmread(BytesIO(embedded.get(study.path(1), "application/dicom").content))
    assert values(found, "00100020") == [kept.PatientID]


@pytest.fixture
def full(tmp_path: Path, study: Study) -> Iterator[Web]:
    """Room for two files and a half."""
    room = len(study.file()) * 5 // 2
    with running(tmp_path, max_bytes=room) as process, open_web(process, tmp_path) as web:
        yield web


def test_what_finds_no_room_is_named_with_out_of_resources(full: Web, study: Study) -> None:
    first = full.store(study.file(number=1))
    assert first.status_code == 200
    both = full.store(study.file(number=2), study.file(number=3))
    assert (both.status_code, stored_uids(both)) == (202, [study.sop(2)])
    assert failures(both) == {study.sop(3): 0xA700}
    none = full.store(study.file(number=4))
    assert (none.status_code, failures(none)) == (409, {study.sop(4): 0xA700})
    assert full.root is not None
    assert list((full.root / "incoming").iterdir()) == []


def test_what_is_replaced_or_refused_gives_its_room_back(full: Web, study: Study) -> None:
    for _ in range(5):
        assert full.store(study.file(number=1)).status_code == 200
        assert full.store(study.file()[:-1]).status_code == 400
    assert full.store(study.file(number=2)).status_code == 200


def test_no_room_for_something_that_names_no_instance_is_507(full: Web) -> None:
    assert full.store(bytes(20_000)).status_code == 507


def test_after_a_kill_everything_answered_as_stored_is_there(tmp_path: Path, study: Study) -> None:
    with running(tmp_path) as process, open_web(process, tmp_path) as web:
        uids = [uid for number in range(1, 6) for uid in stored_uids(web.store(study.file(number=number)))]
        (tmp_path / "incoming" / "left-behind.part").write_bytes(b"half a file")
        os.kill(process.process.pid, signal.SIGKILL)
        process.process.wait()
        web.session.close()
        # The killed master's worker ends as soon as it notices; until then it holds the folder.
        wait_until(lambda: is_free(tmp_path))
    with running(tmp_path) as process, open_web(process, tmp_path) as web:
        found = web.found(f"{study.path()}/instances")
        assert [values(each, "00080018")[0] for each in found] == uids
        assert list((tmp_path / "incoming").iterdir()) == []


def is_free(root: Path) -> bool:
    try:
        lock(root).close()
    except ArchiveInUseError:
        return False
    return True


def test_a_lost_index_is_rebuilt_from_the_files(tmp_path: Path, study: Study) -> None:
    with running(tmp_path) as process, open_web(process, tmp_path) as web:
        for number in range(1, 4):
            web.store(study.file(number=number))
        before = web.found("/instances")
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    (tmp_path / "instances" / study.uid / study.series / "9.9.dcm").write_bytes(b"not DICOM")
    with running(tmp_path) as process, open_web(process, tmp_path) as web:
        after = web.found("/instances")
    assert sorted(values(each, "00080018") for each in after) == sorted(
        values(each, "00080018") for each in before
    )


def test_a_second_process_on_the_same_folder_ends_with_one_sentence(embedded: Web) -> None:
    command = [sys.executable, "-m", "demo.archive", "--root", str(embedded.root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("clinicpacs: another archive serves")
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_with_one_sentence(embedded: Web, tmp_path: Path) -> None:
    port = str(urlsplit(embedded.url).port)
    command = [sys.executable, "-m", "demo.archive", "--root", str(tmp_path), "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (2, f"clinicpacs: port {port}: Address already in use\n")


def test_without_the_password_nothing_is_answered(embedded: Web, study: Study) -> None:
    stranger = Web("embedded", embedded.url, ("importer", "guess"))
    assert stranger.store(study.file()).status_code == 401
    assert stranger.get("/studies").status_code == 401
    answer = stranger.session.get(embedded.url.removesuffix("/dicom-web") + "/system", timeout=5)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="archive"')
    stranger.session.auth = None
    assert stranger.get("/studies").status_code == 401


def test_the_archive_says_that_it_overwrites(embedded: Web) -> None:
    answer = embedded.session.get(embedded.url.removesuffix("/dicom-web") + "/system", timeout=5)
    assert answer.json()["OverwriteInstances"] is True
