"""Two clinics with one StudyInstanceUID at the same moment, in numbers, into a real Orthanc.

The first owns it; the other's files are in failed with the reason and never in the archive; and what the
owner's physicians see does not change, whatever the other sends afterwards.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydantic import SecretStr

from pacs.catalog import ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import Uid
from pacs.settings import ArchiveSettings
from support import chaos
from support.archives import Web
from support.corpus import SamplePatient, instance_bytes, sample_uid
from support.gateway import SampleArchive, TurnedClock, running_issuer
from support.gateway import World as Gateway
from support.importer_process import Process
from support.importing import NORTH, SOUTH, World, wait_until
from support.site import Site
from support.stow_server import Refuses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pacs.catalog import Catalog
    from pacs.ids import ClinicId
    from support.orthanc import Orthanc

FILES = 3
STUDIES = chaos.scaled(60, least=12)
PATIENTS = {NORTH: "SAMPLE-1", SOUTH: "OTHER-2"}
OWNED, SERIES_OWNED = "study-owned-by-another-clinic", "series-owned-by-another-clinic"


@dataclass(frozen=True)
class Contest:
    """One study, or one series in a study of each, that both clinics send.

    Attributes:
        same: which of patient, series and instance UIDs are the same for both.
        apart: each sends the series in a study of its own.
    """

    number: int

    @property
    def same(self) -> frozenset[str]:
        names = ("patient", "series", "instance")
        return frozenset(name for bit, name in enumerate(names) if self.number >> bit & 1)

    @property
    def apart(self) -> bool:
        return self.number % 5 == 4

    def study(self, clinic: ClinicId) -> Uid:
        return Uid(sample_uid("contest", self.number, clinic if self.apart else ""))

    def series(self, clinic: ClinicId) -> Uid:
        together = self.apart or "series" in self.same
        return Uid(sample_uid("contest series", self.number, "" if together else clinic))

    def files(self, clinic: ClinicId, again: int = 0) -> dict[str, bytes]:
        """The clinic's files by their paths; no two clinics' pixels are the same."""
        made = {}
        for number in range(FILES):
            other = "" if "instance" in self.same else clinic
            patient = PATIENTS[NORTH] if "patient" in self.same else PATIENTS[clinic]
            content = instance_bytes(
                study_uid=self.study(clinic),
                series_uid=self.series(clinic),
                sop_instance_uid=sample_uid("contest", self.number, other, number),
                instance_number=number + 1,
                patient=SamplePatient(patient, "Sample^Aurora", "ISO_IR 100"),
                description=f"Of {clinic}",
            )
            pixels = sha256(f"{clinic} {self.number} {number} {again}".encode()).digest()
            made[f"{self.number:03}/{again}-{number}.dcm"] = content[: -len(pixels)] + pixels
        return made


CONTESTS = [Contest(number) for number in range(STUDIES)]


def digest(content: bytes) -> str:
    return sha256(pydicom.dcmread(BytesIO(content)).PixelData).hexdigest()


@dataclass
class Arena:
    """One platform on a real archive, and everything that is at work on it."""

    world: World
    site: Site
    web: Web
    gateway: Gateway
    settings: dict[str, str]
    processes: list[Process] = field(default_factory=list)
    runs: int = 0

    def start_importers(self, count: int) -> None:
        self.processes += [Process.start(self.world, **self.settings) for _ in range(count)]

    def reindexing(self) -> AbstractContextManager[None]:
        """`clinicpacs reindex`, and with `--all`, again and again until the block ends."""

        def reindex() -> None:
            self.site.done("reindex", *(["--all"] if self.runs % 2 else []))
            self.runs += 1

        return chaos.again_and_again(reindex)

    def drop_at_once(self) -> None:
        """Both clinics drop their files of all contests at the same moment, each in an order of its own."""
        start = threading.Barrier(2)

        def drop(clinic: ClinicId) -> None:
            contests = list(CONTESTS)
            chaos.chance(clinic).shuffle(contests)
            start.wait(10)
            for contest in contests:
                for path, content in contest.files(clinic).items():
                    self.world.drop(path, content, clinic)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(drop, (NORTH, SOUTH), timeout=120))

    def wait_filed(self) -> None:
        wait_until(lambda: not chaos.waiting(self.world), 300)

    def is_clean(self) -> bool:
        return all(row["marked"] == row["refreshed"] and row["settled"] for row in self.world.rows(studies))

    def owners(self) -> dict[str, ClinicId]:
        return {row["study_uid"]: row["clinic_id"] for row in self.world.rows(studies)}

    def archived(self, study: Uid) -> dict[str, str]:
        """The pixels' digest of each instance that the archive has of a study."""
        found = {}
        for each in self.web.found(f"/studies/{study}/instances"):
            uid, series = each["00080018"]["Value"][0], each["0020000E"]["Value"][0]
            path = f"/studies/{study}/series/{series}/instances/{uid}"
            body = self.web.get(path, 'multipart/related; type="application/dicom"').content
            start = body.index(b"\r\n\r\n") + 4
            assert uid not in found, "the archive has it twice"
            found[uid] = digest(body[start : body.rindex(b"\r\n--")])
        return found

    def seen(self, contest: Contest, clinic: ClinicId) -> list[Any]:
        """What the clinic's physicians see of their study: lists, metadata and frames."""
        token = self.gateway.issuer.token(f"of-{clinic}", groups=[f"/clinics/{clinic}"])
        study, series = contest.study(clinic), contest.series(clinic)
        paths = [
            f"/studies?StudyInstanceUID={study}",
            f"/studies/{study}/series",
            f"/studies/{study}/instances",
        ]
        paths.append(f"/studies/{study}/series/{series}/metadata")
        answers = [self.gateway.get(path, token) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        told: list[Any] = [sorted(map(repr, answer.get_json(force=True))) for answer in answers]
        for each in answers[2].get_json(force=True):
            frame = f"/studies/{study}/series/{series}/instances/{each['00080018']['Value'][0]}/frames/1"
            answer = self.gateway.get(frame, token, Accept="application/octet-stream; transfer-syntax=*")
            assert answer.status_code == 200
            told.append(sha256(answer.data).hexdigest())
        return told

    def assert_one_owner_each(self) -> dict[int, ClinicId]:
        """In archive, processed and failed is what must be; returns the winners."""
        owners = self.owners()
        return {contest.number: self._assert_one_owner(contest, owners) for contest in CONTESTS}

    def _assert_one_owner(self, contest: Contest, owners: dict[str, ClinicId]) -> ClinicId:
        (winner,) = [each for each in (NORTH, SOUTH) if owners.get(contest.study(each)) == each]
        loser = SOUTH if winner == NORTH else NORTH
        if contest.apart:
            assert contest.study(loser) not in owners, "nothing of it was stored"
            assert self.archived(contest.study(loser)) == {}
        files = contest.files(winner)
        wanted = {str(pydicom.dcmread(BytesIO(each)).SOPInstanceUID): digest(each) for each in files.values()}
        assert self.archived(contest.study(winner)) == wanted
        assert files.items() <= self.world.done(winner).items()
        reasons, processed = self.world.reasons(loser), self.world.done(loser)
        for path in contest.files(loser):
            assert reasons[path] == (SERIES_OWNED if contest.apart else OWNED)
            assert path not in processed
        return winner


@pytest.fixture
def arena(tmp_path: Path, catalog: Catalog, database_url: str, orthanc: Orthanc) -> Iterator[Arena]:
    login = {
        "archive_url": orthanc.dicomweb_url,
        "archive_username": orthanc.username,
        "archive_password": SecretStr(orthanc.password),
    }
    world = World(tmp_path / "data", catalog, database_url, options=login)
    site = Site.at(world.data, catalog, database_url)
    site.env |= {
        "ARCHIVE_URL": orthanc.dicomweb_url,
        "ARCHIVE_USERNAME": orthanc.username,
        "ARCHIVE_PASSWORD": orthanc.password,
        "ARCHIVE_STABLE_AGE_SECONDS": "1",
    }
    world.add_clinic(NORTH)
    world.add_clinic(SOUTH)
    settings = chaos.worlds_settings(orthanc, UPLOAD_WORKERS="2")
    web = Web("orthanc", orthanc.dicomweb_url, (orthanc.username, orthanc.password))
    with web, running_issuer(TurnedClock()) as issuer:
        archive = SampleArchive("orthanc", ArchiveSettings(**login))
        with closing(Gateway(catalog, issuer, archive)) as gateway:
            made = Arena(world, site, web, gateway, settings)
            yield made
            for process in made.processes:
                process.kill()


@pytest.mark.timeout(900)
def test_the_first_of_two_clinics_owns_and_the_other_changes_nothing(arena: Arena) -> None:
    """Importers (two on PostgreSQL, one a clinic) and reindex are at work all the time."""
    arena.start_importers(1 if arena.world.catalog.is_sqlite else 2)
    with arena.reindexing():
        arena.drop_at_once()
        arena.wait_filed()
    wait_until(arena.is_clean, 60)
    winners = arena.assert_one_owner_each()
    assert set(winners.values()) == {NORTH, SOUTH}, "the race was none"
    before = {contest: arena.seen(contest, winners[contest.number]) for contest in CONTESTS}

    # Once more, by whoever lost: in the other order of arrival, and with other pixels.
    with arena.reindexing():
        losers_drop(arena, winners)
        while chaos.waiting(arena.world):
            contest = chaos.chance(arena.runs).choice(CONTESTS)
            assert arena.seen(contest, winners[contest.number]) == before[contest]
        arena.wait_filed()
    wait_until(arena.is_clean, 60)
    assert arena.assert_one_owner_each() == winners
    assert {contest: arena.seen(contest, winners[contest.number]) for contest in CONTESTS} == before
    kind = "SQLite" if arena.world.catalog.is_sqlite else "PostgreSQL, two importers"
    wins = [sum(winner == clinic for winner in winners.values()) for clinic in (NORTH, SOUTH)]
    run = f"{len(CONTESTS)} contests of {2 * FILES} files twice, {arena.runs} reindexes"
    chaos.counts.append(f"ownership, {kind}: {run}, won {wins}")


def losers_drop(arena: Arena, winners: dict[int, ClinicId]) -> None:
    for contest in CONTESTS:
        loser = SOUTH if winners[contest.number] == NORTH else NORTH
        for path, content in contest.files(loser, again=1).items():
            arena.world.drop(path, content, loser)


@pytest.mark.timeout(300)
def test_when_all_files_of_the_first_fail_the_second_owns(arena: Arena) -> None:
    """The reservation of the first is provisional until then, and its files are nowhere in the archive."""
    world = arena.world
    world.options.clear()
    world.server.start()
    refused = frozenset(
        str(pydicom.dcmread(BytesIO(each)).SOPInstanceUID)
        for contest in CONTESTS
        if "instance" not in contest.same
        for each in contest.files(NORTH).values()
    )
    world.server.rule = lambda _sent: Refuses(0xC000, refused)
    contests = [each for each in CONTESTS if "instance" not in each.same]
    settings = {"UPLOAD_WORKERS": "2", "ARCHIVE_STABLE_AGE_SECONDS": "0"}
    for contest in contests:
        with world.catalog.write() as connection:
            # North's reservation is there first, as that of a request which is under way.
            claim = Claim(NORTH, contest.study(NORTH), contest.series(NORTH), PATIENTS[NORTH])
            ownership.reserve(connection, claim, TurnedClock().now().replace(year=2100))
        for clinic in (NORTH, SOUTH):
            for path, content in contest.files(clinic).items():
                world.drop(path, content, clinic)
    count = 1 if world.catalog.is_sqlite else 2
    arena.processes += [Process.start(world, **settings) for _ in range(count)]
    wait_until(lambda: not chaos.waiting(world), 120)
    wait_until(lambda: {row["clinic_id"] for row in world.rows(studies)} == {SOUTH}, 60)
    world.server.stop()
    assert {row["study_uid"] for row in world.rows(studies)} == {each.study(SOUTH) for each in contests}
    assert set(world.reasons(NORTH).values()) == {"cannot-understand"}
    assert {str(each.header.InstitutionName) for each in world.server.stored.values()} == {SOUTH}
    assert len(world.done(SOUTH)) == len(world.server.stored) == FILES * len(contests)
