"""The running parts as a command reaches them, opened when they are first used."""

from __future__ import annotations

import os
import pwd
import socket
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog
from pacs.catalog.audit import AuditEvent
from pacs.catalog.audit import append as append_audit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from admin.directory import Directory
    from admin.settings import AdminSettings
    from pacs.ids import ClinicId, Uid


class Platform:
    """Catalog, archive and directory of these settings, and who is at the terminal."""

    def __init__(self, settings: AdminSettings) -> None:
        self.settings = settings

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog.

        Raises:
            CatalogError: it cannot be used, or is not of this version.
        """
        return Catalog.open(self.settings.database_url)

    @cached_property
    def archive(self) -> DicomWebArchive:
        """The archive; nothing is asked of it yet."""
        return DicomWebArchive(self.settings)

    @cached_property
    def remover(self) -> DicomWebArchive:
        """The archive as its user who may delete."""
        settings = self.settings
        if not settings.archive_admin_password.get_secret_value():
            return self.archive
        login = {
            "archive_username": settings.archive_admin_username,
            "archive_password": settings.archive_admin_password,
        }
        return DicomWebArchive(settings.model_copy(update=login))

    @cached_property
    def directory(self) -> Directory | None:
        """The identity provider; None when none is configured.

        Raises:
            DirectoryUnavailableError: it cannot be used.
        """
        # Each adapter brings its own library, which the other one's commands need not wait for.
        settings = self.settings
        if settings.identity_path is not None:
            from admin.directory.embedded import EmbeddedDirectory  # noqa: PLC0415

            return EmbeddedDirectory(settings.identity_path)
        if settings.keycloak_url is not None:
            from admin.directory.keycloak import KeycloakDirectory  # noqa: PLC0415

            return KeycloakDirectory(
                settings.keycloak_url,
                settings.keycloak_client_secret.get_secret_value(),
                realm=settings.keycloak_realm,
                client_id=settings.keycloak_client_id,
                verify=str(settings.keycloak_ca_bundle or "") or True,
            )
        return None

    @staticmethod
    def now() -> datetime:
        """The time, aware."""
        return datetime.now(UTC)

    def close(self) -> None:
        """Drop the connections that were opened."""
        for name in ("catalog", "archive", "remover", "directory"):
            opened = self.__dict__.get(name)
            if opened is not None:
                opened.close()

    def record(
        self,
        connection: Connection,
        action: str,
        *,
        clinic_id: ClinicId | None = None,
        study_uid: Uid | None = None,
        detail: str = "",
        count: int = 1,
        allowed: bool = True,
    ) -> None:
        """Add an audit row of whoever is at the terminal, within the change that it tells of."""
        event = AuditEvent(
            action=action,
            subject=f"os:{operating_system_user()}",
            username=_person(),
            clinic_id=clinic_id,
            study_uid=study_uid,
            source=socket.gethostname(),
            allowed=allowed,
            detail=detail,
            count=count,
        )
        append_audit(connection, event, self.now())

    @contextmanager
    def recorded(
        self,
        action: str,
        *,
        clinic_id: ClinicId | None = None,
        study_uid: Uid | None = None,
        detail: str = "",
        count: int = 1,
    ) -> Iterator[None]:
        """Record a change of another store before it happens, and a second row if it then fails.

        A change that could not be recorded is not made.
        """

        def record(detail: str, *, allowed: bool) -> None:
            with self.catalog.write() as connection:
                self.record(
                    connection,
                    action,
                    clinic_id=clinic_id,
                    study_uid=study_uid,
                    detail=detail,
                    count=count,
                    allowed=allowed,
                )

        record(detail, allowed=True)
        try:
            yield
        except Exception:
            record(f"{detail} (failed; part of it may have happened)".strip(), allowed=False)
            raise


def operating_system_user() -> str:
    """The account that this process runs under; LOGNAME and the like could be set by anyone."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number without a name
        return str(os.getuid())


def _person() -> str:
    name = operating_system_user()
    # In a container the number says nothing: our scripts tell whose shell it was.
    told = os.environ.get("CLINICPACS_OPERATOR", "")
    if told and told.isprintable():
        return f"{told} as {name}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if os.getuid() == 0 and behind.isprintable() and behind else name
