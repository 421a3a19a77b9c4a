"""The viewer's sign-in: authorization code with PKCE, by requests as a browser makes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet
from pydantic import SecretStr

from gateway.clock import Clock
from gateway.explorer.cookies import session_cookie
from gateway.explorer.provider import Provider, SignInEnded
from gateway.identity.claims import ClaimsPolicy, InvalidTokenError
from gateway.identity.jwks import JwksCache, JwksFetcher
from gateway.identity.tokens import TokenVerifier
from gateway.settings import GatewaySettings
from support.directory_contract import GIVEN
from support.keycloak_browser import VERIFIER, Browser, answered, message_of, random_password
from support.nginx import SOURCE
from support.stack import wait_until

if TYPE_CHECKING:
    from support.directory_contract import People
    from support.keycloak import Keycloak

pytestmark = [pytest.mark.keycloak, pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(480)]

REFUSED_PARAMETERS = [
    {"redirect_uri": "{public}/callback/more"},
    {"redirect_uri": "{public}/callback?more=1"},
    {"redirect_uri": "{public}/"},
    {"redirect_uri": "{public}.evil.example/callback"},
    {"redirect_uri": "https://evil.example/callback"},
    {"redirect_uri": "http://localhost/callback"},
    {"redirect_uri": ""},
    {"client_id": "admin-cli"},
    {"client_id": "clinicpacs-admin"},
    {"client_id": "orthanc-scripts"},
]
ERRORS_SENT_BACK = [
    ({"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
    ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, "invalid_request"),
    ({"response_type": "token"}, "unauthorized_client"),
    ({"response_type": "id_token"}, "unauthorized_client"),
    ({"response_type": "code id_token"}, "unauthorized_client"),
    ({"scope": "openid offline_access"}, "invalid_scope"),
]


def verified(keycloak: Keycloak, token: str) -> dict[str, Any]:
    keys = requests.get(keycloak.endpoint("certs"), timeout=30, verify=keycloak.verify).json()
    return dict(jwt.decode(token, KeySet.import_key_set(keys), algorithms=["RS256"]).claims)


def verifier(keycloak: Keycloak, *clients: str) -> TokenVerifier:
    """The gateway's own, as production sets it up."""
    policy = ClaimsPolicy(keycloak.issuer, "dicom-gateway", frozenset(clients))
    jwks = JwksCache(JwksFetcher(keycloak.issuer, keycloak.endpoint("certs")), Clock())
    return TokenVerifier(policy, jwks, Clock())


def test_a_temporary_password_is_changed_and_then_the_viewer_gets_its_tokens(
    keycloak: Keycloak, people: People, browser: Browser
) -> None:
    added = people.directory.add_user(people.new("tim", "northside", full_name="Tim Sample"))
    assert added.temporary_password
    page = browser.sign_in(added.user.username, added.temporary_password)
    assert "change your password" in message_of(page)
    for weak in ("short", f"{added.user.username}-and-more", added.temporary_password[:11]):
        page = browser.change_password(page, weak)
        assert "Invalid password" in message_of(page)
    tokens = answered(browser.redeem(browser.change_password(page, GIVEN)))
    claims = verified(keycloak, tokens["access_token"])
    assert claims["iss"] == keycloak.issuer
    assert (claims["aud"], claims["azp"], claims["typ"]) == ("dicom-gateway", "ohif-viewer", "Bearer")
    assert claims["groups"] == [f"/clinics/{people.clinic('northside')}"]
    assert claims["sub"] == added.user.id
    assert "realm_access" not in claims
    assert claims["exp"] - claims["iat"] == tokens["expires_in"] == keycloak.access_token_seconds
    # At the next sign-in nothing is asked but the password.
    assert "access_token" in Browser(keycloak).tokens(added.user.username, GIVEN)


def test_the_id_token_holds_the_name_and_no_rights(
    keycloak: Keycloak, residents: People, browser: Browser
) -> None:
    claims = verified(keycloak, browser.tokens(residents.user("ada"), residents.password)["id_token"])
    assert (claims["aud"], claims["typ"], claims["nonce"]) == ("ohif-viewer", "ID", "n0nce")
    assert claims["preferred_username"] == residents.user("ada")
    assert not {"groups", "realm_access", "resource_access"} & claims.keys()


def test_the_gateway_takes_the_viewers_token_and_knows_whose_it_is(
    keycloak: Keycloak, residents: People
) -> None:
    judge = verifier(keycloak, "ohif-viewer")
    seen = {
        name: judge.verify(Browser(keycloak).tokens(residents.user(name), residents.password)["access_token"])
        for name in ("nora", "rita", "ada")
    }
    assert seen["nora"].clinics == {residents.clinic("northside")}
    assert seen["nora"].username == residents.nora
    assert {name: claims.sees_all for name, claims in seen.items()} == {
        "nora": False,
        "rita": True,
        "ada": True,
    }


def test_the_gateway_takes_neither_id_nor_refresh_token(
    keycloak: Keycloak, residents: People, browser: Browser
) -> None:
    tokens = browser.tokens(residents.nora, residents.password)
    for kind in ("id_token", "refresh_token"):
        with pytest.raises(InvalidTokenError):
            verifier(keycloak, "ohif-viewer").verify(tokens[kind])


@pytest.mark.parametrize(
    ("client", "callback", "secret"),
    [
        ("orthanc-explorer", "/orthanc/callback", "EXPLORER_CLIENT_SECRET"),
        ("grafana", "/grafana/login/generic_oauth", "GRAFANA_CLIENT_SECRET"),
    ],
)
def test_applications_of_administrators_sign_in_with_code_pkce_and_secret(
    keycloak: Keycloak, residents: People, client: str, callback: str, secret: str
) -> None:
    one = Browser(keycloak, client, callback, keycloak.secrets[secret])
    tokens = one.tokens(residents.user("ada"), residents.password)
    if client == "grafana":
        assert verified(keycloak, tokens["id_token"])["realm_access"]["roles"] == ["pacs-admin"]
        assert "aud" not in verified(keycloak, tokens["access_token"])
    else:
        assert verifier(keycloak, client).verify(tokens["access_token"]).sees_all
    assert one.authorize(code_challenge="", code_challenge_method="").headers["Location"].count("error=")
    without = Browser(keycloak, client, callback)
    refused = without.redeem(without.sign_in(residents.user("ada"), residents.password))
    assert refused.status_code == 401


def explorers_provider(keycloak: Keycloak) -> Provider:
    """The gateway's own, as production sets it up."""
    settings = GatewaySettings(
        oidc_issuer=keycloak.issuer,
        oidc_token_url=keycloak.endpoint("token"),
        public_url=keycloak.public_url,
        explorer_client_secret=SecretStr(keycloak.secrets["EXPLORER_CLIENT_SECRET"]),
    )
    documents = JwksFetcher(keycloak.issuer, keycloak.endpoint("certs"))
    return Provider(settings, documents, JwksCache(documents, Clock()), Clock())


def test_an_administrators_session_is_renewed_while_keycloak_says_so(
    keycloak: Keycloak, people: People
) -> None:
    ada = people.directory.add_user(people.new("ada", "northside", "southside"), people.password).user
    people.directory.set_roles(ada.username, ["pacs-admin"])
    secret = keycloak.secrets["EXPLORER_CLIENT_SECRET"]
    browser = Browser(keycloak, "orthanc-explorer", "/orthanc/callback", secret)
    provider = explorers_provider(keycloak)
    tokens = browser.tokens(ada.username, people.password)
    renewed = provider.renew(tokens["refresh_token"])
    assert renewed.claims.administers
    assert renewed.claims.subject == ada.id
    assert renewed.claims.expires_at - renewed.claims.issued_at == keycloak.access_token_seconds
    both = {"access_token": renewed.token, "refresh_token": renewed.refresh_token}
    # Room for what an installation adds to its tokens; a browser keeps 4,000 characters.
    assert len(session_cookie(SecretStr(secret)).seal(both, Clock().now(), 60)) < 3000

    keycloak.take_role(ada.id, "pacs-admin")
    # What was issued in the second of a newer token's first use counts as no older (measured, 26.7.3).
    issued = renewed.claims.issued_at
    wait_until(lambda: Clock().now().timestamp() >= issued + 1, 5, "the second is over", every=0.05)
    demoted = provider.renew(renewed.refresh_token)
    assert not demoted.claims.administers
    with pytest.raises(SignInEnded):  # it was used before, and so was the one that came of it
        provider.renew(tokens["refresh_token"])
    anew = answered(browser.redeem(browser.authorize()))
    keycloak.delete_user(ada.id)
    with pytest.raises(SignInEnded):
        provider.renew(anew["refresh_token"])


def test_who_signs_out_of_orthanc_is_asked_for_the_password_again(
    keycloak: Keycloak, residents: People
) -> None:
    ada, secret = residents.user("ada"), keycloak.secrets["EXPLORER_CLIENT_SECRET"]
    browser = Browser(keycloak, "orthanc-explorer", "/orthanc/callback", secret)
    provider = explorers_provider(keycloak)
    first = browser.tokens(ada, residents.password)
    renewed = provider.renew(first["refresh_token"])
    assert browser.authorize().is_redirect
    # Also by one that was used meanwhile, as when the answer with the next was lost.
    provider.end_session(first["refresh_token"])
    assert not browser.authorize().is_redirect
    with pytest.raises(SignInEnded):
        provider.renew(renewed.refresh_token)
    query = urlsplit(provider.end_session_url()).query
    left = browser.http.get(f"{keycloak.endpoint('logout')}?{query}", allow_redirects=False)
    assert left.headers["Location"] == f"{keycloak.public_url}/orthanc/"


@pytest.mark.parametrize("changes", REFUSED_PARAMETERS, ids=str)
def test_a_browser_is_sent_nowhere_else(
    keycloak: Keycloak, browser: Browser, changes: dict[str, str]
) -> None:
    given = {name: value.format(public=keycloak.public_url) for name, value in changes.items()}
    answer = browser.authorize(**given)
    assert not answer.is_redirect, answer.headers["Location"]
    assert answer.status_code in {400, 403}


@pytest.mark.parametrize(("changes", "error"), ERRORS_SENT_BACK, ids=str)
def test_only_code_with_pkce_is_granted(browser: Browser, changes: dict[str, str], error: str) -> None:
    answer = browser.authorize(**changes)
    assert f"error={error}" in answer.headers["Location"]


def test_a_code_is_for_its_verifier_only_and_only_once(residents: People, browser: Browser) -> None:
    wrong = browser.redeem(browser.sign_in(residents.nora, residents.password), code_verifier="w" * 64)
    assert wrong.json()["error"] == "invalid_grant"
    answer = browser.authorize()
    assert browser.redeem(answer).status_code == 200
    assert browser.redeem(answer).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("client", ["ohif-viewer", "admin-cli", "account-console", "security-admin-console"])
def test_no_password_is_taken_but_on_the_sign_in_page(
    keycloak: Keycloak, residents: People, client: str
) -> None:
    form = {"grant_type": "password", "client_id": client, "scope": "openid"}
    answer = keycloak.post_token({**form, "username": residents.nora, "password": residents.password})
    assert answer.status_code in {400, 401}
    assert "access_token" not in answer.text


def test_nobody_registers_or_resets_a_password_alone(browser: Browser) -> None:
    page = browser.authorize().text
    assert "registration" not in page
    assert "reset-credentials" not in page
    assert "rememberMe" not in page


def test_signing_out_ends_the_session_and_leads_back(
    keycloak: Keycloak, residents: People, browser: Browser
) -> None:
    tokens = browser.tokens(residents.nora, residents.password)
    logout = keycloak.endpoint("logout")
    elsewhere = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "https://evil.example/"}
    assert browser.http.get(logout, params=elsewhere, allow_redirects=False).status_code == 400
    for page in ("/signed-out.html", "/"):
        back = {**elsewhere, "post_logout_redirect_uri": keycloak.public_url + page}
        left = browser.http.get(logout, params=back, allow_redirects=False)
        assert left.headers["Location"] == keycloak.public_url + page
    refused = browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refused.json()["error"] == "invalid_grant"
    assert not browser.authorize().is_redirect


def test_two_tabs_renew_their_tokens_side_by_side(residents: People, browser: Browser) -> None:
    tabs = [browser.tokens(residents.nora, residents.password), answered(browser.redeem(browser.authorize()))]
    for _ in range(2):
        tabs = [
            answered(browser.token(grant_type="refresh_token", refresh_token=tab["refresh_token"]))
            for tab in tabs
        ]


def test_nginx_counts_all_tokens_of_a_user_together(keycloak: Keycloak, residents: People) -> None:
    limits = (SOURCE / "snippets" / "limits.conf").read_text()
    [subject] = re.findall(r'"~(\S+<caller_subject>\S+)"', limits)

    def counted(name: str) -> set[str]:
        browser = Browser(keycloak)
        tokens = browser.tokens(residents.user(name), residents.password)
        renewed = answered(browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]))
        given = [f"Bearer {each['access_token']}" for each in (tokens, renewed)]
        return {re.findall(subject.replace("(?<", "(?P<"), each, re.ASCII)[0] for each in given}

    nora, rita = counted("nora") | counted("nora"), counted("rita")
    assert (len(nora), len(rita)) == (1, 1)
    assert nora != rita


def test_guessing_locks_the_account_for_a_while_without_saying_so(keycloak: Keycloak, people: People) -> None:
    # Two within a second would do (quickLoginCheckMilliSeconds), which a slow machine may not be able to.
    guesses = keycloak.admin("GET", "", keycloak.bootstrap_token()).json()["failureFactor"]
    said = {message_of(Browser(keycloak).sign_in(people.nora, random_password())) for _ in range(guesses)}
    said.add(message_of(Browser(keycloak).sign_in(people.nora, people.password)))
    said.add(message_of(Browser(keycloak).sign_in(people.user("nobody"), people.password)))
    assert said == {"200: Invalid username or password."}
    # Only of this account: the next physician at the same address gets in.
    assert Browser(keycloak).sign_in(people.user("rita"), people.password).is_redirect
