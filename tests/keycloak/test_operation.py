"""Service accounts and their limits, metrics, events and logs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gateway.clock import Clock
from gateway.identity.claims import ClaimsPolicy, InvalidTokenError
from gateway.identity.jwks import JwksCache, JwksFetcher
from gateway.identity.tokens import TokenVerifier
from support.directory_contract import GIVEN, People, SignIn
from support.keycloak_browser import Browser, random_password
from support.stack import wait_until

if TYPE_CHECKING:
    from support.keycloak import Keycloak

pytestmark = [pytest.mark.keycloak, pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(480)]

# What the service account of the commands must not do, whoever holds its secret.
FORBIDDEN: list[tuple[str, str, Any]] = [
    ("PUT", "", {"realm": "clinicpacs", "accessTokenLifespan": 86400}),
    ("GET", "/clients", None),
    ("POST", "/clients", {"clientId": "mine"}),
    ("POST", "/roles", {"name": "mine"}),
    ("GET", "/client-scopes", None),
    ("DELETE", "/events", None),
    ("DELETE", "/admin-events", None),
    ("PUT", "/events/config", {}),
    ("GET", "/identity-provider/instances", None),
    ("PUT", "/users/profile", {}),
    ("POST", "/partial-export", None),
    ("POST", "/partialImport", {}),
    ("POST", "/push-revocation", None),
    ("POST", "/components", {"name": "mine"}),
]


@pytest.fixture
def commands_token(keycloak: Keycloak) -> str:
    answer = keycloak.service_token("clinicpacs-admin", "KEYCLOAK_CLIENT_SECRET")
    return str(answer.json()["access_token"])


def verifier(keycloak: Keycloak, *clients: str) -> TokenVerifier:
    """The gateway's own, as production sets it up."""
    policy = ClaimsPolicy(keycloak.issuer, "dicom-gateway", frozenset(clients))
    jwks = JwksCache(JwksFetcher(keycloak.issuer, keycloak.endpoint("certs")), Clock())
    return TokenVerifier(policy, jwks, Clock())


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN)
def test_the_commands_account_manages_users_and_nothing_else(
    keycloak: Keycloak, commands_token: str, method: str, path: str, body: Any
) -> None:
    assert keycloak.admin(method, path, commands_token, body).status_code == 403


@pytest.mark.parametrize("right", ["realm-admin", "manage-clients", "view-clients", "impersonation"])
def test_the_commands_account_grants_no_more_than_it_has(
    keycloak: Keycloak, residents: People, commands_token: str, right: str
) -> None:
    everything = keycloak.bootstrap_token()
    (client,) = keycloak.admin("GET", "/clients?clientId=realm-management", everything).json()
    role = keycloak.admin("GET", f"/clients/{client['id']}/roles/{right}", everything).json()
    nora = residents.directory.user(residents.nora).id
    grant = f"/users/{nora}/role-mappings/clients/{client['id']}"
    assert keycloak.admin("POST", grant, commands_token, [role]).status_code == 403
    assert keycloak.admin("POST", f"/users/{nora}/impersonation", commands_token).status_code == 403
    assert keycloak.admin("GET", grant, everything).json() == []


def test_the_commands_account_reads_no_secret(keycloak: Keycloak, commands_token: str) -> None:
    told = keycloak.admin("GET", "", commands_token).text
    told += keycloak.admin("GET", "/components", commands_token).text
    assert "privateKey" not in told
    assert not [name for name, value in keycloak.secrets.items() if value in told]


def test_the_commands_token_opens_no_study(keycloak: Keycloak, commands_token: str) -> None:
    with pytest.raises(InvalidTokenError):
        verifier(keycloak, "ohif-viewer", "clinicpacs-admin").verify(commands_token)


def test_scripts_get_an_administrators_token_for_the_gateway(keycloak: Keycloak) -> None:
    token = keycloak.service_token("orthanc-scripts", "SCRIPTS_CLIENT_SECRET").json()["access_token"]
    claims = verifier(keycloak, "orthanc-explorer", "orthanc-scripts").verify(token)
    assert claims.sees_all
    assert claims.clinics == frozenset()
    assert claims.username == "service-account-orthanc-scripts"
    assert claims.expires_at - claims.issued_at == keycloak.access_token_seconds
    with pytest.raises(InvalidTokenError):
        verifier(keycloak, "ohif-viewer").verify(token)


def test_scripts_need_their_secret(keycloak: Keycloak) -> None:
    assert keycloak.service_token("orthanc-scripts", "GRAFANA_CLIENT_SECRET").status_code == 401
    form = {"grant_type": "client_credentials", "client_id": "ohif-viewer"}
    assert keycloak.post_token(form).status_code in {400, 401}


def test_no_placeholder_is_left_in_the_realm(keycloak: Keycloak) -> None:
    """A secret that was not given would be the placeholder's own text, which everybody can read."""
    everything = keycloak.bootstrap_token()
    for client in keycloak.admin("GET", "/clients", everything).json():
        addresses = [*client["redirectUris"], *client["webOrigins"], *client["attributes"].values()]
        for value in (client.get("secret", ""), client.get("rootUrl") or "", *addresses):
            # Keycloak's own clients have a few that it resolves itself.
            assert "${" not in value or value in {"${authBaseUrl}", "${authAdminUrl}"}, client["clientId"]
        assert not client["directAccessGrantsEnabled"], client["clientId"]
        assert not client["implicitFlowEnabled"], client["clientId"]


def test_the_discovery_document_is_of_the_public_address(keycloak: Keycloak) -> None:
    address = f"{keycloak.url}/realms/clinicpacs/.well-known/openid-configuration"
    found = requests.get(address, timeout=30, verify=keycloak.verify).json()
    assert found["issuer"] == keycloak.issuer
    assert found["authorization_endpoint"].startswith(f"{keycloak.public_url}/auth/")
    # Asked from within, it answers with the endpoints as they are reached from there.
    assert found["token_endpoint"].startswith(f"{keycloak.url}/")


def test_sign_ins_failures_and_sessions_are_metrics(keycloak: Keycloak, people: People) -> None:
    if keycloak.management_url is None:
        pytest.skip("KEYCLOAK_MANAGEMENT_URL is not set")

    def count(event: str, error: str = "", client: str = "ohif-viewer") -> float:
        labels = f'client_id="{client}",error="{error}",event="{event}",realm="clinicpacs"'
        found = re.search(
            rf"^keycloak_user_events_total{{{labels}}} (\S+)$", keycloak.metrics(), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    signed_in, failed, renewed = (
        count("login"),
        count("login", "invalid_user_credentials"),
        count("refresh_token"),
    )
    browser = Browser(keycloak)
    tokens = browser.tokens(people.nora, people.password)
    browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert people.sign_in(people.user("rita"), random_password()) is SignIn.REFUSED
    assert count("login") == signed_in + 1
    assert count("login", "invalid_user_credentials") == failed + 1
    assert count("refresh_token") == renewed + 1
    told = keycloak.metrics()
    assert 'vendor_statistics_approximate_entries_unique{cache="sessions"' in told
    for name in ("http_server_requests_seconds_count", "jvm_memory_used_bytes", "agroal_active_count"):
        assert f"\n{name}{{" in told


def test_events_are_kept_and_hold_no_password(keycloak: Keycloak, people: People) -> None:
    secret = random_password()
    added = people.directory.add_user(people.new("tim"))
    people.directory.set_password(people.user("tim"), secret)
    assert people.sign_in(people.user("tim"), secret) is SignIn.DONE
    assert people.sign_in(people.user("tim"), GIVEN) is SignIn.REFUSED
    everything = keycloak.bootstrap_token()
    own = keycloak.admin("GET", f"/events?user={added.user.id}", everything).json()
    assert {event["type"] for event in own} >= {"LOGIN", "LOGIN_ERROR"}
    changes = keycloak.admin("GET", f"/admin-events?resourcePath=users/{added.user.id}*", everything)
    assert people.user("tim") in changes.text, "an administrator's change is kept with its details"
    for password in (secret, added.temporary_password or "", GIVEN):
        assert password not in changes.text + str(own)


def test_the_log_holds_neither_token_nor_password_nor_query(keycloak: Keycloak, people: People) -> None:
    if keycloak.log is None:
        pytest.skip("KEYCLOAK_LOG is not set")
    browser = Browser(keycloak)
    tokens = browser.tokens(people.nora, people.password)
    wrong, added = random_password(), people.directory.add_user(people.new("tim"))
    people.sign_in(people.user("rita"), wrong)
    page = browser.http.get(keycloak.endpoint("logout"), params={"id_token_hint": tokens["id_token"]})
    assert page.ok
    browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    keycloak.post_token(
        {"grant_type": "refresh_token", "client_id": "ohif-viewer", "refresh_token": "eyJ.x.y"}
    )
    path = keycloak.log
    refused = 'error="invalid_user_credentials"'
    wait_until(lambda: refused in path.read_text(errors="replace"), 20, "failed sign-ins are logged")
    log = path.read_text(errors="replace")
    kept = [*keycloak.secrets.values(), people.password, wrong, added.temporary_password or ""]
    assert not [secret for secret in kept if secret in log]
    assert "eyJ" not in log
    assert not re.search(r"[?&](?:code|state|token|session_code|id_token_hint)=", log)
