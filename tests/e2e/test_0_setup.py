"""What an administrator has after `setup.sh` and `make up`: every service healthy, two ports, sound TLS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from demo.viewer import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stack import Stack

OURS = ("nginx", "gateway", "importer")


def _inspect(stack: Stack, service: str) -> dict[str, object]:
    container = stack.compose("ps", "--quiet", service).strip()
    parsed: dict[str, object] = json.loads(stack.run("docker", "inspect", container).stdout)[0]
    return parsed


def test_every_service_is_healthy(stack: Stack) -> None:
    assert stack.unhealthy() == []
    assert {"nginx", "gateway", "importer", "keycloak", "orthanc", "postgres", "prometheus"} <= set(
        stack.containers()
    )


def test_nothing_but_http_and_https_is_published(stack: Stack) -> None:
    published = {
        (name, publisher["PublishedPort"])
        for name, entry in stack.containers().items()
        for publisher in entry["Publishers"] or ()
        if publisher["PublishedPort"]
    }
    assert published == {
        ("nginx", int(stack.settings["HTTP_PORT"])),
        ("nginx", int(stack.settings["HTTPS_PORT"])),
    }


@pytest.mark.parametrize("service", OURS)
def test_our_containers_run_with_no_rights(stack: Stack, service: str) -> None:
    """Not root, a read-only root, no capabilities, no way to more, a limit of memory."""
    state = _inspect(stack, service)
    host = state["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    identity = stack.compose("exec", "-T", service, "id", "-u").strip()
    assert identity != "0"
    written = stack.run(
        "docker", "compose", "exec", "-T", service, "sh", "-c", "touch /stranger", check=False
    )
    assert written.returncode != 0


def test_the_one_container_with_capabilities_reaches_nothing_but_the_inbox(stack: Stack) -> None:
    state = _inspect(stack, "inbox-rights")
    host = state["HostConfig"]
    assert sorted(host["CapAdd"]) == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert [mount["Destination"] for mount in state["Mounts"]] == ["/data/inbox"]


def test_secrets_are_for_their_owner_only(stack: Stack) -> None:
    assert stat.S_IMODE((stack.root / ".env").stat().st_mode) == 0o600
    generated = [
        v for k, v in stack.settings.items() if k.endswith(("_PASSWORD", "_SECRET")) and k != "SMTP_PASSWORD"
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9]{24,}", secret) for secret in generated)
    assert len(set(generated)) == len(generated)


def test_no_secret_is_listed(stack: Stack) -> None:
    """Neither by Docker, nor by Compose, nor among the arguments of a process, nor in an image."""
    names = [entry["Name"] for entry in stack.containers().values()]
    images = stack.compose("config", "--images").split()
    listings = {
        "docker inspect": stack.run("docker", "inspect", *names, *images).stdout,
        "docker compose config": stack.compose("--profile", "tools", "config"),
        "processes": "".join(_arguments()),
        **{each: stack.run("docker", "history", "--no-trunc", each).stdout for each in images},
    }
    assert "DATABASE_URL" in listings["docker inspect"]
    assert "gateway" in listings["processes"]
    assert len(stack.secrets) >= 18
    found = {
        (what, name)
        for what, text in listings.items()
        for name in stack.secrets
        if stack.secrets[name] in text
    }
    assert not found


def _arguments() -> Iterator[str]:
    """Of every process of this machine, those in containers among them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace") + "\n"


def test_secrets_are_files_that_only_containers_reach(stack: Stack) -> None:
    assert stat.S_IMODE((stack.root / "secrets").stat().st_mode) == 0o700
    mounted = stack.compose("exec", "-T", "gateway", "ls", "/run/secrets").split()
    assert sorted(mounted) == [
        "ARCHIVE_PASSWORD",
        "DATABASE_PASSWORD",
        "EXPLORER_CLIENT_SECRET",
        "ORTHANC_ADMIN_PASSWORD",
    ]


def test_the_realm_is_as_env_says(stack: Stack) -> None:
    """`make up` only warns when it cannot tell."""
    assert "is in line with .env" in stack.clinicpacs("apply-realm").stdout


def test_setup_can_be_run_again(stack: Stack) -> None:
    before = (stack.root / ".env").read_bytes()
    stack.run("./scripts/setup.sh", "--yes")
    assert (stack.root / ".env").read_bytes() == before


def test_http_leads_to_https(stack: Stack) -> None:
    answer = stack.run(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}",
        f"http://localhost:{stack.settings['HTTP_PORT']}/viewer?StudyInstanceUIDs=1.2",
    )  # fmt: skip
    assert answer.stdout == f"301 {stack.url}/viewer?StudyInstanceUIDs=1.2"


def _handshake(stack: Stack, version: ssl.TLSVersion) -> tuple[str, str] | None:
    context = ssl.create_default_context(cafile=stack.certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = context.minimum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    port = urlsplit(stack.url).port or 443
    try:
        with (
            socket.create_connection(("localhost", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return str(tls.version()), tls.cipher()[0]
    except (ssl.SSLError, ConnectionError):
        return None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_1_2_or_1_3_with_forward_secrecy(stack: Stack) -> None:
    assert _handshake(stack, ssl.TLSVersion.TLSv1) is None
    assert _handshake(stack, ssl.TLSVersion.TLSv1_1) is None
    version, cipher = _handshake(stack, ssl.TLSVersion.TLSv1_2)
    assert version == "TLSv1.2"
    assert cipher.startswith("ECDHE-")
    assert re.search("GCM|CHACHA20", cipher)
    assert _handshake(stack, ssl.TLSVersion.TLSv1_3)[0] == "TLSv1.3"


def test_weak_ciphers_are_refused(stack: Stack) -> None:
    port = urlsplit(stack.url).port or 443
    for cipher in ("AES128-SHA", "AES256-SHA", "ECDHE-RSA-AES128-SHA", "DES-CBC3-SHA", "NULL-SHA256"):
        offered = ["-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"]
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"localhost:{port}", *offered],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert done.returncode != 0, cipher


def test_the_viewer_comes_with_its_headers(stack: Stack) -> None:
    page = stack.get("/")
    assert page.status_code == 200
    assert "<title>" in page.text
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "max-age=" in page.headers["Strict-Transport-Security"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] in {
        "no-referrer",
        "same-origin",
        "strict-origin-when-cross-origin",
    }
    assert "Server" not in page.headers or "/" not in page.headers["Server"]


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/readyz", "/auth/metrics", "/auth/health", "/nginx_status", "/_archive/x"],
)
def test_operations_are_not_published(stack: Stack, path: str) -> None:
    assert stack.get(path).status_code == 404


def test_the_archive_is_not_reachable_from_the_host(stack: Stack) -> None:
    for port in (8042, 4242, 5432, 9090, 9093, 3000):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port


def test_status_is_a_table_of_the_services(stack: Stack) -> None:
    said = stack.make("status")
    for word in ("nginx", "gateway", "healthy", stack.url):
        assert word in said
