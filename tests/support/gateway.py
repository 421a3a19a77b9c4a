"""A gateway with everything around it: an issuer with real keys, a catalog, an archive with studies."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import insert, select, update
from werkzeug.serving import make_server

from gateway.app import create_app
from gateway.clock import Clock
from gateway.settings import GatewaySettings
from pacs.archive import ArchivedStudy, Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics, ownership, worklist
from pacs.catalog.schema import audit, studies
from pacs.ids import ClinicId, Uid
from support.corpus import instance_bytes, sample_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from werkzeug.test import TestResponse

    from pacs.catalog import Catalog
    from pacs.settings import ArchiveSettings

AUDIENCE, CLIENT = "dicom-gateway", "ohif-viewer"
PUBLIC = "https://pacs.example.org"
NORTH, SOUTH, CLOSED = ClinicId("northside"), ClinicId("southside"), ClinicId("closed-clinic")
DEFAULT_GROUPS = (f"/clinics/{NORTH}",)
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class TurnedClock(Clock):
    """A clock that a test turns."""

    __test__ = False

    def __init__(self, now: datetime = NOW) -> None:
        self.start = now
        self.passed = 0.0

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def turn(self, seconds: float) -> None:
        self.passed += seconds


_making_keys = threading.Lock()


def key(name: str) -> RSAKey:
    """A private key by its name, which is also its `kid`; made once a process."""
    # Two who ask at once, as the gateway's processes do at their start, must not get two.
    with _making_keys:
        return _key(name)


@cache
def _key(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name})


def public_jwk(name: str) -> dict[str, Any]:
    return {**key(name).as_dict(private=False), "kid": name, "use": "sig", "alg": "RS256"}


@dataclass
class Issuer:
    """Publishes keys over HTTP and signs tokens as Keycloak does. `issuer` is its URL."""

    clock: TurnedClock
    keys: list[str] = field(default_factory=lambda: ["first"])
    broken: bool = False
    body: bytes | None = None
    leads_to: str = ""
    requests: int = 0
    hold: threading.Event | None = None
    server: ThreadingHTTPServer | None = None

    @property
    def issuer(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}/auth/realms/clinicpacs"

    def claims(
        self, name: str = "nora", *, groups: Any = DEFAULT_GROUPS, roles: Any = (), **more: Any
    ) -> dict[str, Any]:
        now = int(self.clock.now().timestamp())
        made = {
            "exp": now + 300,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": [AUDIENCE, "account"],
            "sub": f"subject-of-{name}",
            "typ": "Bearer",
            "azp": CLIENT,
            "realm_access": {"roles": [*roles, "offline_access"]},
            "preferred_username": name,
            "groups": list(groups) if isinstance(groups, tuple) else groups,
        }
        return {each: value for each, value in (made | more).items() if value is not ...}

    def token(self, name: str = "nora", *, kid: str = "first", header: Any = None, **claims: Any) -> str:
        return jwt.encode(
            {"alg": "RS256", "kid": kid, **(header or {})}, self.claims(name, **claims), key(kid)
        )

    def answer(self, path: str) -> tuple[int, bytes]:
        self.requests += 1
        if self.hold is not None:
            self.hold.wait(10)
        if self.broken:
            return 500, b"{}"
        if self.leads_to and not path.endswith(self.leads_to):
            return 302, b""
        if path.endswith("/openid-configuration"):
            found: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/certs"}
            return 200, json.dumps(found).encode()
        return 200, self.body or json.dumps({"keys": [public_jwk(each) for each in self.keys]}).encode()


@contextmanager
def running_issuer(clock: TurnedClock) -> Iterator[Issuer]:
    issuer = Issuer(clock)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", issuer.leads_to)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    issuer.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.server.daemon_threads = True
    with served(issuer.server):
        yield issuer


@contextmanager
def served(server: Any) -> Iterator[None]:
    """A server, in a thread, until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(application: Any) -> Iterator[str]:
    """A WSGI application over real HTTP; gives its root URL."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    with served(server):
        yield f"http://127.0.0.1:{server.server_port}"


@dataclass(frozen=True)
class Sample:
    """A study of the sample archive: one series a modality, `instances` in each."""

    name: str
    owner: ClinicId | None
    modalities: tuple[str, ...] = ("CT",)
    instances: int = 2
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def study(self) -> Uid:
        return Uid(sample_uid("gateway", self.name))

    def series(self, modality: str | None = None) -> Uid:
        return Uid(sample_uid("gateway", self.name, modality or self.modalities[0]))

    def instance(self, modality: str | None = None, number: int = 1) -> Uid:
        return Uid(sample_uid("gateway", self.name, modality or self.modalities[0], number))

    def path(self, modality: str | None = None, number: int = 1) -> str:
        series = f"/studies/{self.study}/series/{self.series(modality)}"
        return f"{series}/instances/{self.instance(modality, number)}"

    def file(self, modality: str, number: int = 1) -> bytes:
        return instance_bytes(
            modality,
            study_uid=self.study,
            series_uid=self.series(modality),
            sop_instance_uid=self.instance(modality, number),
            instance_number=number,
            **dict(self.options),
        )

    def files(self) -> list[bytes]:
        return [
            self.file(each, number) for each in self.modalities for number in range(1, self.instances + 1)
        ]


MINE = Sample("mine", NORTH, ("CT", "SR"))
DOCUMENT = Sample("document", NORTH, ("PDF",), 1)
CLIP = Sample("clip", NORTH, ("US",), 1)
THEIRS = Sample("theirs", SOUTH, ("MR", "PDF"), options=(("patient", "cyrillic"),))
UNOWNED = Sample("unowned", None)
NOWHERE = Sample("nowhere", None)
STORED = (MINE, DOCUMENT, CLIP, THEIRS, UNOWNED)


@dataclass
class SampleArchive:
    """A running archive that holds the samples, and what it says of each."""

    kind: str
    settings: ArchiveSettings
    said: dict[str, ArchivedStudy] = field(default_factory=dict)

    def fill(self) -> SampleArchive:
        for sample in STORED:
            self.said[sample.name] = self.store(sample)
        return self

    def store(self, sample: Sample) -> ArchivedStudy:
        client = DicomWebArchive(self.settings)
        files = sample.files()
        answer = client.store([Part([content], len(content)) for content in files])
        assert len(answer.stored) == len(files)
        found = client.study(sample.study)
        client.close()
        assert found is not None
        return found


def add_clinics(catalog: Catalog) -> None:
    with catalog.write() as connection:
        for clinic in (NORTH, SOUTH, CLOSED):
            clinics.add(connection, clinic, clinic.capitalize(), NOW)
        clinics.deactivate(connection, CLOSED)


def own(catalog: Catalog, sample: Sample, archived: ArchivedStudy) -> None:
    """What the importer writes about a study that it has stored."""
    assert sample.owner is not None
    with catalog.write() as connection:
        for modality in sample.modalities:
            claim = ownership.Claim(
                sample.owner, sample.study, sample.series(modality), archived.text("00100020")
            )
            assert ownership.reserve(connection, claim, NOW) is ownership.Granted.OWNED
        before = worklist.standing(connection, sample.study)
        assert before
        worklist.record(connection, archived, before, clean=True, now=NOW, settles_at=NOW)


class World:
    """A gateway and its callers."""

    def __init__(self, catalog: Catalog, issuer: Issuer, archive: SampleArchive, **settings: Any) -> None:
        self.catalog = catalog
        self.issuer = issuer
        self.clock = issuer.clock
        self.archive = archive
        self.settings = gateway_settings(issuer, archive.settings, **settings)
        self.app: Flask = create_app(self.settings, catalog=catalog, clock=self.clock)

    def get(self, path: str, token: str | None = None, method: str = "GET", **headers: str) -> TestResponse:
        """Ask for a path below /dicom-web; by nora of northside unless told otherwise."""
        bearer = self.issuer.token() if token is None else token
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            named["Authorization"] = f"Bearer {bearer}"
        return self.app.test_client().open(f"/dicom-web{path}", method=method, headers=named)

    def uids(self, query: str = "", token: str | None = None) -> list[str]:
        """The studies that a search finds, in its order."""
        answer = self.get(f"/studies?{query}", token)
        assert answer.status_code == 200, answer.text
        return [each["0020000D"]["Value"][0] for each in answer.get_json(force=True)]

    @property
    def sam(self) -> str:
        return self.issuer.token("sam", groups=[f"/clinics/{SOUTH}"])

    @property
    def rita(self) -> str:
        return self.issuer.token("rita", groups=[], roles=["radiologist"])

    def audited(self) -> list[dict[str, Any]]:
        self.app.extensions["gateway"].denials.flush()
        with self.catalog.read() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.id)).mappings()
            return [dict(row) for row in rows]

    def file(self, sample: Sample) -> None:
        """Store one more study and own it, as the importer does."""
        own(self.catalog, sample, self.archive.store(sample))

    def set_study(self, sample: Sample, **values: Any) -> None:
        with self.catalog.write() as connection:
            connection.execute(update(studies).where(studies.c.study_uid == sample.study).values(**values))

    def insert(self, table: Any, **values: Any) -> None:
        with self.catalog.write() as connection:
            connection.execute(insert(table).values(**values))

    def close(self) -> None:
        self.app.extensions["gateway"].denials.close()
        self.app.extensions["gateway"].upstream.close()


def gateway_settings(issuer: Issuer, archive: ArchiveSettings, **more: Any) -> GatewaySettings:
    given: dict[str, Any] = {
        "oidc_issuer": issuer.issuer,
        "public_url": PUBLIC,
        "archive_url": archive.archive_url,
        "archive_username": archive.archive_username,
        "archive_password": archive.archive_password,
        "archive_timeout_seconds": 10,
    }
    return GatewaySettings(**(given | more))
