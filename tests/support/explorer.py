"""The gateway's /orthanc with a real archive and the embedded issuer, on one https origin as behind nginx."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from admin.directory import NewUser
from admin.directory.embedded import EmbeddedDirectory
from demo import orthanc as orthanc_parts
from demo.issuer import REALM_PATH, IssuerConfig, create_issuer
from demo.processes import free_port
from gateway.app import create_app
from gateway.settings import GatewaySettings
from support.gateway import served
from support.orthanc import PASSWORDS, Orthanc, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask

    from pacs.catalog import Catalog

SECRET = "explorer-secret"
PASSWORD = "demo"
PEOPLE: dict[str, tuple[list[str], list[str]]] = {
    "ada": (["northside"], ["pacs-admin"]),
    "nora": (["northside"], []),
}
SESSION, PENDING = "__Secure-clinicpacs-orthanc", "__Secure-clinicpacs-orthanc-sign-in"
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
    """One https origin; `inside` is the same over plain http, as the gateway reaches the issuer."""

    url: str
    inside: str
    gateway: Flask
    issuer: Flask

    def browser(self) -> requests.Session:
        """Cookies as a browser keeps them, but for SameSite."""
        session = requests.Session()
        session.verify = False
        session.trust_env = False
        session.headers.update(NAVIGATION)
        return session


class _Late:
    """An application that is set when the port is known."""

    app: Any = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


@contextmanager
def running_site(folder: Path, catalog: Catalog, orthanc_url: str, **settings: Any) -> Iterator[Site]:
    """Serve gateway and issuer until the block ends."""
    late = _Late()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(folder))
    outside = make_server("127.0.0.1", free_port(), late, threaded=True, ssl_context=context)
    inside = make_server("127.0.0.1", 0, late, threaded=True)
    url, inner = f"https://localhost:{outside.server_port}", f"http://127.0.0.1:{inside.server_port}"
    directory = EmbeddedDirectory(folder / "identity.db")
    directory.ensure_clinic("northside", "Northside")
    for name, (clinics, roles) in PEOPLE.items():
        directory.add_user(NewUser.of(name, f"{name}@example.org", clinics, roles), PASSWORD)
    issuer = create_issuer(IssuerConfig(url + REALM_PATH, explorer_secret=SECRET), directory, folder)
    issuer.config["TRUSTED_HOSTS"] = ["localhost", "127.0.0.1"]
    protocol = f"{inner}{REALM_PATH}/protocol/openid-connect"
    given = {
        "oidc_issuer": url + REALM_PATH,
        "oidc_jwks_url": f"{protocol}/certs",
        "oidc_token_url": f"{protocol}/token",
        "public_url": url,
    }
    gateway = create_app(
        GatewaySettings(**(given | explorer_settings(orthanc_url) | settings)), catalog=catalog
    )
    late.app = DispatcherMiddleware(gateway, {REALM_PATH: issuer})
    with served(outside), served(inside):
        yield Site(url, inner, gateway, issuer)
    gateway.extensions["gateway"].denials.close()
    directory.database.close()
