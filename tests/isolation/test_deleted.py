"""What an administrator deletes in the archive's own pages is gone for physicians at once, cached or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import urllib3

from support import marked
from support.importing import wait_until
from support.marked import MarkedStudy, marks_in
from support.orthanc import PASSWORDS
from support.platform import NORTH

if TYPE_CHECKING:
    from support.platform import Platform
    from support.wire import Answer

pytestmark = pytest.mark.xdist_group("isolation")
WRONG = MarkedStudy(marked.NORTH, NORTH, 71, ("CT", "US"))
OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
OF_IT = [
    (f"{WRONG.path()}/frames/1", OCTETS),
    (f"{WRONG.path()}/rendered", "image/png"),
    (f"{WRONG.path()}/metadata", ""),
    (WRONG.path(), ""),
]
ANOTHER = (f"{WRONG.path('CT')}/frames/1", OCTETS)
LISTING = [f"/studies/{WRONG.study}/metadata", f"/studies/{WRONG.study}/instances"]


def archives_id(platform: Platform, uid: str) -> str:
    login = urllib3.make_headers(basic_auth=f"admin:{PASSWORDS['admin']}")
    url = f"{platform.orthanc.url}/tools/lookup"
    (found,) = urllib3.request("POST", url, body=uid, headers=login).json()
    return str(found["ID"])


def hits(platform: Platform) -> int:
    return sum('"cache":"HIT"' in line for line in platform.access_log)


def asked(platform: Platform, *asked_for: tuple[str, str]) -> list[Answer]:
    return [platform.dicom(path, "nora", accept) for path, accept in asked_for]


def test_an_image_and_then_its_study_are_gone_as_soon_as_the_answer_says_so(any_platform: Platform) -> None:
    platform = any_platform
    platform.drop(NORTH, "wrong patient", WRONG.files())
    platform.import_all()
    before = hits(platform)
    for _ in range(2):
        assert [each.status for each in asked(platform, *OF_IT, ANOTHER)] == [200] * 5
    # nginx writes its line after the answer.
    wait_until(lambda: hits(platform) == before + 5)
    image = f"/orthanc/instances/{archives_id(platform, WRONG.instance())}"
    assert platform.ask(image, "nora", "DELETE").status == 403
    assert platform.ask(image, "alma", "DELETE").status == 200
    for answer in asked(platform, *OF_IT):
        assert (answer.status, marks_in(answer.body)) == (404, set())
    for path in LISTING:
        listed = {each["00080018"]["Value"][0] for each in json.loads(platform.dicom(path).body)}
        assert listed == {WRONG.instance("CT", 1), WRONG.instance("CT", 2)}
    assert asked(platform, ANOTHER)[0].status == 200
    study = f"/orthanc/studies/{archives_id(platform, WRONG.study)}"
    assert platform.ask(study, "alma", "DELETE").status == 200
    assert [each.status for each in asked(platform, *OF_IT, ANOTHER)] == [404] * 5
    assert json.loads(platform.dicom(f"/studies?StudyInstanceUID={WRONG.study}").body) == []
