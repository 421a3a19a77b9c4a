"""The way of a file through the real parts: what is dropped, where it ends, and who is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom.data
import pytest

from support import corpus
from support.browser import keep_picture
from support.inbox import copy_in, failed, processed
from support.odd_files import with_elements
from support.raw import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from support.stack import Stack

CLINIC = "denscan-almaty"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that the host's user can read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - pathlib has no other
        yield Path(folder)


def digests(paths: list[Path]) -> Counter[str]:
    """How many files there are of each content."""
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def instances_of(stack: Stack, study: str) -> list[dict[str, object]]:
    """What the archive lists of a study, asked by an administrator's script."""
    answer = stack.get(f"/orthanc/dicom-web/studies/{study}/instances", stack.scripts_token())
    return list(answer.json()) if answer.status_code == 200 else []


KINDS = [
    *((modality, "1.2.840.10008.1.2.1") for modality in corpus.MODALITIES),
    *(("CT", syntax) for syntax in (*corpus.NATIVE_SYNTAXES, *corpus.ENCAPSULATED_SYNTAXES)),
]


def test_every_kind_of_sample_is_stored_and_filed_as_it_was(clinics: Stack, scratch: Path) -> None:
    """Six modalities and eight transfer syntaxes, copied by a host user with umask 022."""
    written = {}
    for number, (modality, syntax) in enumerate(KINDS):
        folder = scratch / "kinds" / f"{number:02}"
        paths = corpus.write_study(folder, modality, instances=2, seed=2000 + number, transfer_syntax=syntax)
        written[number] = digests(paths)
    copy_in(clinics, CLINIC, scratch / "kinds", "kinds")
    expected = sum(written.values(), Counter())
    wait_until(lambda: len(processed(clinics, CLINIC, "kinds")) + len(failed(clinics, CLINIC, "kinds"))
               >= expected.total(), 120, "all samples are through")  # fmt: skip
    assert failed(clinics, CLINIC, "kinds") == []
    assert digests(processed(clinics, CLINIC, "kinds")) == expected
    # Its emptied folders are being removed.
    left = [name for _, _, names in os.walk(clinics.path("inbox", CLINIC)) for name in names]
    assert not [name for name in left if name.endswith(".dcm")]
    for path in processed(clinics, CLINIC, "kinds"):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        stored = instances_of(clinics, header.StudyInstanceUID)
        assert header.SOPInstanceUID in json.dumps(stored)


def test_what_orthanc_refuses_fails_and_what_it_would_misread_is_stored(
    clinics: Stack, scratch: Path
) -> None:
    values = implicit(0x00090010, b"ACME") + implicit(0x00091001, b"\x7f\x7f\x7f\x7f")
    item = implicit(ITEM, values + implicit(ITEM_END), UNDEFINED)
    changes: dict[str, dict[int, bytes]] = {
        "good": {},
        "refused": {0x00080016: b""},
        "private": {0x00091010: explicit(0x00091010, b"UN", item + implicit(SEQUENCE_END), UNDEFINED)},
    }
    (scratch / "odd").mkdir()
    for name, changed in changes.items():
        content = with_elements(corpus.instance_bytes("CT", size=8, seed=f"e2e {name}"), changed)
        (scratch / "odd" / name).write_bytes(content)
    copy_in(clinics, CLINIC, scratch / "odd", "odd")
    wait_until(lambda: len(processed(clinics, CLINIC, "odd")) == 2, 120, "what can be stored is")
    wait_until(lambda: failed(clinics, CLINIC, "odd"), 60, "what is refused has failed")
    (refused,) = failed(clinics, CLINIC, "odd")
    report = json.loads(Path(f"{refused}.error.json").read_text(encoding="utf-8"))
    assert (refused.name, report["reason"]) == ("refused", "refused-by-archive")


def test_pydicoms_files_each_end_somewhere_unchanged(
    clinics: Stack, scratch: Path, sign_in: Callable[[str], Page]
) -> None:
    """Odd, old and broken files of the field: none is lost, none changed, and each failure has its reason."""
    source = Path(pydicom.data.__file__).parent / "test_files"
    folder = scratch / "pydicom"
    folder.mkdir()
    for path in source.glob("*.dcm"):
        (folder / path.name).write_bytes(path.read_bytes())
    dropped = digests(list(folder.iterdir()))
    assert dropped.total() > 50
    copy_in(clinics, CLINIC, folder, "pydicom")
    wait_until(lambda: len(processed(clinics, CLINIC, "pydicom")) + len(failed(clinics, CLINIC, "pydicom"))
               >= dropped.total(), 180, "all of pydicom's files are through")  # fmt: skip
    stored, refused = processed(clinics, CLINIC, "pydicom"), failed(clinics, CLINIC, "pydicom")
    assert digests([*stored, *refused]) == dropped
    assert len(stored) > len(refused)
    for path in refused:
        told = json.loads(path.with_name(f"{path.name}.error.json").read_text(encoding="utf-8"))
        assert told["reason"]
        assert told["text"]
    clinics.clinicpacs("dismiss", CLINIC, "--yes")
    # One odd study must not take the whole list away.
    page = sign_in("dr.smith")
    page.locator("tr[aria-selected]").first.wait_for()
    keep_picture(page, "list-odd")


def mails(stack: Stack, subject: str) -> list[str]:
    """The texts of the mails with this subject, oldest first."""
    found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in stack.mails()]
    return [str(mail.get_body(("plain",)).get_content()) for mail in found if mail["Subject"] == subject]


def test_a_wrong_file_fails_alerts_by_mail_and_is_solved_by_retry(clinics: Stack, scratch: Path) -> None:
    clinic = "northside"
    folder = scratch / "wrong"
    folder.mkdir()
    (folder / "scan.dcm").write_bytes(b"this is no DICOM file")
    whole = corpus.instance_bytes("CT", seed=2901)
    # Of the same length, so that nothing but the content tells it from the whole one.
    (folder / "odd.dcm").write_bytes(whole.replace(b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.x"))
    told = "[clinicpacs] northside: Files could not be imported"
    solved = told.replace("northside", "Solved: northside")
    before = len(mails(clinics, told)), len(mails(clinics, solved))
    copy_in(clinics, clinic, folder, "wrong")
    wait_until(lambda: len(failed(clinics, clinic, "wrong")) == 2, 60, "both fail")
    reasons = {
        path.name: json.loads(path.with_name(f"{path.name}.error.json").read_text())["reason"]
        for path in failed(clinics, clinic, "wrong")
    }
    assert reasons == {"scan.dcm": "not-dicom", "odd.dcm": "malformed-uid"}
    query = f'importer_failed_files{{clinic="{clinic}"}}'
    wait_until(lambda: clinics.metric(query) == 2, 60, "Prometheus counts both")
    text, *_ = wait_until(lambda: mails(clinics, told)[before[0] :], 180, "a mail")
    assert f"{clinics.url}/help/troubleshooting#dicomimportfailed" in text
    assert "scan.dcm" not in text

    # One is mended, as by a tool that keeps its date; the other is no image. In one step, because what
    # changes while the importer looks goes back to the inbox by itself.
    odd = next(path for path in failed(clinics, clinic, "wrong") if path.name == "odd.dcm")
    dated = odd.stat()
    mended = clinics.root / "mended"
    mended.write_bytes(whole)
    shutil.chown(mended, dated.st_uid, dated.st_gid)
    os.utime(mended, ns=(dated.st_atime_ns, dated.st_mtime_ns))
    mended.replace(odd)
    clinics.clinicpacs("retry", clinic, "wrong/odd.dcm")
    wait_until(lambda: len(processed(clinics, clinic, "wrong")) == 1, 90, "the mended file is stored")
    wait_until(lambda: clinics.metric(query) == 1, 60, "one failure is left")
    clinics.clinicpacs("dismiss", clinic, "--yes")
    wait_until(lambda: clinics.metric(query) == 0, 60, "nothing is left")
    wait_until(lambda: mails(clinics, solved)[before[1] :], 300, "a mail: solved")
