"""What a person, or somebody's hostile page, does with the issuer's pages."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from admin.directory import NewUser
from demo.issuer import REALM_PATH
from demo.issuer.store import GUESS_WINDOW_SECONDS, GUESSES
from support.oidc import CALLBACK, ORIGIN, PASSWORD, PROTOCOL, answer_of

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from admin.directory.embedded import EmbeddedDirectory
    from support.oidc import Clock, OidcClient


def cookies_of(response: TestResponse) -> SimpleCookie:
    found = SimpleCookie()
    for header in response.headers.getlist("Set-Cookie"):
        found.load(header)
    return found


def guess_before(oidc: OidcClient, username: str, times: int) -> None:
    """Failed sign-ins, without the tenth of a second that checking each password takes."""
    for _ in range(times):
        assert oidc.issuer.extensions["issuer"].store.begin_sign_in(username) is None


def test_signing_in_returns_to_the_viewer_with_code_and_state(oidc: OidcClient) -> None:
    answer = answer_of(oidc.sign_in())
    assert answer["state"] == "st4te"
    assert len(answer["code"]) >= 40


def test_the_sign_in_page_is_safe_to_show(oidc: OidcClient) -> None:
    page = oidc.authorize(state='"><script>x</script>', login_hint="nora")
    html = page.get_data(as_text=True)
    assert "<script" not in html
    assert 'value="nora"' in html
    assert 'autocomplete="username"' in html
    assert 'autocomplete="current-password"' in html
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_cookies_are_kept_from_scripts_and_other_paths(oidc: OidcClient) -> None:
    form = cookies_of(oidc.authorize())["clinicpacs_form"]
    session = cookies_of(oidc.sign_in())["clinicpacs_session"]
    assert (form["samesite"], session["samesite"]) == ("Strict", "Lax")
    for cookie in (form, session):
        assert cookie["httponly"]
        assert cookie["path"] == REALM_PATH
        assert not cookie["secure"]  # the demo has no TLS; with https they are
        assert not cookie["expires"]


def test_who_is_signed_in_is_not_asked_again(oidc: OidcClient) -> None:
    oidc.sign_in()
    assert "code" in answer_of(oidc.authorize())
    assert "code" in answer_of(oidc.authorize(prompt="none"))
    assert 'name="password"' in oidc.authorize(prompt="login").get_data(as_text=True)


def test_max_age_asks_again(oidc: OidcClient, clock: Clock) -> None:
    oidc.sign_in()
    clock.now += 100
    assert "code" in answer_of(oidc.authorize(max_age="200"))
    assert oidc.authorize(max_age="50").status_code == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [("nora", "wrong"), ("nobody", PASSWORD), ("nora", ""), ("", ""), ("../x", "y"), ("nora", "x" * 5000)],
)
def test_a_failed_sign_in_does_not_tell_why(oidc: OidcClient, username: str, password: str) -> None:
    response = oidc.sign_in(username, password)
    assert response.status_code == 403
    assert "That user name and password do not match." in response.get_data(as_text=True)
    assert "clinicpacs_session" not in cookies_of(response)


def test_a_deactivated_user_does_not_sign_in(oidc: OidcClient, directory: EmbeddedDirectory) -> None:
    directory.set_active("nora", active=False)
    assert oidc.sign_in().status_code == 403


@pytest.mark.parametrize("username", ["nora", "nobody"])
def test_guessing_is_slowed_down_for_any_name(oidc: OidcClient, clock: Clock, username: str) -> None:
    guess_before(oidc, username, GUESSES - 1)
    assert oidc.sign_in(username, "wrong").status_code == 403
    refused = oidc.sign_in(username, PASSWORD)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) == GUESS_WINDOW_SECONDS
    assert "5 minutes" in refused.get_data(as_text=True)
    assert oidc.sign_in("rita").status_code == 302  # nobody else has to wait
    clock.now += GUESS_WINDOW_SECONDS
    oidc.browser = oidc.new_browser()
    assert oidc.sign_in(username, "wrong").status_code == 403


def test_signing_in_clears_the_failures(oidc: OidcClient) -> None:
    guess_before(oidc, "nora", GUESSES - 1)
    assert oidc.sign_in("nora").status_code == 302
    oidc.browser = oidc.new_browser()
    assert oidc.sign_in("nora", "wrong").status_code == 403


@pytest.mark.parametrize("flaw", ["no cookie", "no token", "neither", "other token", "other origin"])
def test_a_form_of_another_site_signs_nobody_in(oidc: OidcClient, flaw: str) -> None:
    oidc.authorize()
    cookie = oidc.browser.get_cookie("clinicpacs_form", path=REALM_PATH, domain="127.0.0.1")
    assert cookie is not None
    token = {"no token": "", "neither": "", "other token": "x"}.get(flaw, cookie.value)
    if flaw in {"no cookie", "neither"}:
        oidc.browser = oidc.new_browser()
    response = oidc.browser.post(
        f"{REALM_PATH}/login-actions/authenticate",
        base_url=ORIGIN,
        query_string=oidc.authorization,
        data={"username": "nora", "password": PASSWORD, "form_token": token},
        headers={"Origin": "http://evil.example" if flaw == "other origin" else ORIGIN},
    )
    assert response.status_code == 400
    assert "clinicpacs_session" not in cookies_of(response)


def test_reloading_the_answer_to_a_form_starts_again(oidc: OidcClient) -> None:
    response = oidc.get(f"{REALM_PATH}/login-actions/authenticate", **oidc.authorization)
    assert response.status_code == 303
    assert response.location.startswith(f"{PROTOCOL}/auth?client_id=ohif-viewer&")


def test_a_temporary_password_is_changed_before_anything_else(
    oidc: OidcClient, directory: EmbeddedDirectory
) -> None:
    added = directory.add_user(NewUser.of("tim", "tim@example.org", ["northside"]))
    assert added.temporary_password
    page = oidc.sign_in("tim", added.temporary_password)
    assert page.status_code == 200
    assert "Choose a password" in page.get_data(as_text=True)
    assert "Choose a password" in oidc.authorize().get_data(as_text=True)
    for first, second in (("short", "short"), ("long enough", "different!"), (added.temporary_password,) * 2):
        assert oidc.submit(page, password=first, repeated=second).status_code == 400
    done = oidc.submit(page, password="long enough", repeated="long enough")
    assert oidc.redeem(answer_of(done)["code"]).status_code == 200
    oidc.browser = oidc.new_browser()
    assert oidc.sign_in("tim", added.temporary_password).status_code == 403
    assert "code" in answer_of(oidc.sign_in("tim", "long enough"))


def test_signing_in_anew_ends_the_session_before(oidc: OidcClient) -> None:
    tokens = oidc.tokens("nora")
    page = oidc.authorize(prompt="login")
    oidc.submit(page, username="rita", password=PASSWORD)
    assert oidc.refresh(tokens["refresh_token"]).status_code == 400


def test_signing_out_with_the_id_token_asks_nothing(oidc: OidcClient) -> None:
    tokens = oidc.tokens()
    target = f"{ORIGIN}/viewer?StudyInstanceUIDs=1.2.3"
    response = oidc.get(
        f"{PROTOCOL}/logout",
        id_token_hint=tokens["id_token"],
        post_logout_redirect_uri=target,
        state="s",
    )
    assert response.status_code == 302
    assert response.location == f"{target}&state=s"
    assert oidc.refresh(tokens["refresh_token"]).status_code == 400
    assert 'name="password"' in oidc.authorize().get_data(as_text=True)


def test_signing_out_works_when_the_id_token_has_expired(oidc: OidcClient, clock: Clock) -> None:
    tokens = oidc.tokens()
    clock.now += 3600
    assert oidc.get(f"{PROTOCOL}/logout", id_token_hint=tokens["id_token"]).status_code == 200
    assert oidc.refresh(tokens["refresh_token"]).status_code == 400


def test_without_the_id_token_the_person_is_asked(oidc: OidcClient) -> None:
    tokens = oidc.tokens()
    page = oidc.get(f"{PROTOCOL}/logout", post_logout_redirect_uri=f"{ORIGIN}/")
    assert "Sign out?" in page.get_data(as_text=True)
    tokens = oidc.refresh(tokens["refresh_token"]).get_json()  # nothing has happened yet
    assert oidc.submit(page).location == f"{ORIGIN}/"
    assert oidc.refresh(tokens["refresh_token"]).status_code == 400


def test_someone_elses_id_token_does_not_sign_this_browser_out(oidc: OidcClient) -> None:
    other = oidc.tokens("rita")
    oidc.browser = oidc.new_browser()
    mine = oidc.tokens("nora")
    page = oidc.get(f"{PROTOCOL}/logout", id_token_hint=other["id_token"])
    assert "Sign out?" in page.get_data(as_text=True)
    assert oidc.refresh(mine["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/",
        "//evil.example/",
        f"{ORIGIN}.evil.example/",
        f"{ORIGIN}@evil.example/",
        f"{ORIGIN}\\evil.example",
        f"{ORIGIN}1/",
        "javascript:alert(1)",
        f"{ORIGIN}/\r\nX: y",
    ],
)
def test_signing_out_redirects_to_nobody_else(oidc: OidcClient, uri: str) -> None:
    hint = oidc.tokens()["id_token"]
    response = oidc.get(f"{PROTOCOL}/logout", id_token_hint=hint, post_logout_redirect_uri=uri)
    assert response.status_code == 400
    assert "Location" not in response.headers


def test_only_an_id_token_is_a_hint(oidc: OidcClient) -> None:
    tokens = oidc.tokens()
    for hint in (tokens["access_token"], tokens["refresh_token"], "a.b.c", "x"):
        assert oidc.get(f"{PROTOCOL}/logout", id_token_hint=hint).status_code == 400
    assert oidc.refresh(tokens["refresh_token"]).status_code == 200


def test_another_host_name_is_refused(oidc: OidcClient) -> None:
    url = "http://evil.example:8800"
    response = oidc.browser.get(f"{PROTOCOL}/auth", base_url=url, query_string=oidc.authorization)
    assert response.status_code == 400


def test_unknown_pages_and_methods_are_told_apart(oidc: OidcClient) -> None:
    assert oidc.get(f"{REALM_PATH}/nothing").status_code == 404
    refused = oidc.get(f"{PROTOCOL}/token")
    assert refused.status_code == 405
    assert refused.get_json()["error"] == "invalid_request"
    assert "POST" in refused.headers["Allow"]


def test_an_identity_database_that_fails_is_a_503(oidc: OidcClient, directory: EmbeddedDirectory) -> None:
    with directory.database.write() as connection:
        connection.execute(text("DROP TABLE sessions"))
    oidc.browser.set_cookie("clinicpacs_session", "x", path=REALM_PATH, domain="127.0.0.1")
    response = oidc.authorize()
    assert response.status_code == 503
    assert "sessions" not in response.get_data(as_text=True)


PARAMETERS = [
    *("client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "prompt"),
    *(
        "code_challenge_method",
        "max_age",
        "login_hint",
        "response_mode",
        "grant_type",
        "code",
        "refresh_token",
    ),
    *("code_verifier", "id_token_hint", "post_logout_redirect_uri", "username", "password", "form_token"),
    *("request", "client_secret", "refresh_token"),
]
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "ohif-viewer",
            CALLBACK,
            "code",
            "openid",
            "S256",
            "none",
            "refresh_token",
            "authorization_code",
            "\x00",
        ]
    ),
)
REQUESTS = st.dictionaries(st.sampled_from(PARAMETERS), VALUES)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(
        [f"{PROTOCOL}/{name}" for name in ("auth", "token", "logout", "userinfo")]
        + [f"{REALM_PATH}/login-actions/{name}" for name in ("authenticate", "change-password")]
    ),
    query=REQUESTS,
    form=REQUESTS,
    sound=st.booleans(),
    is_post=st.booleans(),
)
def test_no_parameters_make_the_issuer_fail(
    oidc: OidcClient, path: str, query: dict[str, str], form: dict[str, str], *, sound: bool, is_post: bool
) -> None:
    parameters = {**oidc.authorization, **query} if sound else query
    method = oidc.browser.post if is_post else oidc.browser.get
    response = method(path, base_url=ORIGIN, query_string=parameters, data=form if is_post else None)
    assert response.status_code < 500
    location = response.headers.get("Location", CALLBACK)
    assert location.startswith((f"{CALLBACK}", REALM_PATH, f"{ORIGIN}/", ORIGIN))
