"""The issuer's protocol endpoints, as the viewer and the gateway use them."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from authlib.oidc.core.util import create_half_hash
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc.errors import BadSignatureError

from demo.issuer import REALM_PATH, IssuerConfig, IssuerConfigError, create_issuer
from support.oidc import ORIGIN, PROTOCOL, USERS, OidcClient, answer_of

if TYPE_CHECKING:
    from pathlib import Path

    from admin.directory.embedded import EmbeddedDirectory
    from support.oidc import Clock

ISSUER = ORIGIN + REALM_PATH


def test_discovery_is_sound_and_names_keycloaks_addresses(oidc: OidcClient) -> None:
    response = oidc.get(get_well_known_url(ISSUER))
    metadata = OpenIDProviderMetadata(response.get_json())
    metadata.validate()
    assert metadata["issuer"] == ISSUER
    assert metadata["token_endpoint"] == f"{ISSUER}/protocol/openid-connect/token"
    assert metadata["code_challenge_methods_supported"] == ["S256"]


def test_the_access_token_is_shaped_like_keycloaks(oidc: OidcClient, clock: Clock) -> None:
    tokens = oidc.tokens("ada")
    token = oidc.verified(tokens["access_token"])
    assert token.header["typ"] == "JWT"
    assert token.header["alg"] == "RS256"
    now = int(clock.now)
    expected = {
        "iss": ISSUER,
        "aud": "dicom-gateway",
        "azp": "ohif-viewer",
        "typ": "Bearer",
        "preferred_username": "ada",
        "name": "Ada",
        "email": "ada@example.org",
        "groups": ["/clinics/northside", "/clinics/southside"],
        "realm_access": {"roles": ["pacs-admin"]},
        "scope": "openid profile email",
        "iat": now,
        "exp": now + 30,
        "auth_time": now,
    }
    assert {name: token.claims.get(name) for name in expected} == expected
    assert {"sub", "sid", "jti"} <= set(token.claims)
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 30


def test_the_id_token_carries_the_nonce_and_binds_the_access_token(oidc: OidcClient) -> None:
    tokens = oidc.tokens()
    claims = oidc.verified(tokens["id_token"]).claims
    assert claims["nonce"] == "n0nce"
    assert claims["aud"] == "ohif-viewer"
    assert claims["typ"] == "ID"
    assert claims["at_hash"] == create_half_hash(tokens["access_token"], "RS256").decode()
    assert claims["sub"] == oidc.verified(tokens["access_token"]).claims["sub"]


@pytest.mark.parametrize("username", USERS)
def test_clinics_and_roles_are_the_users_own(oidc: OidcClient, username: str) -> None:
    clinics, roles = USERS[username]
    claims = oidc.verified(oidc.tokens(username)["access_token"]).claims
    assert claims["groups"] == [f"/clinics/{clinic}" for clinic in sorted(clinics)]
    assert claims["realm_access"]["roles"] == roles


def test_token_answers_are_never_stored(oidc: OidcClient) -> None:
    assert oidc.redeem(oidc.code()).headers["Cache-Control"] == "no-store"


def test_a_tampered_token_does_not_verify(oidc: OidcClient) -> None:
    head, body, signature = oidc.tokens()["access_token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["realm_access"] = {"roles": ["pacs-admin"]}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(BadSignatureError):
        oidc.verified(f"{head}.{forged}.{signature}")


def test_the_published_keys_hold_nothing_private(oidc: OidcClient) -> None:
    (key,) = oidc.get(f"{PROTOCOL}/certs").get_json()["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}


def test_the_key_survives_a_restart_and_is_private(
    oidc: OidcClient, directory: EmbeddedDirectory, data_path: Path
) -> None:
    before = oidc.get(f"{PROTOCOL}/certs").get_json()
    oidc.issuer = create_issuer(IssuerConfig(ISSUER), directory, data_path)
    oidc.browser = oidc.new_browser()
    assert oidc.get(f"{PROTOCOL}/certs").get_json() == before
    assert (data_path / "issuer-keys.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 64},
        {"code_verifier": ""},
        {"redirect_uri": f"{ORIGIN}/other"},
        {"redirect_uri": ""},
        {"client_id": "someone"},
        {"client_secret": "x"},
        {"code": "not-a-code"},
        {"code": "é\x00"},
    ],
)
def test_a_code_is_redeemed_only_as_it_was_asked_for(oidc: OidcClient, changes: dict[str, str]) -> None:
    response = oidc.redeem(**{"code": oidc.code(), **changes})
    # 401 of a client that is not who it says it is (RFC 6749 section 5.2).
    assert response.status_code == (401 if "client_secret" in changes else 400)
    assert "access_token" not in response.get_json()


def test_a_replayed_code_ends_what_it_led_to(oidc: OidcClient) -> None:
    code = oidc.code()
    first = oidc.redeem(code).get_json()
    assert oidc.redeem(code).get_json()["error"] == "invalid_grant"
    assert oidc.refresh(first["refresh_token"]).status_code == 400


def test_a_failed_proof_spends_the_code(oidc: OidcClient) -> None:
    code = oidc.code()
    assert oidc.redeem(code, code_verifier="w" * 64).status_code == 400
    assert oidc.redeem(code).status_code == 400


def test_a_code_is_good_for_a_minute(oidc: OidcClient, clock: Clock) -> None:
    code = oidc.code()
    clock.now += 61
    assert oidc.redeem(code).get_json()["error"] == "invalid_grant"


def test_refreshing_rotates_and_follows_the_directory(oidc: OidcClient, directory: EmbeddedDirectory) -> None:
    first = oidc.tokens()
    directory.set_clinics("nora", ["southside"])
    second = oidc.refresh(first["refresh_token"], scope="openid").get_json()
    assert second["refresh_token"] != first["refresh_token"]
    assert oidc.verified(second["access_token"]).claims["groups"] == ["/clinics/southside"]
    old, new = (oidc.verified(tokens["id_token"]).claims for tokens in (first, second))
    assert (new["sub"], new["sid"], new["auth_time"]) == (old["sub"], old["sid"], old["auth_time"])
    assert "nonce" not in new


def test_a_replayed_refresh_token_ends_the_family(oidc: OidcClient) -> None:
    first = oidc.tokens()
    second = oidc.refresh(first["refresh_token"]).get_json()
    assert oidc.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"
    assert oidc.refresh(second["refresh_token"]).status_code == 400


def test_of_parallel_uses_of_one_refresh_token_at_most_one_succeeds(oidc: OidcClient) -> None:
    token = oidc.tokens()["refresh_token"]
    browsers = [oidc.new_browser() for _ in range(4)]
    form = {"client_id": "ohif-viewer", "grant_type": "refresh_token", "refresh_token": token}
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda b: b.post(f"{PROTOCOL}/token", base_url=ORIGIN, data=form), browsers)
    statuses = [answer.status_code for answer in answers]
    assert sorted(set(statuses)) in ([200, 400], [400])
    assert statuses.count(200) <= 1


def test_a_session_lasts_a_working_day(oidc: OidcClient, clock: Clock) -> None:
    tokens = oidc.tokens()
    clock.now += 9.9 * 3600
    tokens = oidc.refresh(tokens["refresh_token"]).get_json()
    clock.now += 0.2 * 3600
    assert oidc.refresh(tokens["refresh_token"]).status_code == 400
    assert oidc.authorize().status_code == 200  # the sign-in page


@pytest.mark.parametrize("change", ["deactivate", "password", "remove"])
def test_what_the_administrator_takes_away_is_gone_at_once(
    oidc: OidcClient, directory: EmbeddedDirectory, clock: Clock, change: str
) -> None:
    tokens = oidc.tokens()
    clock.now += 1
    if change == "deactivate":
        directory.set_active("nora", active=False)
        directory.set_active("nora", active=True)
    elif change == "password":
        directory.set_password("nora", "another one")
    else:
        directory.remove_user("nora")
    assert oidc.refresh(tokens["refresh_token"]).get_json()["error"] == "invalid_grant"
    assert "password" in oidc.authorize().get_data(as_text=True)


def test_userinfo_answers_access_tokens_only(oidc: OidcClient, clock: Clock) -> None:
    tokens = oidc.tokens()

    def ask(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        response = oidc.browser.get(f"{PROTOCOL}/userinfo", base_url=ORIGIN, headers=headers)
        assert response.status_code == 200 or response.headers["WWW-Authenticate"].startswith("Bearer")
        return response.status_code

    assert ask(tokens["access_token"]) == 200
    assert [ask(tokens["id_token"]), ask(tokens["refresh_token"]), ask(""), ask("a.b.c")] == [401] * 4
    clock.now += 301
    assert ask(tokens["access_token"]) == 401


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": ""}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_what_the_viewer_did_wrong_goes_back_to_the_viewer(
    oidc: OidcClient, changes: dict[str, str], error: str
) -> None:
    answer = answer_of(oidc.authorize(**changes))
    assert answer["error"] == error
    assert answer["state"] == "st4te"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "someone"},
        {"client_id": ""},
        {"redirect_uri": ""},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": f"{ORIGIN}/callback/../x"},
        {"redirect_uri": f"{ORIGIN}/callback?x=1"},
        {"redirect_uri": f"{ORIGIN}/"},
        {"redirect_uri": "http://127.0.0.1:8800@evil.example/callback"},
        {"response_mode": "form_post"},
        {"state": "s\r\nSet-Cookie: a=b"},
        {"state": "x" * 3000},
        {"response_type": 'co"de\\'},
        {"max_age": "soon"},
    ],
)
def test_a_request_that_cannot_be_trusted_is_never_redirected(
    oidc: OidcClient, changes: dict[str, str]
) -> None:
    response = oidc.authorize(**changes)
    assert response.status_code == 400
    assert "Location" not in response.headers


def test_a_repeated_parameter_is_refused(oidc: OidcClient) -> None:
    query = [*oidc.authorization.items(), ("state", "other")]
    assert oidc.browser.get(f"{PROTOCOL}/auth", base_url=ORIGIN, query_string=query).status_code == 400


CRAFTED = [{"alg": "RS256", "crit": 5}, {"alg": 5}, {"alg": "RS256", "kid": {}}, 5, None, []]


@pytest.mark.parametrize("header", [json.dumps(each) for each in CRAFTED] + ["[" * 5000])
def test_a_crafted_token_is_no_token(oidc: OidcClient, header: str) -> None:
    crafted = ".".join(base64.urlsafe_b64encode(each.encode()).decode().strip("=") for each in (header, "{}"))
    answer = oidc.browser.get(
        f"{PROTOCOL}/userinfo", base_url=ORIGIN, headers={"Authorization": f"Bearer {crafted}.e30"}
    )
    assert answer.status_code == 401
    assert oidc.get(f"{PROTOCOL}/logout", id_token_hint=f"{crafted}.e30").status_code == 400


@pytest.mark.parametrize("credentials", [b"orthanc-explorer:\xe9", b"\xff", b"\x00:\x00", b":", b"x"])
def test_credentials_that_are_no_text_are_no_clients(oidc: OidcClient, credentials: bytes) -> None:
    given = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    answer = oidc.post(f"{PROTOCOL}/token", form, **given)
    assert (answer.status_code, answer.get_json()["error"]) == (401, "invalid_client")


def test_credentials_that_are_no_base64_are_no_clients(oidc: OidcClient) -> None:
    answer = oidc.post(f"{PROTOCOL}/token", {"grant_type": "refresh_token"}, Authorization="Basic \xe9:")
    assert (answer.status_code, answer.get_json()["error"]) == (401, "invalid_client")


def test_only_a_confidential_client_ends_a_session_by_its_own_refresh_token(
    directory: EmbeddedDirectory, data_path: Path, clock: Clock
) -> None:
    config = IssuerConfig(ISSUER, explorer_secret="s3cret")
    oidc = OidcClient(create_issuer(config, directory, data_path, clock))
    of_the_viewer = oidc.tokens()["refresh_token"]
    for client, secret, status in (
        ("ohif-viewer", "", 401),
        ("nobody", "", 401),
        ("orthanc-explorer", "", 401),
        ("orthanc-explorer", "wrong", 401),
        ("orthanc-explorer", "s3cret", 400),
    ):
        form = {"client_id": client, "client_secret": secret, "refresh_token": of_the_viewer}
        assert oidc.post(f"{PROTOCOL}/logout", form).status_code == status
    assert oidc.refresh(of_the_viewer).status_code == 200


@pytest.mark.parametrize("issuer", ["http://pacs.example/auth", "ftp://127.0.0.1/", "https://h/a?b=c", "x"])
def test_without_tls_only_this_machine_is_served(issuer: str) -> None:
    with pytest.raises(IssuerConfigError):
        IssuerConfig(issuer)
