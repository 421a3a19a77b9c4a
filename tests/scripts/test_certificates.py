"""scripts/generate-certs.sh and what certbot runs: the real openssl, and a real ACME server if installed."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from support.shell import ROOT, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def installed(machine: Machine) -> None:
    """An installation of the user who runs the tests."""
    (machine.root / ".env").write_text(
        f"DOMAIN=pacs.example.org\nPACS_UID={os.getuid()}\nPACS_GID={os.getgid()}\n"
    )


def generate(machine: Machine, *arguments: str) -> str:
    done = machine.run("./scripts/generate-certs.sh", *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def certificate(machine: Machine) -> str:
    return openssl("x509", "-in", str(machine.root / "certs/fullchain.pem"), "-noout", "-text")


def content(machine: Machine) -> tuple[bytes, bytes]:
    certs = machine.root / "certs"
    return (certs / "fullchain.pem").read_bytes(), (certs / "privkey.pem").read_bytes()


def foreign(machine: Machine, *, days: int, name: str = "pacs.example.org") -> None:
    """Put a certificate in place that a CA issued."""
    certs = machine.root / "certs"
    certs.mkdir(exist_ok=True)
    ca, key = str(certs / "ca.pem"), str(certs / "ca.key")
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-subj", "/CN=Example CA", "-keyout", key, "-out", ca)
    openssl(
        *(*new, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", str(days)),
        *(
            "-CA",
            ca,
            "-CAkey",
            key,
            "-keyout",
            str(certs / "privkey.pem"),
            "-out",
            str(certs / "fullchain.pem"),
        ),
    )


def test_a_self_signed_certificate_serves_tls_for_all_its_names(machine: Machine) -> None:
    assert "self-signed certificate made: CN=pacs.example.org" in generate(machine, "self-signed")
    certs = machine.root / "certs"
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certs / "fullchain.pem", certs / "privkey.pem")
    for name in ("pacs.example.org", "localhost", "127.0.0.1"):
        client = ssl.create_default_context(cafile=certs / "fullchain.pem")
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=partial(_accept, server, theirs))
        thread.start()
        with client.wrap_socket(ours, server_hostname=name) as secured:
            assert secured.version() == "TLSv1.3"
        thread.join()
    text = certificate(machine)
    assert "NIST CURVE: P-256" in text
    assert "TLS Web Server Authentication" in text


def _accept(context: ssl.SSLContext, connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(1)


def test_only_owner_and_group_can_read_the_key(machine: Machine) -> None:
    generate(machine, "self-signed")
    certs = machine.root / "certs"
    assert stat.S_IMODE(certs.stat().st_mode) == 0o700
    assert stat.S_IMODE((certs / "privkey.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in certs.iterdir()) == ["fullchain.pem", "privkey.pem"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_nginx_s_group_gets_the_key(machine: Machine) -> None:
    (machine.root / ".env").write_text("PACS_UID=4711\nPACS_GID=4712\n")
    generate(machine, "self-signed")
    owner = (machine.root / "certs/privkey.pem").stat()
    assert (owner.st_uid, owner.st_gid) == (4711, 4712)


def test_it_lasts_as_long_as_browsers_allow(machine: Machine) -> None:
    generate(machine, "self-signed")
    dates = openssl("x509", "-in", str(machine.root / "certs/fullchain.pem"), "-noout", "-enddate")
    end = dt.datetime.strptime(dates.partition("=")[2].strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=dt.UTC)
    assert dt.timedelta(days=820) < end - dt.datetime.now(dt.UTC) <= dt.timedelta(days=825)


@pytest.mark.parametrize(
    ("domain", "name"), [("192.0.2.7", "IP Address:192.0.2.7"), ("a.example.org", "DNS:a.")]
)
def test_names_and_addresses(machine: Machine, domain: str, name: str) -> None:
    generate(machine, "self-signed", "--domain", domain)
    assert name in certificate(machine)
    assert "certificate is kept" in generate(machine, "self-signed", "--domain", domain)


def test_one_that_serves_is_kept_and_force_makes_another(machine: Machine) -> None:
    generate(machine, "self-signed")
    before = content(machine)
    assert "certificate is kept" in generate(machine, "self-signed")
    assert content(machine) == before
    generate(machine, "self-signed", "--force")
    assert content(machine) != before
    assert (machine.root / "certs/privkey.pem.previous").read_bytes() == before[1]


@pytest.mark.parametrize("spoilt", ["another name", "another key", "no key", "no certificate at all"])
def test_one_of_ours_that_does_not_serve_is_made_anew(machine: Machine, spoilt: str) -> None:
    generate(machine, "self-signed", *(["--domain", "old.example.org"] if spoilt == "another name" else []))
    certs = machine.root / "certs"
    if spoilt == "another key":
        openssl(
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            str(certs / "privkey.pem"),
        )
    elif spoilt == "no key":
        (certs / "privkey.pem").unlink()
    elif spoilt == "no certificate at all":
        (certs / "fullchain.pem").write_text("not a certificate\n")
    assert "self-signed certificate made" in generate(machine, "self-signed")
    assert "DNS:pacs.example.org" in certificate(machine)


def test_one_that_ends_within_a_month_is_made_anew_only_if_it_is_ours(machine: Machine) -> None:
    foreign(machine, days=10)
    before = content(machine)
    said = generate(machine, "self-signed")
    assert "is not of ours and is kept, but does not serve pacs.example.org" in said
    assert content(machine) == before
    foreign(machine, days=90)
    assert re.search("kept: .*issued by CN=Example CA, (89|90) days left", generate(machine, "self-signed"))


@pytest.mark.parametrize(
    "arguments", [[], ["self-signed", "--domain", "a b"], ["self-signed", "--domain", "/CN=x"], ["--x"]]
)
def test_wrong_arguments(machine: Machine, arguments: list[str]) -> None:
    assert machine.run("./scripts/generate-certs.sh", *arguments).returncode == 2
    assert not (machine.root / "certs").exists()


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ("localhost", "for public names only"),
        ("192.0.2.7", "for public names only"),
        ("other.example.org", "./scripts/setup.sh --domain other.example.org"),
    ],
)
def test_lets_encrypt_wants_the_platforms_public_name(machine: Machine, domain: str, sentence: str) -> None:
    done = machine.run("./scripts/generate-certs.sh", "letsencrypt", "--domain", domain)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert machine.calls == []


def test_the_first_issue_starts_nginx_asks_and_starts_the_renewal(machine: Machine) -> None:
    machine.program("getent", "#!/bin/sh\nexit 2\n")
    said = generate(machine, "letsencrypt", "--email", "it@example.org")
    assert "cannot be resolved" in said
    up, run, renewal = (call for call in machine.calls if call[0] == "compose")
    assert up == ["compose", "up", "--detach", "--no-deps", "--wait", "nginx"]
    assert run[-4:] == ["certbot", "issue", "pacs.example.org", "it@example.org"]
    assert renewal == ["compose", "--profile", "letsencrypt", "up", "--detach", "--no-deps", "certbot"]
    assert machine.env["COMPOSE_PROFILES"] == "letsencrypt"
    assert machine.env["LETSENCRYPT_EMAIL"] == "it@example.org"
    assert (machine.root / "certs/privkey.pem").exists(), "nginx could not have started without one"
    generate(machine, "letsencrypt")
    assert machine.env["COMPOSE_PROFILES"] == "letsencrypt"


def test_a_rehearsal_changes_no_setting(machine: Machine) -> None:
    before = (machine.root / ".env").read_bytes()
    machine.answer("ours", "0123456789ab")
    generate(machine, "letsencrypt", "--staging")
    assert [call[-1] for call in machine.calls if call[0] == "compose"] == ["--staging"]
    assert (machine.root / ".env").read_bytes() == before


def test_when_lets_encrypt_refuses_the_present_certificate_stays(machine: Machine) -> None:
    generate(machine, "self-signed")
    before = content(machine)
    machine.answer("run", "Challenge failed", fails=True)
    done = machine.run("./scripts/generate-certs.sh", "letsencrypt")
    assert done.returncode == 1
    assert "the present one stays" in done.stdout
    assert content(machine) == before
    assert "COMPOSE_PROFILES" not in machine.env


def test_the_hook_puts_a_renewed_certificate_in_place_once(machine: Machine) -> None:
    generate(machine, "self-signed")
    old = content(machine)
    archive, live = machine.root / "archive", machine.root / "live"
    for folder in (archive, live):
        folder.mkdir()
    for name, text in (("fullchain", "new chain"), ("privkey", "new key")):
        (archive / f"{name}2.pem").write_text(text)
        (archive / f"{name}2.pem").chmod(0o600)
        (live / f"{name}.pem").symlink_to(f"../archive/{name}2.pem")
    machine.environment.update(RENEWED_LINEAGE=str(live), CERTS=str(machine.root / "certs"))
    done = machine.run("scripts/certbot/deploy-hook.sh")
    assert done.stdout == "privkey.pem put in place\nfullchain.pem put in place\n"
    assert content(machine) == (b"new chain", b"new key")
    key = machine.root / "certs/privkey.pem"
    assert not key.is_symlink()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (machine.root / "certs/privkey.pem.previous").read_bytes() == old[1]
    assert machine.run("scripts/certbot/deploy-hook.sh").stdout == ""


class _Acme:
    """A real ACME server (pebble), and a web server that serves the challenges as nginx does."""

    def __init__(self, machine: Machine, tmp_path: Path) -> None:
        self.certs = machine.root / "certs"
        webroot = self.certs / "acme"
        webroot.mkdir(parents=True)
        quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        self.web = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(webroot)))
        threading.Thread(target=self.web.serve_forever).start()
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            port, management = one.getsockname()[1], two.getsockname()[1]
        Machine.at(tmp_path / "acme").run("./scripts/generate-certs.sh", "self-signed")
        of_server = tmp_path / "acme/certs"
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(of_server / "fullchain.pem"),
            "privateKey": str(of_server / "privkey.pem"),
            "httpPort": self.web.server_address[1],
            "tlsPort": 1,
        }
        (tmp_path / "pebble.json").write_text(json.dumps({"pebble": config}))
        self.log = (tmp_path / "pebble.txt").open("w")
        self.pebble = subprocess.Popen(
            ["pebble", "-config", str(tmp_path / "pebble.json")],
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
            stdout=self.log,
            stderr=self.log,
        )
        self.environment = {
            "ACME_SERVER": f"https://localhost:{port}/dir",
            "REQUESTS_CA_BUNDLE": str(of_server / "fullchain.pem"),
            "CERTS": str(self.certs),
            "TMPDIR": str(tmp_path),
        }
        _wait_for(port)

    def close(self) -> None:
        self.pebble.terminate()
        self.pebble.wait()
        self.log.close()
        self.web.shutdown()
        self.web.server_close()


def _wait_for(port: int) -> None:
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    while dt.datetime.now(dt.UTC) < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail("pebble does not answer")


@pytest.fixture
def acme(machine: Machine, tmp_path: Path) -> Iterator[_Acme]:
    """The server, if certbot and pebble are installed."""
    if shutil.which("certbot") is None or shutil.which("pebble") is None:
        pytest.skip("certbot and pebble are not installed")
    started = _Acme(machine, tmp_path)
    yield started
    started.close()


def test_certbot_issues_keeps_and_renews_against_a_real_server(machine: Machine, acme: _Acme) -> None:
    generate(machine, "self-signed")
    machine.environment.update(acme.environment)
    issue = ["scripts/certbot/certbot.sh", "issue", "localhost", "it@example.org"]
    done = machine.run(*issue)
    assert done.returncode == 0, done.stdout
    issued = content(machine)
    # OpenSSL 3.2 and newer put no spaces there.
    assert re.search("Issuer: CN ?= ?Pebble Intermediate CA", certificate(machine))
    assert "PRIVATE KEY" in issued[1].decode()
    assert machine.run(*issue).returncode == 0
    assert content(machine) == issued, "one that is not due is kept"
    renewed = machine.run(
        *("certbot", "renew", "--non-interactive", "--force-renewal", "--config-dir", "certs/letsencrypt"),
        *("--work-dir", "work", "--logs-dir", "work", "--no-random-sleep-on-renew"),
    )
    assert renewed.returncode == 0, renewed.stdout
    assert content(machine) != issued, "the hook of the first issue is run by every renewal"


@pytest.mark.parametrize("restored", ["as links", "as files"])
def test_what_a_restore_brought_back_is_renewed(machine: Machine, acme: _Acme, restored: str) -> None:
    """Backups of older versions hold the files that certbot's links lead to, in the links' places."""
    machine.environment.update(acme.environment)
    issue = ["scripts/certbot/certbot.sh", "issue", "localhost", "it@example.org"]
    assert machine.run(*issue).returncode == 0
    live = machine.root / "certs/letsencrypt/live/clinicpacs"
    if restored == "as files":
        for link in live.glob("*.pem"):
            content_of = link.read_bytes()
            link.unlink()
            link.write_bytes(content_of)
    issued = content(machine)
    again = machine.run(*issue)
    assert again.returncode == 0, again.stdout
    assert content(machine) == issued
    assert {link.name for link in live.glob("*.pem") if link.is_symlink()} == {
        *("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"),
    }
    assert [path.name for path in live.parent.iterdir() if path.is_dir()] == ["clinicpacs"]
    renewed = machine.run(
        *("certbot", "renew", "--non-interactive", "--force-renewal", "--config-dir", "certs/letsencrypt"),
        *("--work-dir", "work", "--logs-dir", "work", "--no-random-sleep-on-renew"),
    )
    assert renewed.returncode == 0, renewed.stdout
    assert content(machine) != issued


def test_a_certificate_that_certbot_does_not_know_is_not_asked_for_anew(machine: Machine) -> None:
    """certbot would file the new one under another name, and the old one would go on being served."""
    live = machine.root / "certs/letsencrypt/live/clinicpacs"
    live.mkdir(parents=True)
    (live / "cert.pem").write_text("from elsewhere")
    machine.program("certbot", "#!/bin/sh\ntouch asked\n")
    machine.environment.update(CERTS=str(machine.root / "certs"))
    done = machine.run("scripts/certbot/certbot.sh", "issue", "localhost", "it@example.org")
    assert done.returncode == 1
    assert "issue anew" in done.stdout
    assert not (machine.root / "asked").exists()


def test_the_scripts_of_the_container_are_there_as_compose_mounts_them() -> None:
    for name in ("certbot.sh", "deploy-hook.sh"):
        assert os.access(ROOT / "scripts/certbot" / name, os.X_OK)
