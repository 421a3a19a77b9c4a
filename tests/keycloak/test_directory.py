"""The `Directory` contract on a real Keycloak, and what only a Keycloak can say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from admin.directory import (
    DirectoryUnavailableError,
    InvalidUserError,
    NewUser,
    Outcome,
    keycloak_api,
)
from admin.directory.events import Events, IdentityEvent
from admin.directory.keycloak import KeycloakDirectory
from support.directory_contract import GIVEN, DirectoryContract, People, SignIn

if TYPE_CHECKING:
    from support.keycloak import Keycloak
    from support.keycloak_browser import Browser

pytestmark = [pytest.mark.keycloak, pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(480)]


class TestKeycloak(DirectoryContract):
    """The contract, on Keycloak."""


def test_status_names_the_provider(directory: KeycloakDirectory, keycloak: Keycloak) -> None:
    assert directory.check() == f"Keycloak, {keycloak.url}, realm clinicpacs"


@pytest.mark.parametrize(
    ("url", "changes", "told"),
    [
        ("{url}", {"client_secret": "wrong"}, "KEYCLOAK_CLIENT_SECRET"),
        ("{url}", {"client_id": "no-such-client"}, "no-such-client"),
        ("{url}", {"realm": "other"}, "KEYCLOAK_REALM"),
        ("{url}/elsewhere", {}, "KEYCLOAK_URL"),
        ("http://127.0.0.1:9/auth", {}, "cannot be reached"),
    ],
)
def test_wrong_settings_are_told_by_name(
    keycloak: Keycloak, url: str, changes: dict[str, str], told: str
) -> None:
    right = {"client_secret": keycloak.secrets["KEYCLOAK_CLIENT_SECRET"]}
    right |= {"client_id": "clinicpacs-admin", "realm": "clinicpacs"}
    settings = right | changes
    wrong = KeycloakDirectory(
        url.format(url=keycloak.url),
        settings["client_secret"],
        realm=settings["realm"],
        client_id=settings["client_id"],
        verify=keycloak.verify,
    )
    with pytest.raises(DirectoryUnavailableError, match=told) as caught:
        wrong.check()
    assert settings["client_secret"] not in str(caught.value)


def test_a_service_account_without_the_rights_is_told_which(keycloak: Keycloak) -> None:
    secret = keycloak.secrets["SCRIPTS_CLIENT_SECRET"]
    scripts = KeycloakDirectory(keycloak.url, secret, client_id="orthanc-scripts", verify=keycloak.verify)
    with pytest.raises(DirectoryUnavailableError, match=r"orthanc-scripts lacks rights.*manage-users"):
        scripts.check()


@pytest.mark.parametrize("weak", ["short", "nora{tag}-nora", "elevenchars"])
def test_a_weak_password_is_refused_in_keycloaks_words(people: People, weak: str) -> None:
    with pytest.raises(InvalidUserError, match="Invalid password"):
        people.directory.set_password(people.nora, weak.format(tag=people.tag))
    with pytest.raises(InvalidUserError, match="Invalid password"):
        people.directory.add_user(people.new("tim"), "elevenchars")
    assert people.sign_in(people.nora, people.password) is SignIn.DONE


def test_the_last_passwords_are_not_taken_again(people: People) -> None:
    people.directory.set_password(people.nora, GIVEN)
    with pytest.raises(InvalidUserError, match="last 3 passwords"):
        people.directory.set_password(people.nora, people.password)


def test_one_signs_in_with_the_e_mail_address_too(people: People) -> None:
    assert people.sign_in(people.email("nora"), people.password) is SignIn.DONE


def test_a_one_time_code_is_set_up_at_the_first_sign_in(people: People, browser: Browser) -> None:
    added = people.directory.add_user(people.new("tim", otp=True))
    assert added.temporary_password
    page = browser.sign_in(added.user.username, added.temporary_password)
    seen = page.text
    if "password-new" in page.text:
        seen += browser.change_password(page, GIVEN).text
    assert "totpSecret" in seen


def test_a_one_time_code_can_be_asked_of_one_who_is_there(people: People, browser: Browser) -> None:
    new = NewUser.of(people.nora, people.email("nora"), one_time_code=True)
    assert people.directory.add_user(new).outcome is Outcome.CHANGED
    assert people.directory.add_user(new).outcome is Outcome.UNCHANGED
    assert "totpSecret" in browser.sign_in(new.username, people.password).text


@pytest.mark.parametrize("end", ["end_sessions", "remove_user", "set_password", "deactivate"])
def test_sessions_end_at_once(people: People, browser: Browser, end: str) -> None:
    """Neither the refresh token nor the browser's session gets another access token."""
    tokens = browser.tokens(people.nora, people.password)
    if end == "deactivate":
        people.directory.set_active(people.nora, active=False)
    else:
        getattr(people.directory, end)(people.nora)
    renewed = browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert renewed.status_code == 400
    assert renewed.json()["error"] == "invalid_grant"
    assert not browser.authorize().is_redirect


def test_sign_ins_are_on_record_with_those_that_were_refused(
    people: People, directory: KeycloakDirectory
) -> None:
    nora, since = people.user("nora"), datetime.now(UTC) - timedelta(seconds=1)
    assert people.sign_in(nora, "a wrong one") is SignIn.REFUSED
    assert people.sign_in(nora, people.password) is SignIn.DONE
    own = [each for each in directory.events(Events.SIGN_INS, since) if each.username == nora]
    assert [bool(each.error) for each in own] == [False, True]
    assert {each.user_id for each in own} == {directory.user(nora).id}
    assert all(each.at >= since and each.source and each.client for each in own)
    refused = [each for each in directory.events(Events.FAILED_SIGN_INS, since) if each.username == nora]
    assert refused == own[1:]
    assert own[1].error == "invalid_user_credentials"
    newest = own[0].at
    assert own[0] not in directory.events(Events.SIGN_INS, since, newest)
    assert own[0] in directory.events(Events.SIGN_INS, newest, newest + timedelta(milliseconds=1))
    assert list(directory.events(Events.SIGN_INS, datetime.now(UTC) + timedelta(hours=1))) == []


def test_of_more_events_than_one_answer_holds_none_is_missing_and_none_comes_twice(
    people: People, directory: KeycloakDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycloak_api, "_PAGE", 2)
    nora, since = people.user("nora"), datetime.now(UTC) - timedelta(seconds=1)
    found: list[IdentityEvent] = []
    for _ in range(5):
        assert people.sign_in(nora, people.password) is SignIn.DONE
    for each in directory.events(Events.SIGN_INS, since):
        found.append(each)
        if len(found) == 1:
            # What comes meanwhile is newer than what was asked for.
            assert people.sign_in(nora, people.password) is SignIn.DONE
    own = [each for each in found if each.username == nora]
    assert len({each.id for each in own}) == len(own) == 5
    assert [each.at for each in found] == sorted((each.at for each in found), reverse=True)


def test_changes_are_on_record_with_who_made_them(
    people: People, directory: KeycloakDirectory, keycloak: Keycloak
) -> None:
    """By our commands, and by somebody in Keycloak's own pages."""
    since, tim = datetime.now(UTC) - timedelta(seconds=1), directory.add_user(people.new("tim")).user
    own_pages = keycloak.bootstrap_token()
    answer = keycloak.admin("PUT", f"/users/{tim.id}", own_pages, {"enabled": False})
    assert answer.status_code == 204
    found = [each for each in directory.events(Events.CHANGES, since) if each.user_id and each.source]
    told = {each.what: each.username for each in found if each.what.endswith(f"users/{tim.id}")}
    ours, somebody = "service-account-clinicpacs-admin", ""
    assert told == {f"CREATE users/{tim.id}": ours, f"UPDATE users/{tim.id}": somebody}


def test_who_may_not_see_sign_ins_is_told_what_it_takes(keycloak: Keycloak) -> None:
    secret = keycloak.secrets["SCRIPTS_CLIENT_SECRET"]
    scripts = KeycloakDirectory(keycloak.url, secret, client_id="orthanc-scripts", verify=keycloak.verify)
    with pytest.raises(DirectoryUnavailableError, match=r"orthanc-scripts lacks rights.*view-events"):
        list(scripts.events(Events.FAILED_SIGN_INS))
