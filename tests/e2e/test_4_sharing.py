"""Studies of two clinics, as administrators settle them: shared, contested, transferred, deleted, on record.

The two clinics are this part's own: so it is known what their lists and folders hold. What a command says
counts for the very next request.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from admin.copying import new_uid
from pacs.ids import ClinicId
from support.inbox import failed, processed
from support.people import Physician
from support.reading import FRAME, GUESTS, INSTANCES, OWNERS, Reader, Study, hand_over, value
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from support.stack import Stack

OWNER, GUEST = "lakeside", "hillside"
RUN = secrets.token_hex(3)
"""A stack that was kept has the studies of other runs."""
FIRST, AGAIN = f"{RUN}-first", f"{RUN}-again"
SHARED, NEIGHBOUR, MOVED, GONE = (Study(RUN, name) for name in ("shared", "neighbour", "moved", "gone"))
CONTESTED = LENT, DOUBLED, CLAIMED = tuple(Study(RUN, name) for name in ("lent", "doubled", "claimed"))
STUDIES = {OWNER: (SHARED, NEIGHBOUR, MOVED, GONE, *CONTESTED), GUEST: (Study(RUN, "own"),)}
PEOPLE = {OWNER: ("Lakeside Imaging", "lea"), GUEST: ("Hillside Practice", "hanna")}
UNTIL = f"{datetime.now(UTC).date() + timedelta(days=7)}"


def wait_for(
    found: Callable[[Stack, str, str], list[Path]], stack: Stack, clinic: str, batch: str, count: int
) -> None:
    """Until so many files of a batch are `processed`, or `failed`."""
    wait_until(lambda: len(found(stack, clinic, batch)) == count, 90, f"{clinic}/{batch} is through")


def conflict(stack: Stack, study: Study) -> str:
    """The name of the guest's one conflict about a study, as `conflicts` tells it."""
    said = stack.clinicpacs("conflicts", GUEST).stdout
    heading = rf"^(\S+) {GUEST}: study-owned-by-another-clinic\n +{INSTANCES} files of study {study.uid}\.\n"
    [name] = re.findall(heading, said, re.MULTILINE)
    assert f"The study belongs to {PEOPLE[OWNER][0]} ({OWNER}), who sent it first." in said
    assert f"clinicpacs conflicts --copy {name}" in said
    return str(name)


@pytest.fixture(scope="module")
def readers(clinics: Stack, browser: Browser) -> Iterator[dict[str, Reader]]:
    """Each clinic's physician, signed in; the owner's studies are filed, and one of the guest's own."""
    people = {}
    for clinic, (name, person) in PEOPLE.items():
        clinics.make("add-clinic", CLINIC_ID=clinic, CLINIC_NAME=name)
        people[clinic] = Physician.added(clinics, person, clinic=clinic)
        hand_over(clinics, clinic, FIRST, *STUDIES[clinic])
    with ExitStack() as contexts:
        readers = {}
        for clinic, person in people.items():
            context = contexts.enter_context(browser.new_context(ignore_https_errors=True))
            context.set_default_timeout(60_000)
            readers[clinic] = reader = Reader(clinics, person.sign_in(context.new_page()))
            wait_for(processed, clinics, clinic, FIRST, len(STUDIES[clinic]) * INSTANCES)
            wanted = {study.uid for study in STUDIES[clinic]}
            wait_until(lambda reader=reader, wanted=wanted: wanted <= reader.listed(), 30, "all are listed")
        yield readers


@pytest.fixture
def owner(readers: dict[str, Reader]) -> Reader:
    return readers[OWNER]


@pytest.fixture
def guest(readers: dict[str, Reader]) -> Reader:
    return readers[GUEST]


@pytest.fixture(scope="module")
def contested(clinics: Stack, readers: dict[str, Reader]) -> None:
    """The guest's files of studies that are the owner's have failed."""
    hand_over(clinics, GUEST, AGAIN, *CONTESTED, side=GUESTS)
    wait_for(failed, clinics, GUEST, AGAIN, INSTANCES * len(CONTESTED))
    assert not processed(clinics, GUEST, AGAIN)


def share(stack: Stack) -> None:
    said = stack.clinicpacs("share", SHARED.uid, "--with", GUEST, "--until", UNTIL).stdout
    assert said == f"study {SHARED.uid} of {OWNER} is shared with {GUEST} to the end of {UNTIL}\n"


def test_a_share_opens_that_study_and_nothing_else(clinics: Stack, owner: Reader, guest: Reader) -> None:
    before = guest.listed()
    assert guest.is_shut_out(SHARED)
    share(clinics)
    assert guest.sizes(SHARED.uid) == {OWNERS}
    frame = guest.get(f"{SHARED.path}{SHARED.instance()}/frames/1", FRAME)
    assert frame.status_code == 200
    assert SHARED.pixels() in frame.content
    assert guest.listed() == before | {SHARED.uid}
    # Of the same patient and owner; and with the shared study's UID before that one's others.
    assert guest.is_shut_out(NEIGHBOUR)
    assert owner.get(f"{NEIGHBOUR.path}{NEIGHBOUR.instance()}/frames/1", FRAME).status_code == 200
    for path in (NEIGHBOUR.series, NEIGHBOUR.instance(), f"{NEIGHBOUR.instance()}/frames/1"):
        assert guest.get(f"{SHARED.path}{path}", "*/*").status_code == 404
    [row] = [line for line in clinics.clinicpacs("shares", GUEST).stdout.splitlines() if SHARED.uid in line]
    assert re.search(rf"{OWNER}\W+{GUEST}\W+{UNTIL}", row)


def test_what_is_no_longer_shared_is_closed_though_the_cache_has_it(
    clinics: Stack, owner: Reader, guest: Reader
) -> None:
    share(clinics)
    frame = f"{SHARED.path}{SHARED.instance()}/frames/1", FRAME
    metadata = (f"{SHARED.path}/metadata",)
    for way in (metadata, frame):
        wait_until(lambda way=way: guest.cached(*way) == (200, "HIT"), 60, f"{way[0]} comes from the cache")
    said = clinics.clinicpacs("unshare", SHARED.uid, "--with", GUEST).stdout
    assert said == f"study {SHARED.uid} is no longer shared with {GUEST}\n"
    for way in (frame, metadata):
        assert guest.cached(*way) == (404, "")
        assert owner.cached(*way) == (200, "HIT")
    assert guest.is_shut_out(SHARED)


def test_a_contested_study_is_shared_and_the_files_are_dismissed(
    clinics: Stack, contested: None, owner: Reader, guest: Reader
) -> None:
    reasons = {
        json.loads(path.with_name(f"{path.name}.error.json").read_text())["reason"]
        for path in failed(clinics, GUEST, AGAIN)
    }
    assert reasons == {"study-owned-by-another-clinic"}
    assert guest.is_shut_out(LENT)
    name = conflict(clinics, LENT)
    said = clinics.clinicpacs("conflicts", "--share", name, "--until", UNTIL, "--yes").stdout
    assert f"{INSTANCES} of the files are different from the archive's images." in said
    assert f"{INSTANCES} files dismissed" in said
    assert guest.sizes(LENT.uid) == owner.sizes(LENT.uid) == {OWNERS}
    assert name not in clinics.clinicpacs("conflicts").stdout


def test_a_contested_study_is_copied_under_new_uids(
    clinics: Stack, contested: None, owner: Reader, guest: Reader
) -> None:
    copy = new_uid(ClinicId(GUEST), DOUBLED.uid)
    said = clinics.clinicpacs("conflicts", "--copy", conflict(clinics, DOUBLED), "--yes").stdout
    assert f"{INSTANCES} files copied into the inbox" in said
    wait_until(lambda: copy in guest.listed(), 60, "the copy is listed")
    assert guest.sizes(copy) == {GUESTS}
    assert guest.is_shut_out(DOUBLED)
    assert owner.sizes(DOUBLED.uid) == {OWNERS}
    assert copy not in owner.listed()


def test_a_contested_study_goes_to_who_it_belongs_to(
    clinics: Stack, contested: None, owner: Reader, guest: Reader
) -> None:
    said = clinics.clinicpacs("conflicts", "--transfer", conflict(clinics, CLAIMED), "--yes").stdout
    assert f"study {CLAIMED.uid} is {GUEST}'s now, and no longer {OWNER}'s" in said
    assert f"{INSTANCES} files put back" in said
    assert owner.is_shut_out(CLAIMED)
    assert CLAIMED.uid in guest.listed()
    # The guest's images take the place of those with the same UIDs.
    wait_until(lambda: guest.sizes(CLAIMED.uid) == {GUESTS}, 60, "the guest's own images are shown")
    assert guest.file(CLAIMED).InstitutionName == GUEST


def test_a_transfer_shuts_the_old_owner_out_and_tags_every_image(
    clinics: Stack, owner: Reader, guest: Reader
) -> None:
    assert owner.file(MOVED).InstitutionName == OWNER
    said = clinics.clinicpacs("transfer", MOVED.uid, "--to", GUEST).stdout
    assert f"study {MOVED.uid} is {GUEST}'s now, and no longer {OWNER}'s" in said
    assert f"{INSTANCES} images of study {MOVED.uid} tagged for {GUEST}" in said
    assert owner.is_shut_out(MOVED)
    assert MOVED.uid in guest.listed()
    assert guest.sizes(MOVED.uid) == {OWNERS}
    for number in range(1, INSTANCES + 1):
        stored = guest.file(MOVED, number)
        assert stored.InstitutionName == GUEST
        before = stored.OriginalAttributesSequence[-1]
        assert before.ModifyingSystem == "clinicpacs"
        assert before.ModifiedAttributesSequence[0].InstitutionName == OWNER
        assert stored.PixelData == MOVED.pixels(number)
    assert "no transfer is under way" in clinics.clinicpacs("transfer").stdout


def in_archive(stack: Stack, uid: str) -> bool:
    """Whether Orthanc itself knows it."""
    answer = stack.request("POST", "/orthanc/tools/lookup", stack.scripts_token(), data=uid)
    assert answer.status_code == 200, answer.text
    return bool(answer.json())


def delete(stack: Stack, study: Study) -> None:
    assert in_archive(stack, study.uid)
    said = stack.clinicpacs("delete", study.uid, "--yes").stdout
    assert f"study {study.uid} is in no list any more" in said
    assert f"study {study.uid} is deleted from the archive" in said
    assert not in_archive(stack, study.uid)


def test_a_deleted_study_is_gone_and_its_uid_stays_its_owners(
    clinics: Stack, owner: Reader, guest: Reader, sign_in: Callable[[str], Page]
) -> None:
    radiologist = Reader(clinics, sign_in("rita"))
    assert GONE.uid in radiologist.listed()
    delete(clinics, GONE)
    assert owner.is_shut_out(GONE)
    assert radiologist.is_shut_out(GONE)

    hand_over(clinics, GUEST, f"{RUN}-taken", GONE, side=GUESTS)
    wait_for(failed, clinics, GUEST, f"{RUN}-taken", INSTANCES)
    name = conflict(clinics, GONE)
    said = clinics.clinicpacs("conflicts", "--reject", name, "--reason", "wrong inbox", "--yes").stdout
    assert f"{INSTANCES} files dismissed" in said
    assert guest.is_shut_out(GONE)
    assert not in_archive(clinics, GONE.uid)

    hand_over(clinics, OWNER, f"{RUN}-anew", GONE)
    wait_for(processed, clinics, OWNER, f"{RUN}-anew", INSTANCES)
    wait_until(lambda: GONE.uid in owner.listed(), 30, "what its owner sent again is listed")
    assert owner.sizes(GONE.uid) == {OWNERS}
    delete(clinics, GONE)
    assert owner.is_shut_out(GONE)


def test_only_what_was_verified_is_pruned(clinics: Stack, owner: Reader) -> None:
    before = processed(clinics, OWNER, FIRST)
    said = clinics.clinicpacs("prune", OWNER, "--older-than", "0d", "--dry-run").stdout
    assert re.search(rf"^{OWNER}: \d+ files \(.*\) would be deleted; ", said, re.MULTILINE)
    assert processed(clinics, OWNER, FIRST) == before
    said = clinics.clinicpacs("prune", OWNER, "--older-than", "0d", "--yes").stdout
    assert re.search(
        rf"^{OWNER}: \d+ files \(.*\) deleted; .*superseded.*of deleted studies", said, re.MULTILINE
    )
    # What the guest's images have taken the place of, and what was deleted.
    assert {path.parent.name for path in processed(clinics, OWNER, FIRST)} == {CLAIMED.name, GONE.name}
    assert owner.file(SHARED).PixelData == SHARED.pixels()


def test_reindex_beside_the_running_services_changes_nothing(
    clinics: Stack, owner: Reader, guest: Reader, sign_in: Callable[[str], Page]
) -> None:
    radiologist = Reader(clinics, sign_in("rita"))

    def worklists() -> list[dict[str, Any]]:
        return [
            {str(value(study, "0020000D")): study for study in each.json("/studies?includefield=all")}
            for each in (owner, guest, radiologist)
        ]

    before = worklists()
    assert all(before)
    said = clinics.clinicpacs("reindex").stdout
    assert f"{len(before[-1])} studies in the archive\n" in said
    assert "0 got their owner back\n0 no longer in the archive, hidden now\n0 without an owner" in said
    for then, now in zip(before, worklists(), strict=True):
        assert list(now) == list(then)
        assert [(then[uid], now[uid]) for uid in then if then[uid] != now[uid]] == []


def test_afterwards_all_that_was_handed_over_is_in_the_archive(clinics: Stack, readers: object) -> None:
    said = clinics.clinicpacs("verify").stdout
    for clinic in (OWNER, GUEST):
        assert re.search(rf"^{clinic}: \d+ files? verified", said, re.MULTILINE)


def test_each_of_these_is_on_record_in_a_trail_that_verifies(clinics: Stack, readers: object) -> None:
    said = clinics.clinicpacs("audit", "--limit", "100000", "--json").stdout
    rows = [json.loads(line) for line in said.splitlines()][::-1]
    mine = [row for row in rows if row["action"] != "study-opened" and row["subject"] != "service:importer"]

    def of(study: Study) -> list[tuple[str, str]]:
        return [(row["action"], row["clinic_id"]) for row in mine if row["study_uid"] == study.uid]

    passed_on = [("transfer", OWNER), ("transfer-finished", GUEST)]
    deleted = [("delete", OWNER), ("delete-finished", OWNER)]
    assert of(SHARED) == [("share", OWNER), ("share", OWNER), ("unshare", OWNER)]
    assert of(LENT) == [("share", OWNER), ("dismiss-conflict", GUEST)]
    assert of(DOUBLED) == [("copy-conflict", GUEST)]
    assert of(CLAIMED) == [*passed_on, ("retry-conflict", GUEST)]
    assert of(MOVED) == passed_on
    assert of(GONE) == [*deleted, ("reject-conflict", GUEST), *deleted]
    assert {"prune", "pruned"} <= {row["action"] for row in mine if row["clinic_id"] == OWNER}
    assert "reindex" in {row["action"] for row in mine}
    assert [row for row in rows if row["action"] == "study-opened" and row["username"] == PEOPLE[GUEST][1]
            and row["study_uid"] == SHARED.uid and row["allowed"]]  # fmt: skip
    told = clinics.clinicpacs("audit", "verify").stdout
    assert re.fullmatch(r"\d+ rows as they were written; head: row \d+, [0-9a-f]{64}\n", told)
