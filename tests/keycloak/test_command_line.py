"""The commands against a real Keycloak: what an administrator types, reads, and has done."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from admin.directory import Role
from support import audit_schema
from support.directory_contract import GIVEN, People, SignIn
from support.keycloak_browser import Browser, answered, message_of
from support.site import Site

if TYPE_CHECKING:
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.keycloak import Keycloak

pytestmark = [pytest.mark.keycloak, pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(480)]


@pytest.fixture
def site(
    tmp_path: Path,
    sqlite_catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    keycloak: Keycloak,
    people: People,
) -> Site:
    """A platform with the two clinics of `people`, whose users Keycloak keeps."""
    monkeypatch.chdir(tmp_path)
    site = Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")
    site.env |= {
        "IDENTITY_PATH": "",
        "KEYCLOAK_URL": keycloak.url,
        "KEYCLOAK_CLIENT_SECRET": keycloak.secrets["KEYCLOAK_CLIENT_SECRET"],
    }
    for name in ("northside", "southside"):
        site.done("add-clinic", people.clinic(name), name.capitalize())
    return site


def temporary(told: str) -> str:
    found = re.search(r"temporary password, shown only now: (\S+)", told)
    assert found, told
    return found[1]


def test_a_new_user_signs_in_and_is_made_to_choose_a_password(
    site: Site, people: People, keycloak: Keycloak
) -> None:
    command = ("add-user", people.user("dr.smith"), "--email", people.email("smith"))
    told = site.done(*command, "--clinic", people.clinic("northside"))
    browser = Browser(keycloak)
    page = browser.sign_in(people.user("dr.smith"), temporary(told))
    assert "change your password" in message_of(page)
    assert "access_token" in answered(browser.redeem(browser.change_password(page, GIVEN)))
    again = site.done(*command, "--clinic", people.clinic("northside"))
    assert "nothing to change" in again
    assert "the password stays" in again
    assert people.sign_in(people.user("dr.smith"), GIVEN) is SignIn.DONE
    site.done(*command, "--role", "pacs-admin", "--full-name", "Nora van der Sample")
    user = people.directory.user(people.user("dr.smith"))
    assert user.roles == {Role.PACS_ADMIN}
    assert user.name == "Nora van der Sample"
    assert user.clinics == {people.clinic("northside")}


def test_what_was_left_half_done_is_completed(site: Site, people: People) -> None:
    """As if Keycloak had gone away between making the user and putting it into its clinic."""
    people.directory.set_clinics(people.nora, [])
    told = site.done(
        "add-user", people.nora, "--email", people.email("nora"), "--clinic", people.clinic("northside")
    )
    assert f"clinic {people.clinic('northside')} added" in told
    assert people.directory.user(people.nora).clinics == {people.clinic("northside")}


@pytest.mark.parametrize(
    ("arguments", "env", "told"),
    [
        (("--clinic", "westside"), {}, "clinicpacs add-clinic westside"),
        (("--email", "nora{tag}@example.org"), {}, "is the address of user 'nora{tag}'"),
        ((), {"KEYCLOAK_URL": "http://127.0.0.1:9/auth"}, "cannot be reached"),
        ((), {"KEYCLOAK_CLIENT_SECRET": "wrong"}, "is KEYCLOAK_CLIENT_SECRET the secret"),
        ((), {"KEYCLOAK_REALM": "other"}, "KEYCLOAK_REALM"),
    ],
)
def test_what_goes_wrong_is_one_sentence_that_teaches(
    site: Site, people: People, arguments: tuple[str, ...], env: dict[str, str], told: str
) -> None:
    given = [argument.format(tag=people.tag) for argument in arguments]
    result = site.run("add-user", people.user("tim"), "--email", people.email("tim"), *given, **env)
    assert result.exit_code == 2
    assert told.format(tag=people.tag) in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") == 1
    assert people.user("tim") not in {user.username for user in people.directory.users()}


def test_a_weak_password_from_a_script_is_refused(site: Site, people: People) -> None:
    command = ("add-user", people.user("tim"), "--email", people.email("tim"), "--password-stdin")
    result = site.run(*command, typed="elevenchars\n")
    assert result.exit_code == 2
    assert "minimum length 12" in result.stderr


def test_deactivating_a_clinic_signs_out_who_is_left_with_nothing(
    site: Site, people: People, keycloak: Keycloak
) -> None:
    people.directory.add_user(people.new("ada", "northside", "southside"), people.password)
    browsers = {name: Browser(keycloak) for name in ("nora", "rita", "ada")}
    for name, browser in browsers.items():
        browser.tokens(people.user(name), people.password)
    told = site.done("deactivate-clinic", people.clinic("northside"))
    assert "1 user signed out" in told
    still = {name: browser.authorize().is_redirect for name, browser in browsers.items()}
    assert still == {"nora": False, "rita": True, "ada": True}
    away = site.run("deactivate-clinic", people.clinic("northside"), KEYCLOAK_URL="http://127.0.0.1:9/auth")
    assert away.exit_code == 2
    assert "run the same command again" in away.stderr


def test_removing_a_user_ends_the_session(site: Site, people: People, keycloak: Keycloak) -> None:
    browser = Browser(keycloak)
    tokens = browser.tokens(people.nora, people.password)
    site.done("remove-user", people.nora, "--yes")
    refused = browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refused.status_code == 400
    assert not browser.authorize().is_redirect


def test_an_export_has_the_sign_ins_beside_the_rows(site: Site, people: People) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    assert people.sign_in(people.nora, GIVEN) is SignIn.REFUSED
    directory = people.directory
    nora = directory.user(people.nora)
    directory.set_active(people.nora, active=False)
    command = ("audit", "export", "--with-sign-ins", "--since", since.isoformat())
    lines = [json.loads(line) for line in site.done(*command).splitlines()]
    assert [line["id"] for line in lines if line["hash"]][-1] == 3, "no row more than there were"
    others = [line for line in lines if not line["hash"]]
    (refused,) = [line for line in others if line["username"] == people.nora]
    assert (refused["action"], refused["allowed"], refused["subject"]) == ("sign-in", False, nora.id)
    assert "invalid_user_credentials" in refused["detail"]
    (change,) = [line for line in others if line["detail"].endswith(f"; UPDATE users/{nora.id}")]
    assert (change["action"], change["username"]) == ("identity-change", "service-account-clinicpacs-admin")
    assert people.sign_in(people.user("rita"), people.password) is SignIn.DONE
    refusals = json_lines(site.done("audit", "sign-ins", "--failed", "--limit", "2", "--json"))
    assert refusals[0]["username"] == people.nora
    assert all(each["error"] for each in refusals)
    listed = json_lines(site.done("audit", "sign-ins", "--changes", "--json"))
    assert f"UPDATE users/{nora.id}" in {each["what"] for each in listed}
    assert people.nora in site.done("audit", "sign-ins")

    document = ET.fromstring(site.done(*command, "--format", "dicom"))
    assert [fault for message in document for fault in audit_schema.faults(message)] == []
    assert len(document) >= len(lines)


def json_lines(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


def test_status_says_whether_keycloak_answers_and_lets_us_work(site: Site, keycloak: Keycloak) -> None:
    def identity(**env: str) -> str:
        (line,) = [line for line in site.run("status", **env).stdout.splitlines() if "identity" in line]
        return line

    assert "yes" in identity()
    scripts = {
        "KEYCLOAK_CLIENT_ID": "orthanc-scripts",
        "KEYCLOAK_CLIENT_SECRET": keycloak.secrets["SCRIPTS_CLIENT_SECRET"],
    }
    for wrong in ({"KEYCLOAK_URL": "http://127.0.0.1:9/auth"}, {"KEYCLOAK_REALM": "other"}, scripts):
        assert "NO" in identity(**wrong)
