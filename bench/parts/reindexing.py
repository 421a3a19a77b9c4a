"""P7: `clinicpacs reindex` of a large archive, against what that archive can list at all."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from pydantic import SecretStr
from sqlalchemy import insert

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import Cost, interleaved, run_and_weigh
from bench.servers import archive_data, postgresql
from bench.servers.tiny_study import CLINICS, Study
from pacs.archive import listing
from pacs.catalog import Catalog, clinics, worklist
from pacs.catalog.schema import series, studies
from support.orthanc import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.options import Options
    from bench.servers.archive_data import Index
    from pacs.archive import ListedStudy
    from support.orthanc import Orthanc

_PAGE = 1000
_CHUNK = 5000
_CONNECTIONS = (1, 2, 4)
# Each page costs the same, so that not all have to be read.
_LISTED = 20_000
_READER = {"ARCHIVE_USERNAME": "importer", "ARCHIVE_PASSWORD": PASSWORDS["importer"]}


def run(options: Options) -> Iterator[Figure]:
    """The whole on PostgreSQL, as compose has it, and beside it on SQLite."""
    few, many = (1000, 10_000) if options.quick else (10_000, 100_000)
    rounds = min(options.rounds, 2)
    peaks: list[float] = []
    with postgresql.running() as database:
        with _reindexed(options.folder / "few", few, "postgresql", database.new_catalog()) as site:
            anew = few / site.reindex().seconds
            small = Sample((site.reindex().peak_megabytes,))
        options.say(f"{few} studies done; {many} rows are filed in the catalog")
        url = database.new_catalog()
        with _reindexed(options.folder / "many", many, "postgresql", url, filled=True) as site:
            measured = _measure(site, rounds, peaks)
    url = f"sqlite:///{options.folder}/catalog.db"
    with _reindexed(options.folder / "sqlite", many, "sqlite", url, filled=True) as site:
        sqlite = _measure(site, rounds, [])
    yield Figure(
        "P7",
        f"reindex of {many:,} studies, archive and catalog on PostgreSQL",
        "studies/s",
        measured["ours"],
        Goal("ours", at_least=5000),
        measured["archive"],
        "Orthanc listing them, nothing done with the answers",
        rows=(
            Row(f"{few:,} studies, every row written", "studies/s", Sample((anew,))),
            Row("archive and catalog on SQLite", "studies/s", sqlite["ours"]),
            Row("Orthanc on SQLite listing them", "studies/s", sqlite["archive"]),
        ),
        note="Most of it is the archive's: Orthanc's plugin 5.0 for PostgreSQL asks its database several "
        "times for each study. The peer is the best of one, two and four connections with the same request, "
        "and what can be reached at most.",
    )
    yield Figure(
        "P7-memory",
        f"peak memory of the reindex of {many:,} studies",
        "MB",
        Sample(tuple(peaks)),
        Goal("ratio", at_least=0.85),
        small,
        f"the same for {few:,}",
        more_is_better=False,
    )


def _measure(site: _Site, rounds: int, peaks: list[float]) -> dict[str, Sample]:
    return interleaved(
        {"ours": lambda: _speed(site, peaks), "archive": lambda: max(map(site.list, _CONNECTIONS))}, rounds
    )


def _speed(site: _Site, peaks: list[float]) -> float:
    cost = site.reindex()
    peaks.append(cost.peak_megabytes)
    return site.studies / cost.seconds


@dataclass(frozen=True)
class _Site:
    """An archive, and a catalog in which its studies have their owners."""

    folder: Path
    studies: int
    archive: Orthanc
    database_url: str

    def reindex(self) -> Cost:
        """Run the command to its end."""
        return run_and_weigh(
            [sys.executable, "-m", "admin", "reindex"],
            {
                "DATA_PATH": str(self.folder),
                "DATABASE_URL": self.database_url,
                "ARCHIVE_URL": self.archive.dicomweb_url,
                **_READER,
            },
        )

    def list(self, connections: int) -> float:
        """Studies a second that the archive lists to who only reads its answers; the first of them."""
        count = min(self.studies, _LISTED)
        headers = urllib3.make_headers(basic_auth=":".join(_READER.values()))
        address = urlsplit(self.archive.url)
        with (
            urllib3.HTTPConnectionPool(
                str(address.hostname), address.port, maxsize=connections, headers=headers
            ) as pool,
            ThreadPoolExecutor(connections) as readers,
        ):
            began = time.perf_counter()
            answers = readers.map(
                lambda offset: pool.request("GET", f"/{listing.path(offset, _PAGE)}", timeout=300).status,
                range(0, count, _PAGE),
            )
            if set(answers) != {200}:
                raise SystemExit("the archive does not list its studies")
            return count / (time.perf_counter() - began)


@contextmanager
def _reindexed(
    folder: Path, count: int, index: Index, database_url: str, *, filled: bool = False
) -> Iterator[_Site]:
    folder.mkdir(parents=True)
    catalog = Catalog.open(SecretStr(database_url))
    _fill(catalog, count, filled=filled)
    catalog.close()
    with archive_data.running(count, index) as archive:
        yield _Site(folder, count, archive, database_url)


def _fill(catalog: Catalog, count: int, *, filled: bool) -> None:
    """Owners, as reservations leave them; if `filled` with what the archive says."""
    now = datetime.now(UTC)
    with catalog.write() as connection:
        for clinic in CLINICS:
            clinics.add(connection, clinic, clinic, now)
    for first in range(0, count, _CHUNK):
        found = [Study.of(number) for number in range(first, min(first + _CHUNK, count))]
        with catalog.write() as connection:
            connection.execute(insert(studies), [_row(each, now, filled=filled) for each in found])
            connection.execute(insert(series), [_series_row(each) for each in found])
    with catalog.write() as connection:
        connection.exec_driver_sql("ANALYZE")


def _row(study: Study, now: datetime, *, filled: bool) -> dict[str, Any]:
    row = {
        "study_uid": study.uid,
        "clinic_id": study.clinic,
        "patient_id": study.patient_id,
        "state": "confirmed",
        "reserved_at": now,
        "changed_at": now,
    }
    return row | worklist.columns(_listed(study), study.patient_id) if filled else row


def _series_row(study: Study) -> dict[str, Any]:
    return {
        "series_uid": study.series_uid,
        "study_uid": study.uid,
        "clinic_id": study.clinic,
        "confirmed": True,
    }


def _listed(study: Study) -> ListedStudy:
    """What Orthanc lists of it."""
    entry = {
        "MainDicomTags": {
            "AccessionNumber": study.accession_number,
            "InstitutionName": study.clinic,
            "ReferringPhysicianName": "",
            "StudyDate": f"{study.day:%Y%m%d}",
            "StudyDescription": study.description,
            "StudyID": "1",
            "StudyInstanceUID": study.uid,
            "StudyTime": "101500",
        },
        "PatientMainDicomTags": {
            "PatientBirthDate": "19700101",
            "PatientID": study.patient_id,
            "PatientName": study.patient_name,
            "PatientSex": "F",
        },
        "RequestedTags": {
            "ModalitiesInStudy": study.modality,
            "NumberOfStudyRelatedInstances": "1",
            "NumberOfStudyRelatedSeries": "1",
        },
    }
    (listed,) = listing.parse([entry]) or [None]
    assert listed is not None
    return listed
