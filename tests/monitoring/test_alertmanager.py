"""Whom Alertmanager tells of what, with the configuration that start.sh makes of the environment."""

from __future__ import annotations

import re
import shutil
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from conftest import missing

from support import monitoring
from support.alertmanager import SITE, START, Alertmanager, Written, shells, write
from support.mail import MailSink, self_signed
from support.monitoring import amtool, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

MAIL = {"ALERT_EMAIL_TO": "ada@hospital.example", "SMTP_HOST": "mail.hospital.example"}
TELEGRAM = {"TELEGRAM_BOT_TOKEN": "123456:AAbb_cc-dd", "TELEGRAM_CHAT_ID": "-1001234"}
HOSTILE = "it's: \"x\" # {y} &a *b !c `id` $(id) ${HOME} %s \\n \\' | > é"
FAILED = {
    "alertname": "DICOMImportFailed",
    "clinic": "northside",
    "severity": "warning",
}
ANNOTATIONS = {
    "summary": "Files could not be imported",
    "description": "2 files of clinic northside could not be imported <here> & there.",
    "runbook_url": f"{SITE}/help/troubleshooting#dicomimportfailed",
}


@pytest.fixture(params=shells(), ids=["sh", "busybox"])
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not shutil.which(name.split(maxsplit=1)[0]):
        missing(name.split(maxsplit=1)[0])
    return name


# --- the configuration


@pytest.mark.parametrize(
    ("environment", "kinds"),
    [
        (MAIL, {"email_configs"}),
        (TELEGRAM, {"telegram_configs"}),
        ({**MAIL, **TELEGRAM}, {"email_configs", "telegram_configs"}),
        ({**MAIL, "SMTP_USERNAME": HOSTILE, "SMTP_PASSWORD": HOSTILE}, {"email_configs"}),
        ({"SMTP_HOST": "mail.hospital.example", "SMTP_USERNAME": "ada"}, set()),
        ({}, set()),
    ],
    ids=["mail", "telegram", "both", "hostile", "mail for others only", "nothing"],
)
def test_receivers_are_those_that_the_environment_names(
    tmp_path: Path, shell: str, environment: dict[str, str], kinds: set[str]
) -> None:
    written = write(tmp_path, environment, shell)
    assert written.status == 0, written.said
    (receiver,) = written.configuration["receivers"]
    assert set(receiver) - {"name"} == kinds
    assert receiver["name"] == ("operators" if kinds else "nobody")
    assert ("nobody is told" in written.said) == (not kinds)
    amtool("check-config", written.path)


def test_values_arrive_as_they_are(tmp_path: Path, shell: str) -> None:
    """Whatever YAML, the shell or printf would make of them."""
    to = '"O\'Neil: #1" <ada@hospital.example>, rita@hospital.example'
    login = {
        "SMTP_USERNAME": HOSTILE,
        "SMTP_PASSWORD": HOSTILE,
        "SMTP_REQUIRE_TLS": "false",
        "SMTP_PORT": "25",
    }
    written = write(
        tmp_path, {**MAIL, **login, "ALERT_EMAIL_TO": to, "ALERT_EMAIL_FROM": "o'x@h.example"}, shell
    )
    assert written.status == 0, written.said
    assert written.of("email_configs")["to"] == to
    mail_server = written.configuration["global"]
    assert mail_server["smtp_smarthost"] == "mail.hospital.example:25"
    assert mail_server["smtp_from"] == "o'x@h.example"
    assert mail_server["smtp_auth_username"] == HOSTILE
    assert mail_server["smtp_require_tls"] is False
    password = written.run / "smtp-password"
    assert mail_server["smtp_auth_password_file"] == str(password)
    assert password.read_text() == HOSTILE


def test_secrets_are_for_alertmanager_alone(tmp_path: Path) -> None:
    written = write(tmp_path, {**MAIL, **TELEGRAM, "SMTP_USERNAME": "ada", "SMTP_PASSWORD": "hush-hush"})
    for path in (written.path, written.run / "smtp-password"):
        assert path.stat().st_mode & 0o777 == 0o600
    told = (written.run / "environment").read_text() + (written.run / "arguments").read_text() + written.said
    assert "hush-hush" not in told
    assert TELEGRAM["TELEGRAM_BOT_TOKEN"] not in told
    assert "hush-hush" not in written.path.read_text()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"ALERT_EMAIL_TO": "ada@hospital.example"}, ["SMTP_HOST"]),
        ({**MAIL, "ALERT_EMAIL_TO": "ada"}, ["ALERT_EMAIL_TO"]),
        ({**MAIL, "ALERT_EMAIL_TO": "{{ .X }}@hospital.example"}, ["ALERT_EMAIL_TO"]),
        ({**MAIL, "ALERT_EMAIL_TO": "a@b.example\nbcc: c@d.example"}, ["ALERT_EMAIL_TO"]),
        ({**MAIL, "ALERT_EMAIL_FROM": "a@b.example\r"}, ["ALERT_EMAIL_FROM"]),
        ({**MAIL, "SMTP_PORT": "25\nx: y", "SMTP_REQUIRE_TLS": "yes"}, ["SMTP_PORT", "SMTP_REQUIRE_TLS"]),
        ({**MAIL, "SMTP_HOST": "mail' x"}, ["SMTP_HOST"]),
        ({**MAIL, "SMTP_USERNAME": "ada"}, ["SMTP_PASSWORD"]),
        ({"TELEGRAM_CHAT_ID": "1\n2"}, ["TELEGRAM_CHAT_ID", "TELEGRAM_BOT_TOKEN"]),
        ({"TELEGRAM_BOT_TOKEN": "123:x' y"}, ["TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID"]),
        ({"ALERT_GROUP_WAIT": "soon", "PUBLIC_URL": "pacs"}, ["ALERT_GROUP_WAIT", "PUBLIC_URL"]),
    ],
)
def test_settings_that_cannot_be_right_are_all_named_at_once(
    tmp_path: Path, shell: str, environment: dict[str, str], named: list[str]
) -> None:
    written = write(tmp_path, environment, shell)
    assert written.status == 2
    assert not written.path.exists()
    complaints = set(re.findall(r"^alertmanager: ([A-Z_]+) ", written.said, re.MULTILINE))
    assert complaints == set(named)


@pytest.mark.parametrize("name", ["alertmanager", "prometheus"])
def test_shellcheck_finds_nothing(name: str) -> None:
    run(monitoring.program("shellcheck"), START.parents[1] / name / "start.sh")


# --- the route


@pytest.fixture
def both(tmp_path: Path) -> Written:
    return write(tmp_path, {**MAIL, **TELEGRAM})


@pytest.mark.parametrize("labels", [["clinic=northside", "severity=warning"], ["severity=critical"], []])
def test_every_alert_goes_to_the_operators(both: Written, labels: list[str]) -> None:
    arguments = [
        "--verify.receivers=operators",
        f"--config.file={both.path}",
        "alertname=OrthancDown",
        *labels,
    ]
    assert amtool("config", "routes", "test", *arguments).strip() == "operators"


def test_alerts_are_grouped_by_clinic_and_told_again_every_four_hours(both: Written) -> None:
    route = both.configuration["route"]
    assert set(route["group_by"]) == {"clinic", "alertname"}
    assert route["repeat_interval"] == "4h"
    assert "routes" not in route
    for kind in ("email_configs", "telegram_configs"):
        assert both.of(kind)["send_resolved"] is True


def test_inhibition_names_only_alerts_that_exist(both: Written) -> None:
    matchers = re.findall(r"alertname=~?\"([^\"]+)\"", both.path.read_text())
    named = {name for each in matchers for name in each.split("|")}
    assert named
    assert named <= {alert.name for alert in monitoring.alerts()}


# --- a real one


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "mail.pem"
    path.write_bytes(self_signed())
    return path


@pytest.fixture
def secure_sink(certificate: Path) -> Iterator[MailSink]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with MailSink(login=("ada", HOSTILE), tls=tls) as sink:
        yield sink


def _bodies(mail: EmailMessage) -> list[str]:
    """The plain text and the HTML of it."""
    parts = [mail.get_body((kind,)) for kind in ("plain", "html")]
    return [part.get_content().replace("\r\n", "\n") for part in parts if part]


def _mail_by(sink: MailSink, **more: str) -> dict[str, str]:
    return {**MAIL, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(sink.port), **more}


@pytest.fixture
def server(tmp_path: Path, secure_sink: MailSink, certificate: Path) -> Iterator[Alertmanager]:
    login = {"SMTP_USERNAME": "ada", "SMTP_PASSWORD": HOSTILE, "SSL_CERT_FILE": str(certificate)}
    started = Alertmanager.start(tmp_path, _mail_by(secure_sink, **login))
    yield started
    started.stop()


def test_a_mail_tells_of_the_trouble_and_another_one_of_its_end(
    server: Alertmanager, secure_sink: MailSink
) -> None:
    """Over STARTTLS, with a password."""
    server.send(FAILED, ANNOTATIONS)
    mail = secure_sink.next_mail()
    assert mail["Subject"] == "[clinicpacs] northside: Files could not be imported"
    assert mail["To"] == mail["X-Recipients"] == "ada@hospital.example"
    assert mail["From"] == "clinicpacs@pacs.example"
    plain, html = _bodies(mail)
    assert plain == (
        "northside: Files could not be imported\n\n"
        "2 files of clinic northside could not be imported <here> & there.\n"
        "Since 2026-01-02 03:04 UTC, warning.\n"
        f"What to do: {ANNOTATIONS['runbook_url']}\n\n"
        f"clinicpacs at {SITE}\n"
    )
    assert "imported &lt;here&gt; &amp; there." in html
    assert f'<a href="{ANNOTATIONS["runbook_url"]}">What to do</a>' in html

    server.send(FAILED, ANNOTATIONS, ended=True)
    mail = secure_sink.next_mail()
    assert mail["Subject"] == "[clinicpacs] Solved: northside: Files could not be imported"
    solved, _ = _bodies(mail)
    assert re.search(
        r"Solved at 20\d\d-\d\d-\d\d \d\d:\d\d UTC\. It was: 2 files of clinic northside", solved
    )
    assert "What to do" not in solved


def test_one_mail_for_each_clinic_and_none_for_what_follows_from_another_trouble(
    server: Alertmanager, secure_sink: MailSink
) -> None:
    server.send({"alertname": "OrthancDown", "job": "orthanc"}, {"summary": "The archive does not answer"})
    assert secure_sink.next_mail()["Subject"] == "[clinicpacs] platform: The archive does not answer"
    server.send({"alertname": "ArchiveUnreachable"})
    server.send({"alertname": "ImportBacklogOld", "clinic": "northside"})
    for job in ("orthanc", "nginx"):
        server.send({"alertname": "ServiceUnstable", "job": job}, {"summary": f"{job} comes and goes"})
    server.send({"alertname": "ServiceDown", "job": "node"})
    for clinic, reason in (("northside", "no-space"), ("northside", "unreadable"), ("westside", "no-space")):
        server.send(
            {"alertname": "BlockedFiles", "clinic": clinic, "reason": reason}, {"description": reason}
        )
    one_each = {"northside: BlockedFiles", "westside: BlockedFiles", "platform: ServiceDown"}
    unstable = "platform: nginx comes and goes"
    assert _subjects(secure_sink, {*one_each, unstable}) == {*one_each, unstable}
    assert server.inhibited() == {"ArchiveUnreachable", "ImportBacklogOld", "ServiceUnstable"}


def _subjects(sink: MailSink, expected: set[str]) -> set[str]:
    """The subjects of all mails until those that are expected are there, and what came with them."""
    found: set[str] = set()
    deadline = time.monotonic() + 60
    while not (expected <= found and sink.is_empty):
        assert time.monotonic() < deadline, found
        found.add(str(sink.next_mail()["Subject"]).removeprefix("[clinicpacs] "))
    return found


def test_a_mail_server_without_tls_is_used_only_if_that_is_wanted(tmp_path: Path) -> None:
    with MailSink() as sink:
        for wanted in ("true", "false"):
            folder = tmp_path / wanted
            folder.mkdir()
            server = Alertmanager.start(folder, _mail_by(sink, SMTP_REQUIRE_TLS=wanted))
            try:
                server.send({**FAILED, "clinic": wanted}, ANNOTATIONS)
                if wanted == "false":
                    assert sink.next_mail()["Subject"].startswith("[clinicpacs] false: ")
                    assert sink.is_empty
                else:
                    _wait_for_refusal(folder / "alertmanager.log")
            finally:
                server.stop()


def _wait_for_refusal(log: Path) -> None:
    deadline = time.monotonic() + 60
    while "STARTTLS" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
