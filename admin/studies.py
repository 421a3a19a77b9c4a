"""One study as a command looks it up and changes it."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from admin.directory import UnknownClinicError
from pacs.archive.model import person_name, text
from pacs.catalog import clinics, transfers
from pacs.catalog.schema import studies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from pacs.catalog import Catalog
    from pacs.catalog.transfers import OwnedStudy
    from pacs.ids import ClinicId, Uid

PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.2


class StudyError(Exception):
    """Why a command cannot do this with that study; the text says what to do instead."""


class Person(NamedTuple):
    """Whose images these are, as far as the images say."""

    patient_id: str
    name: str
    birth_date: str


def described(person: Person) -> str:
    """A person in one line."""
    who = ", ".join(filter(None, (person.name, person.birth_date and f"born {person.birth_date}")))
    return f"{person.patient_id!r}{f' ({who})' if who else ''}"


def owned(connection: Connection, study_uid: Uid, *, lock: bool = False) -> OwnedStudy:
    """The study; with `lock` nobody changes it before the transaction ends.

    Raises:
        StudyError: the catalog has none of that UID.
    """
    study = transfers.owned(connection, study_uid, lock=lock)
    if study is None:
        raise StudyError(f"the catalog knows no study {study_uid}")
    return study


def require_confirmed(study: OwnedStudy) -> None:
    """Let nothing pass but a study that can be read.

    Raises:
        StudyError: why it cannot.
    """
    why = {
        "provisional": "none of its images is in the archive yet",
        "missing": "the archive does not list it (see `clinicpacs reindex`)",
        "deleted": "it was deleted",
    }.get(study.state)
    if why:
        raise StudyError(f"study {study.study_uid} of {study.owner}: {why}")


def require_served(connection: Connection, clinic_id: ClinicId) -> None:
    """Let nothing pass but a clinic whose users are let in.

    Raises:
        UnknownClinicError: there is none.
        StudyError: it is deactivated.
    """
    clinic = clinics.find(connection, clinic_id)
    if clinic is None:
        raise UnknownClinicError(clinic_id)
    if not clinic.active:
        raise StudyError(f"{clinic_id} is deactivated: nobody there could open the study")


def patient(connection: Connection, study_uid: Uid) -> Person | None:
    """Whose study it is; None where the catalog does not know the study."""
    row = connection.execute(
        select(studies.c.patient_id, studies.c.dicom_json).where(studies.c.study_uid == study_uid)
    ).first()
    if row is None:
        return None
    dataset = json.loads(row.dicom_json or "{}")
    name = (person_name(dataset, "00100010") or ("",))[0]
    return Person(row.patient_id, name, text(dataset, "00100030"))


@contextmanager
def quiet(catalog: Catalog, study_uid: Uid) -> Iterator[tuple[Connection, OwnedStudy]]:
    """A transaction in which nobody reserves, stores or changes the study; waits for whoever is about to.

    A file that is on its way while its study changes hands would come in under its old owner's name.

    Raises:
        StudyError: the catalog has none of that UID, or its files go on being imported.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with catalog.write() as connection:
            study = owned(connection, study_uid, lock=True)
            if not study.busy or study.state == "deleted":
                yield connection, study
                return
        if time.monotonic() >= deadline:
            raise StudyError(
                f"files of study {study_uid} are being imported, or its row waits to be brought up to date: "
                "try again in a minute, with the importer running"
            )
        time.sleep(_LOOK_SECONDS)
