"""The platform of the isolation suite: nginx, gateway processes, Orthanc, and what the importer brought in.

Nora is of northside, Sam of southside, Ada of both; Rita is a radiologist, Alma an administrator. Noel is
signed in and of no clinic, Cleo of a clinic that is not served any more, Gwen's tokens were revoked; ``""``
has no token.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from bench.servers import orthanc as orthancs
from bench.servers import site as sites
from pacs.catalog import clinics
from pacs.catalog.schema import revocations, studies, study_access
from pacs.ids import ClinicId
from support import marked
from support.archives import Web
from support.importing import World, wait_until
from support.marked import MarkedStudy
from support.orthanc import PASSWORDS
from support.wire import Answer, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from sqlalchemy import ColumnElement

    from pacs.ids import Uid
    from support.orthanc import Orthanc

NORTH, SOUTH, CLOSED = ClinicId("northside"), ClinicId("southside"), ClinicId("closed-clinic")
MINE = MarkedStudy(marked.NORTH, NORTH)
MINE_TOO = MarkedStudy(marked.NORTH, NORTH, 2, ("US",))
THEIRS = MarkedStudy(marked.SOUTH, SOUTH)
THEIRS_TOO = MarkedStudy(marked.SOUTH, SOUTH, 2, ("US",))
LENT = MarkedStudy(marked.LENT, SOUTH, 1, ("US", "PDF"))
STRAY = MarkedStudy(marked.STRAY, None)
NOWHERE = MarkedStudy(marked.Mark("Nowhere", "2.25.99900", (1, 2), (0, 0, 4)), None)
OWNED = (MINE, MINE_TOO, THEIRS, THEIRS_TOO, LENT)

PEOPLE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nora": ((NORTH,), ()),
    "sam": ((SOUTH,), ()),
    "ada": ((NORTH, SOUTH), ()),
    "rita": ((), ("radiologist",)),
    "alma": ((), ("pacs-admin",)),
    "noel": ((), ()),
    "cleo": ((CLOSED,), ()),
    "gwen": ((NORTH, SOUTH), ("radiologist",)),
}
ENTITLED: Mapping[str, frozenset[marked.Mark]] = {
    "nora": frozenset({marked.NORTH, marked.LENT}),
    "sam": frozenset({marked.SOUTH, marked.LENT}),
    "ada": frozenset({marked.NORTH, marked.SOUTH, marked.LENT}),
    "rita": frozenset(marked.MARKS),
    "alma": frozenset(marked.MARKS),
    "noel": frozenset(),
    "cleo": frozenset(),
    "gwen": frozenset(),
    "": frozenset(),
}


@dataclass
class Platform:
    """All of it, running."""

    site: sites.Site
    importing: World
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    _context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        until = int((datetime.now(UTC) + timedelta(hours=2)).timestamp())
        for name, (groups, roles) in PEOPLE.items():
            belongs = [f"/clinics/{clinic}" for clinic in groups]
            self.tokens[name] = self.site.issuer.token(name, groups=belongs, roles=list(roles), exp=until)
        self._context = self.site.nginx.trust()

    @property
    def host(self) -> str:
        return f"localhost:{self.site.nginx.https_port}"

    @property
    def orthanc(self) -> Orthanc:
        assert self.site.archive is not None
        return self.site.archive

    @property
    def access_log(self) -> list[str]:
        return self.site.nginx.log.read_text(errors="replace").splitlines()

    def request(self, target: str, who: str = "nora", method: str = "GET", *lines: str) -> bytes:
        """A request without a body, its target as it is written; `lines` are further header lines."""
        head = [f"{method} {target} HTTP/1.1"]
        if not any(line.lower().startswith("host:") for line in lines):
            head.append(f"Host: {self.host}")
        if who:
            head.append(f"Authorization: Bearer {self.tokens[who]}")
        return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")

    def wire(self, source: str = "") -> Wire:
        """A connection, from an address of its own unless it is told one."""
        return Wire(self.site.nginx, context=self._context, **({"source": source} if source else {}))

    def ask(self, target: str, who: str = "nora", method: str = "GET", *lines: str) -> Answer:
        """One request over a connection of its own."""
        with self.wire() as wire:
            wire.send(self.request(target, who, method, "Connection: close", *lines))
            return wire.answer(method)

    def dicom(self, path: str, who: str = "nora", accept: str = "", method: str = "GET") -> Answer:
        """Ask for a path below /dicom-web."""
        return self.ask(f"/dicom-web{path}", who, method, *([f"Accept: {accept}"] if accept else []))

    def leaked(self, answer: Answer, who: str) -> set[marked.Mark]:
        """Marks in the answer that are not for that person's eyes.

        Where a redirect leads to is what was asked for, by our own name for it.
        """
        headers = [each for each in answer.headers if each[0].lower() != "location"]
        return marked.marks_in(answer.body, headers) - ENTITLED[who]

    @contextmanager
    def unshared(self, study: Uid) -> Iterator[None]:
        """That study's shares have ended, until the block does."""
        of_study = study_access.c.study_uid == study
        # In TZ, as the gateway counts days: west of Greenwich yesterday in UTC may still be today.
        yesterday = datetime.now().astimezone().date() - timedelta(1)
        self._until(of_study, yesterday)
        try:
            yield
        finally:
            self._until(of_study, yesterday + timedelta(8))

    def _until(self, which: ColumnElement[bool], day: date) -> None:
        with self.site.catalog.write() as connection:
            connection.execute(update(study_access).where(which).values(until=day))

    def drop(self, clinic: ClinicId, folder: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self.importing.drop(f"{folder}/{name}", content, clinic)

    def import_all(self) -> None:
        """Run the importer until nothing waits and all that it stored has settled."""
        with self.importing.running():
            wait_until(lambda: not any(self.importing.waiting(each) for each in (NORTH, SOUTH)), 40)
            wait_until(self._is_settled, 40)

    def _is_settled(self) -> bool:
        with self.site.catalog.read() as connection:
            return all(connection.scalars(select(studies.c.settled).where(studies.c.state == "confirmed")))


@contextmanager
def running(folder: Path, database_url: str) -> Iterator[Platform]:
    """One with its studies in place, until the block ends."""
    with (
        orthancs.running(folder / "orthanc") as archive,
        sites.running(
            folder / "site",
            archive,
            database_url=database_url,
            ORTHANC_URL=archive.url,
            ORTHANC_ADMIN_PASSWORD=PASSWORDS["admin"],
            TRUSTED_PROXIES="127.0.0.1/32",
        ) as site,
    ):
        login = {"archive_username": archive.username, "archive_password": archive.password}
        options = {"archive_url": archive.dicomweb_url, "archive_stable_age_seconds": 1, **login}
        importing = World(folder / "data", site.catalog, database_url, options=options)
        platform = Platform(site, importing, folder)
        _fill(platform)
        yield platform


def _fill(platform: Platform) -> None:
    now = datetime.now(UTC)
    (platform.importing.inbox / NORTH).mkdir(parents=True)
    for clinic in (SOUTH, CLOSED):
        platform.importing.add_clinic(clinic)
    for study in OWNED:
        assert study.owner
        platform.drop(study.owner, f"study-{study.study}", study.files())
    platform.import_all()
    with platform.site.catalog.write() as connection:
        clinics.deactivate(connection, CLOSED)
        connection.execute(
            insert(study_access).values(
                study_uid=LENT.study, clinic_id=NORTH, until=now.date() + timedelta(7)
            )
        )
        connection.execute(
            insert(revocations).values(subject="subject-of-gwen", issued_before=now + timedelta(hours=1))
        )
    archive = platform.orthanc
    with Web("orthanc", archive.dicomweb_url, (archive.username, archive.password)) as web:
        assert web.store(*STRAY.files().values()).status_code == 200


def empty_catalog(folder: Path, template: Path) -> str:
    """DATABASE_URL of an SQLite catalog in a folder."""
    shutil.copyfile(template, folder / "catalog.db")
    return f"sqlite:///{folder / 'catalog.db'}"
