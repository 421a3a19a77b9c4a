"""The realm that is there follows `.env`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from admin.directory import DirectoryError, DirectoryUnavailableError, realm
from admin.settings import AdminSettings
from pacs.catalog import CatalogUnavailableError
from support.keycloak import REALM_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.keycloak import Keycloak


def as_told(keycloak: Keycloak, **changes: str) -> dict[str, Any]:
    """The realm of this installation, with other variables."""
    environment = {
        **keycloak.secrets,
        "PUBLIC_URL": keycloak.public_url,
        "ACCESS_TOKEN_SECONDS": str(keycloak.access_token_seconds),
        **changes,
    }
    return realm.wanted(REALM_FILE, environment)


def client_of(keycloak: Keycloak, name: str) -> dict[str, Any]:
    token = keycloak.bootstrap_token()
    [found] = keycloak.admin("GET", f"/clients?clientId={name}", token).json()
    return dict(found)


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_a_new_address_reaches_every_client_and_nothing_else_changes(keycloak: Keycloak) -> None:
    password = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"]
    before = {name: client_of(keycloak, name) for name in ("ohif-viewer", "grafana", "orthanc-explorer")}
    try:
        moved = as_told(keycloak, PUBLIC_URL="https://elsewhere.example.org", ACCESS_TOKEN_SECONDS="123")
        changes = realm.apply(keycloak.url, password, moved)
        assert len(changes) == 5
        viewer = client_of(keycloak, "ohif-viewer")
        assert viewer["redirectUris"] == ["https://elsewhere.example.org/callback"]
        assert keycloak.public_url not in json.dumps(viewer)
        assert realm.apply(keycloak.url, password, moved) == []
    finally:
        realm.apply(keycloak.url, password, as_told(keycloak))
    assert {name: client_of(keycloak, name) for name in before} == before


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_what_cannot_be_put_on_record_is_not_changed(keycloak: Keycloak) -> None:
    password = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"]
    noted: list[str] = []

    @contextmanager
    def away_at_the_third(change: str) -> Iterator[None]:
        noted.append(change)
        if len(noted) > 2:
            raise CatalogUnavailableError("away")
        yield

    try:
        moved = as_told(keycloak, PUBLIC_URL="https://elsewhere.example.org", ACCESS_TOKEN_SECONDS="123")
        with pytest.raises(CatalogUnavailableError):
            realm.apply(keycloak.url, password, moved, away_at_the_third)
        assert realm.apply(keycloak.url, password, moved)[0] == noted[2]
    finally:
        realm.apply(keycloak.url, password, as_told(keycloak))


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
@pytest.mark.parametrize("client", ["orthanc-explorer", "orthanc-scripts"])
def test_tokens_for_the_archives_own_pages_live_as_long_as_all_in_an_older_realm_too(
    keycloak: Keycloak, client: str
) -> None:
    token, now = keycloak.bootstrap_token(), client_of(keycloak, client)
    older = {**now, "attributes": {**now["attributes"], "access.token.lifespan": "300"}}
    assert keycloak.admin("PUT", f"/clients/{now['id']}", token, older).ok
    password = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"]
    assert realm.apply(keycloak.url, password, as_told(keycloak)) == [f"{client}: attributes"]
    assert client_of(keycloak, client) == now
    assert now["attributes"]["access.token.lifespan"] == str(keycloak.access_token_seconds)


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_a_right_of_a_newer_version_reaches_the_commands_account(keycloak: Keycloak) -> None:
    password, token = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"], keycloak.bootstrap_token()
    ours, theirs = (client_of(keycloak, name)["id"] for name in ("clinicpacs-admin", "realm-management"))
    account = keycloak.admin("GET", f"/clients/{ours}/service-account-user", token).json()["id"]
    right = keycloak.admin("GET", f"/clients/{theirs}/roles/view-events", token).json()
    for place in (f"/users/{account}/role-mappings", f"/clients/{ours}/scope-mappings"):
        assert keycloak.admin("DELETE", f"{place}/clients/{theirs}", token, [right]).status_code == 204

    def events() -> int:
        own = keycloak.service_token("clinicpacs-admin", "KEYCLOAK_CLIENT_SECRET").json()["access_token"]
        return keycloak.admin("GET", "/events?max=1", own).status_code

    assert events() == 403
    assert realm.apply(keycloak.url, password, as_told(keycloak)) == ["clinicpacs-admin: may view-events"]
    assert events() == 200
    assert realm.apply(keycloak.url, password, as_told(keycloak)) == []


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_events_are_kept_for_as_long_as_audit_rows(keycloak: Keycloak) -> None:
    password, as_imported = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"], as_told(keycloak)
    # What the file and AUDIT_KEEP_DAYS say where nobody has said anything.
    days = AdminSettings.model_fields["audit_keep_days"].default
    assert realm.keeping_events(as_imported, days) == as_imported
    before = keycloak.admin("GET", "", keycloak.bootstrap_token()).json()
    try:
        changed = realm.keeping_events(as_imported, 20)
        assert realm.apply(keycloak.url, password, changed) == ["sign-ins and changes are kept for 20 days"]
        assert realm.apply(keycloak.url, password, changed) == []
        now = keycloak.admin("GET", "", keycloak.bootstrap_token()).json()
        assert now["eventsExpiration"] == int(now["attributes"]["adminEventsExpiration"]) == 1_728_000
        for_ever = realm.keeping_events(as_imported, 0)
        assert realm.apply(keycloak.url, password, for_ever) == ["sign-ins and changes are kept for ever"]
    finally:
        realm.apply(keycloak.url, password, as_imported)
    assert keycloak.admin("GET", "", keycloak.bootstrap_token()).json() == before


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_a_new_secret_is_the_one_that_counts(keycloak: Keycloak) -> None:
    password = keycloak.secrets["KEYCLOAK_ADMIN_PASSWORD"]
    try:
        changed = as_told(keycloak, SCRIPTS_CLIENT_SECRET="another0secret0another0secret0")
        assert realm.apply(keycloak.url, password, changed) == ["orthanc-scripts: secret"]
        assert keycloak.service_token("orthanc-scripts", "SCRIPTS_CLIENT_SECRET").status_code == 401
    finally:
        realm.apply(keycloak.url, password, as_told(keycloak))
    assert keycloak.service_token("orthanc-scripts", "SCRIPTS_CLIENT_SECRET").status_code == 200


@pytest.mark.keycloak
@pytest.mark.xdist_group("keycloak")
@pytest.mark.timeout(480)
def test_a_wrong_password_is_told_by_the_settings_name(keycloak: Keycloak) -> None:
    with pytest.raises(DirectoryUnavailableError, match="KEYCLOAK_ADMIN_PASSWORD"):
        realm.apply(keycloak.url, "wrong", as_told(keycloak))


def test_a_variable_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "realm.json"
    file.write_text('{"a": "${NOT_THERE}", "b": "${WITH_DEFAULT:7}"}')
    with pytest.raises(DirectoryError, match="NOT_THERE"):
        realm.wanted(file, {})
    assert realm.wanted(file, {"NOT_THERE": 'a "quoted" value'}) == {"a": 'a "quoted" value', "b": "7"}
