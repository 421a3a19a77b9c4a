"""A real nginx by the very files of nginx/, filled in as its image does: only folders and ports are moved."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "nginx"
PASSWORD = "archive secret/+of the gateway"
_PROGRAMS = "/usr/sbin:/usr/local/sbin"
_START_SECONDS = 60

# What docker-entrypoint.sh and 20-envsubst-on-templates.sh of the official image do.
_ENTRYPOINT = """
set -e
. "$SCRIPTS/16-settings.envsh"
defined=$(printf '${%s} ' $(awk "
    END { for (name in ENVIRON) { print ( name ~ /${NGINX_ENVSUBST_FILTER}/ ) ? name : \\"\\" } }
" < /dev/null))
for template in "$TEMPLATES"/*.template; do
    envsubst "$defined" < "$template" > "$OUTPUT/$(basename "$template" .template)"
done
"""


def program() -> str | None:
    """The installed nginx; NGINX_PROGRAM names another one."""
    return os.environ.get("NGINX_PROGRAM") or shutil.which("nginx") or shutil.which("nginx", path=_PROGRAMS)


def missing_program() -> str | None:
    """What has to be installed first."""
    if program() is None:
        return "nginx"
    return None if shutil.which("envsubst") else "envsubst (gettext-base)"


def make_certificate(folder: Path, name: str = "localhost") -> None:
    """A self-signed certificate, as scripts/generate-certs.sh makes one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    written = {
        "fullchain.pem": certificate.public_bytes(pem),
        "privkey.pem": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password),
    }
    for file, content in written.items():
        # By a rename, as certbot's hook does: nginx 1.27.4 and newer keep what has the same inode and second.
        new = folder / f".{file}.new"
        new.write_bytes(content)
        new.replace(folder / file)


def fill_in(output: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint's scripts; `output` is /etc/nginx/conf.d."""
    output.mkdir(parents=True, exist_ok=True)
    found = program()
    assert found
    given = {
        "PATH": f"{Path(found).parent}:{os.environ['PATH']}",
        "SCRIPTS": str(SOURCE / "docker-entrypoint.d"),
        "TEMPLATES": str(SOURCE / "templates"),
        "OUTPUT": str(output),
    }
    return subprocess.run(
        ["sh", "-c", _ENTRYPOINT],
        env=given | dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Nginx:
    """A running nginx, and a client of it.

    Args:
        folder: where its files go.
        upstreams: ports of gateway, keycloak, orthanc and grafana.
        resolver: HOST:PORT of the name server that knows these names.
        viewer: OHIF's files.
        changes: of the files' text, for a test that provokes something.
    """

    folder: Path
    upstreams: Mapping[str, int]
    resolver: str
    viewer: Path
    changes: Mapping[str, str] = field(default_factory=dict)
    http_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)
    status_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def public_url(self) -> str:
        return f"https://localhost:{self.https_port}"

    @property
    def configuration(self) -> Path:
        return self.folder / "etc" / "nginx.conf"

    @property
    def certificates(self) -> Path:
        return self.folder / "etc" / "certs"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def frames(self) -> Path:
        """In memory, in production."""
        return self.folder / "frames"

    @property
    def log(self) -> Path:
        return self.folder / "nginx.log"

    def write(self) -> None:
        """The files, as they lie in the container."""
        for each in (self.certificates, self.cache, self.frames, self.folder / "tmp"):
            each.mkdir(parents=True, exist_ok=True)
        if not (self.certificates / "privkey.pem").exists():
            make_certificate(self.certificates)
        filled = fill_in(self.folder / "etc" / "conf.d", self.environment())
        assert filled.returncode == 0, filled.stderr
        shutil.copytree(SOURCE / "snippets", self.folder / "etc" / "snippets", dirs_exist_ok=True)
        shutil.copy(SOURCE / "nginx.conf", self.configuration)
        for path in (self.folder / "etc").rglob("*.conf"):
            path.write_text(self.moved(path.read_text()))

    def environment(self) -> dict[str, str]:
        return {
            "PUBLIC_URL": self.public_url,
            "ARCHIVE_GATEWAY_PASSWORD": PASSWORD,
            "NGINX_RESOLVER": self.resolver,
            "FRAME_CACHE_SIZE": "64m",
        }

    def moved(self, text: str) -> str:
        """A file of the container with the folders and ports of this machine."""
        moves = {
            "/etc/nginx/": f"{self.folder}/etc/",
            "/tmp/": f"{self.folder}/tmp/",
            "/var/cache/nginx": str(self.cache),
            "/var/cache/frames": str(self.frames),
            "/usr/share/nginx/ohif": str(self.viewer),
            "/usr/share/nginx/clinicpacs": str(ROOT / "ohif"),
            "listen 8080": f"listen 127.0.0.1:{self.http_port}",
            "listen 8443": f"listen 127.0.0.1:{self.https_port}",
            "listen 8081": f"listen 127.0.0.1:{self.status_port}",
            "gateway:8000": f"gateway:{self.upstreams['gateway']}",
            "keycloak:8080": f"keycloak:{self.upstreams['keycloak']}",
            "orthanc:8042": f"orthanc:{self.upstreams['orthanc']}",
            "grafana:3000": f"grafana:{self.upstreams['grafana']}",
            "valid=5s": "valid=1s",
        }
        moves |= self.changes
        return re.sub("|".join(map(re.escape, moves)), lambda found: moves[found[0]], text)

    def command(self, *arguments: str) -> list[str]:
        found = program()
        assert found
        # As root it would serve as `nobody`, who may not read the tests' folders.
        user = "user root;" if os.geteuid() == 0 else ""
        globally = f"daemon off; {user}"
        return [found, "-p", str(self.folder), "-c", str(self.configuration), "-g", globally, *arguments]

    def start(self) -> Nginx:
        self.write()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                # With its own certificate: another server on this port is not the one that was started.
                with self.connect():
                    return self
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"nginx did not start: {self.log.read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificates / "fullchain.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        client: str = "127.0.0.1",
    ) -> urllib3.BaseHTTPResponse:
        """Ask over HTTPS, from an address of this machine."""
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            self.https_port,
            ssl_context=self.trust(),
            server_hostname="localhost",
            assert_hostname="localhost",
            source_address=(client, 0),
            retries=False,
            timeout=60,
        ) as pool:
            named = {"Host": f"localhost:{self.https_port}"} | dict(headers or {})
            return pool.urlopen(method, path, body=body, headers=named, redirect=False)

    def get(self, path: str, client: str = "127.0.0.1", **headers: str) -> urllib3.BaseHTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", path, named, client=client)

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A connection to send raw bytes over."""
        plain = socket.create_connection(("127.0.0.1", self.https_port), 60)
        return (context or self.trust()).wrap_socket(plain, server_hostname="localhost")

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; the whole answer. The request must ask to close the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(1 << 16):
                answer += chunk
            return answer
