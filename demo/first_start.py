"""What the demo sets up before it is used: clinics, users and, once, the sample studies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from admin.directory import NewUser
from admin.directory.embedded import EmbeddedDirectory
from demo.people import CLINICS, PASSWORD, USERS
from demo.samples import SAMPLES, write_samples
from pacs.catalog import clinics
from pacs.catalog.schema import studies
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.installation import Installation
    from pacs.catalog import Catalog


def add_clinics(catalog: Catalog, installation: Installation) -> None:
    """The clinics in catalog and identity provider, their inbox folders, and the users."""
    directory = EmbeddedDirectory(installation.identity_path)
    inbox = installation.settings.inbox_path
    with catalog.write() as connection:
        known = {clinic.id for clinic in clinics.all_clinics(connection)}
        for clinic_id, name in CLINICS.items():
            # A clinic that was renamed or deactivated since stays so.
            if clinic_id not in known:
                clinics.add(connection, ClinicId(clinic_id), name, datetime.now(UTC))
    for clinic_id, name in CLINICS.items():
        (inbox / clinic_id).mkdir(parents=True, exist_ok=True)
        directory.ensure_clinic(clinic_id, name)
    present = {user.username for user in directory.users()}
    for user in USERS:
        if user.username not in present:
            new = NewUser.of(user.username, user.email, user.clinics, user.roles, name=user.name)
            directory.add_user(new, PASSWORD)


class Samples:
    """The sample studies' way through the inbox, once for each data folder and kind of archive."""

    def __init__(self, installation: Installation, catalog: Catalog) -> None:
        self._catalog = catalog
        self._inbox = installation.settings.inbox_path
        self._marker: Path = installation.dicom_path / ".samples-delivered"

    @property
    def delivered(self) -> bool:
        """Whether they were stored by an earlier start."""
        return self._marker.exists()

    def drop(self, progress: Callable[[int, int], None]) -> None:
        """Put them into the clinics' inboxes, as a clinic would."""
        write_samples(self._inbox, progress)

    def imported(self) -> int:
        """How many of them the study list has, complete."""
        wanted = [sample.study_uid for sample in SAMPLES]
        with self._catalog.read() as connection:
            found = connection.scalar(
                select(func.count()).where(
                    studies.c.study_uid.in_(wanted),
                    studies.c.state == "confirmed",
                    studies.c.marked == studies.c.refreshed,
                    studies.c.dicom_json != "",
                )
            )
        return found or 0

    def mark_delivered(self) -> None:
        """They need not be delivered again."""
        self._marker.touch()
