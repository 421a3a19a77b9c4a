"""The gateway's /orthanc with a real archive and the embedded issuer, on one https origin as behind nginx."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import os
import re
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from admin.directory import NewUser
from admin.directory.embedded import EmbeddedDirectory
from demo import orthanc as orthanc_parts
from demo.issuer import REALM_PATH, IssuerConfig, create_issuer
from gateway.app import create_app
from gateway.clock import Clock
from gateway.explorer.cookies import session_cookie
from gateway.settings import GatewaySettings
from support.gateway import served
from support.orthanc import PASSWORDS, Orthanc, command
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from werkzeug.test import TestResponse

    from pacs.catalog import Catalog
    from support.gateway import World

SECRET = "explorer-secret"
PASSWORD = "demo"
ADMIN = {"groups": [], "roles": ["pacs-admin"]}
PEOPLE: dict[str, tuple[list[str], list[str]]] = {
    "ada": (["northside"], ["pacs-admin"]),
    "nora": (["northside"], []),
}
SESSION, PENDING = "__Secure-clinicpacs-orthanc", "__Secure-clinicpacs-orthanc-sign-in"
PROTOCOL = f"{REALM_PATH}/protocol/openid-connect"
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@contextmanager
def unfiltered_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An Orthanc whose users may do everything: for what the gateway does with it by itself."""
    text = orthanc_parts.CONFIGURATION.read_text()
    configuration = folder / "orthanc.json"
    configuration.write_text(text.replace('"LuaScripts": ["filter.lua"]', '"LuaScripts": []'))
    assert configuration.read_text() != text
    port, log = free_port(), folder / "orthanc.log"
    environment = os.environ | orthanc_parts.environment(folder / "storage", port, PASSWORDS, 1)
    with log.open("wb") as file:
        process = subprocess.Popen(command(configuration), stdout=file, stderr=file, env=environment)
    server = Orthanc(f"http://127.0.0.1:{port}", process, log)
    try:
        assert server._is_ready(), log.read_text(errors="replace")[-2000:]
        yield server
    finally:
        server.stop()


def explorer_settings(orthanc_url: str, **more: Any) -> dict[str, Any]:
    """What turns the route on."""
    given: dict[str, Any] = {
        "orthanc_url": orthanc_url,
        "orthanc_admin_username": "admin",
        "orthanc_admin_password": SecretStr(PASSWORDS["admin"]),
        "explorer_client_secret": SecretStr(SECRET),
    }
    return given | more


class Seen(list[Any]):
    """What reached the archive: method, raw path, headers, body."""


@contextmanager
def recording_archive(
    answer: Callable[[str], tuple[int, dict[str, str], bytes] | None],
) -> Iterator[tuple[str, Seen]]:
    """A server in the archive's place that keeps what it was sent; for what must never reach a real one.

    Where `answer` says None it closes the connection.
    """
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path, dict(self.headers), body))
            said = answer(self.path)
            if said is None:
                self.close_connection = True
                return
            status, headers, content = said
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - as the base class has them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", seen


class Door:
    """A gateway whose /orthanc leads to an archive."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.app.test_client(use_cookies=False)

    def ask(self, path: str, token: str | None = None, method: str = "GET", **more: Any) -> TestResponse:
        """By ada, an administrator, unless told otherwise."""
        headers = more.pop("headers", {})
        bearer = self.admin() if token is None else token
        if bearer:
            headers = {"Authorization": f"Bearer {bearer}", **headers}
        return self.client.open(f"/orthanc{path}", method=method, headers=headers, **more)

    def by_cookie(self, path: str, method: str = "POST", **headers: str) -> TestResponse:
        """As a browser that is signed in; `headers` with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Cookie"] = f"{SESSION}={self.sealed(self.admin())}"
        return self.client.open(f"/orthanc{path}", method=method, headers=named)

    def admin(self, **claims: Any) -> str:
        return self.world.issuer.token("ada", **(ADMIN | claims))

    def sealed(self, token: str) -> str:
        cookie = session_cookie(self.world.settings.explorer_client_secret)
        return cookie.seal({"access_token": token}, self.world.clock.now(), 300)

    def rows(self) -> list[tuple[str, str, bool, str]]:
        return [
            (row["username"], row["detail"], row["allowed"], row["source"])
            for row in self.world.audited()
            if row["action"] == "archive-request"
        ]


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for this machine by nobody, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    alternatives: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(paths[0]), str(paths[1])


@dataclass
class Site:
    """One https origin; `inside` is the same over plain http, as the gateway reaches the issuer.

    Attributes:
        another_gateway: A second process of the gateway, as far as the first one can tell.
        asked: What the issuer's token endpoint was asked for: the grants.
        is_away: Whether the issuer answers as nginx does when it is not there.
    """

    url: str
    inside: str
    gateway: Flask
    another_gateway: Flask
    issuer: Flask
    directory: EmbeddedDirectory
    asked: list[str] = field(default_factory=list)
    is_away: bool = False

    def browser(self) -> requests.Session:
        """Cookies as a browser keeps them, but for SameSite."""
        session = requests.Session()
        session.verify = False
        session.trust_env = False
        session.headers.update(NAVIGATION)
        return session


class _Late:
    """An application that is set when the port is known; it notes who asks the issuer for tokens."""

    app: Any = None
    site: Site | None = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self.site and self.site.is_away and environ["PATH_INFO"] == f"{PROTOCOL}/logout":
            return Response("", 503)(environ, start_response)
        if self.site and environ["PATH_INFO"] == f"{PROTOCOL}/token":
            asked = Request(environ)
            body = asked.get_data()
            environ["wsgi.input"] = io.BytesIO(body)
            self.site.asked.append(parse_qs(body.decode())["grant_type"][0])
            if self.site.is_away:
                return Response("", 503)(environ, start_response)
        return self.app(environ, start_response)


@contextmanager
def running_site(
    folder: Path, catalog: Catalog, orthanc_url: str, clock: Clock | None = None, **settings: Any
) -> Iterator[Site]:
    """Serve gateway and issuer until the block ends."""
    clock = clock or Clock()
    late = _Late()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(folder))
    outside = make_server("127.0.0.1", free_port(), late, threaded=True, ssl_context=context)
    inside = make_server("127.0.0.1", 0, late, threaded=True)
    url, inner = f"https://localhost:{outside.server_port}", f"http://127.0.0.1:{inside.server_port}"
    directory = EmbeddedDirectory(folder / "identity.db", lambda: clock.now().timestamp())
    directory.ensure_clinic("northside", "Northside")
    for name, (clinics, roles) in PEOPLE.items():
        directory.add_user(NewUser.of(name, f"{name}@example.org", clinics, roles), PASSWORD)
    config = IssuerConfig(url + REALM_PATH, explorer_secret=SECRET)
    issuer = create_issuer(config, directory, folder, lambda: clock.now().timestamp())
    issuer.config["TRUSTED_HOSTS"] = ["localhost", "127.0.0.1"]
    given = {
        "oidc_issuer": url + REALM_PATH,
        "oidc_jwks_url": f"{inner}{PROTOCOL}/certs",
        "oidc_token_url": f"{inner}{PROTOCOL}/token",
        "public_url": url,
    }
    told = GatewaySettings(**(given | explorer_settings(orthanc_url) | settings))
    gateway, another = (create_app(told, catalog=catalog, clock=clock) for _ in range(2))
    late.app = DispatcherMiddleware(gateway, {REALM_PATH: issuer})
    late.site = Site(url, inner, gateway, another, issuer, directory)
    with served(outside), served(inside):
        yield late.site
    for each in (gateway, another):
        each.extensions["gateway"].denials.close()
    directory.database.close()


def begin(site: Site, browser: requests.Session, path: str = "/orthanc/") -> dict[str, str]:
    """Open a page without a cookie; the parameters with which the issuer is asked."""
    answer = browser.get(site.url + path, allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{site.url}{PROTOCOL}/auth?")
    return {name: each[0] for name, each in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def at_issuer(site: Site, browser: requests.Session, name: str, asked: dict[str, str]) -> str:
    """Sign in on the issuer's page; where it sends the browser back to."""
    page = browser.get(f"{site.url}{PROTOCOL}/auth?{urlencode(asked)}")
    action = re.search(r'<form method="post" action="([^"]+)"', page.text)
    assert action, page.text
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    answer = browser.post(
        site.url + action[1].replace("&amp;", "&"),
        data={**hidden, "username": name, "password": PASSWORD},
        headers={"Origin": site.url},
        allow_redirects=False,
    )
    assert answer.status_code in {302, 303}, answer.text
    return answer.headers["Location"]


def sign_in(site: Site, browser: requests.Session, name: str = "ada", path: str = "/orthanc/") -> Any:
    back = at_issuer(site, browser, name, begin(site, browser, path))
    return browser.get(back, allow_redirects=False)


def attributes(answer: requests.Response, name: str) -> dict[str, str]:
    """Of the cookie that an answer sets."""
    for cookie in answer.raw.headers.getlist("Set-Cookie"):
        if cookie.startswith(f"{name}="):
            parts = [each.strip().partition("=") for each in cookie.split(";")]
            return {key: value for key, _, value in parts}
    raise AssertionError(f"no {name}")
