"""Which tokens open the door, and what each refused one is refused for."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry
from prometheus_client import REGISTRY

from gateway.identity.claims import ClaimsPolicy, InvalidTokenError
from gateway.identity.tokens import unverified_kid
from pacs.catalog import clinics
from pacs.catalog.schema import revocations
from support.gateway import AUDIENCE, CLOSED, MINE, NORTH, NOW, SOUTH, key, public_jwk

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.gateway import Issuer, World

T = int(NOW.timestamp())


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(issuer: Issuer) -> str:
    return f"{encoded({'alg': 'none', 'kid': 'first'})}.{encoded(issuer.claims())}."


def by_public_key_as_secret(issuer: Issuer) -> str:
    signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(issuer.claims())}"
    digest = hmac.digest(key("first").as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def by_own_key(issuer: Issuer, **header: Any) -> str:
    """Signed by a key of the attacker's, under the kid of the issuer's."""
    own = key("attacker")
    return jwt.encode({"alg": "RS256", "kid": "first", **header}, issuer.claims(), own)


def with_other_payload(issuer: Issuer) -> str:
    head, _, signature = issuer.token().split(".")
    return f"{head}.{encoded(issuer.claims(groups=[f'/clinics/{SOUTH}']))}.{signature}"


def with_header(issuer: Issuer, **header: Any) -> str:
    """Really signed by the issuer's key, with a header that asks for something."""
    _, body, _ = issuer.token().split(".")
    new_head = encoded({"alg": "RS256", "kid": "first", **header})
    signed = JWSRegistry.algorithms["RS256"].sign(f"{new_head}.{body}".encode(), key("first"))
    return f"{new_head}.{body}.{base64.urlsafe_b64encode(signed).rstrip(b'=').decode()}"


REFUSED: dict[str, tuple[str, Callable[[Issuer], str]]] = {
    "alg none": ("malformed", unsigned),
    "alg none, with a signature": ("algorithm", lambda i: unsigned(i) + "AAAA"),
    "HMAC with the public key as its secret": ("algorithm", by_public_key_as_secret),
    "RS512 by the right key": (
        "algorithm",
        lambda i: jwt.encode(
            {"alg": "RS512", "kid": "first"}, i.claims(), key("first"), algorithms=["RS512"]
        ),
    ),
    "PS256 by the right key": (
        "algorithm",
        lambda i: jwt.encode(
            {"alg": "PS256", "kid": "first"}, i.claims(), key("first"), algorithms=["PS256"]
        ),
    ),
    "another's key under a known kid": ("signature", by_own_key),
    "another payload": ("signature", with_other_payload),
    "signature cut": ("malformed", lambda i: i.token().rpartition(".")[0] + "."),
    "unknown kid": ("unknown-key", lambda i: i.token(kid="attacker")),
    "no kid": ("unknown-key", lambda i: with_header(i, kid=None)),
    "kid of a wrong type": ("unknown-key", lambda i: with_header(i, kid=["first"])),
    "kid too long": ("unknown-key", lambda i: with_header(i, kid="k" * 300)),
    "jku": ("header", lambda i: with_header(i, jku="https://attacker.example/keys")),
    "x5u": ("header", lambda i: with_header(i, x5u="https://attacker.example/cert")),
    "jwk": ("header", lambda i: with_header(i, jwk={"kty": "oct", "k": "AAAA"})),
    "x5c": ("header", lambda i: with_header(i, x5c=["AAAA"])),
    "crit": ("header", lambda i: with_header(i, crit=["exp"])),
    "b64": ("header", lambda i: with_header(i, b64=False, crit=["b64"])),
    "another issuer": ("issuer", lambda i: i.token(iss="https://attacker.example")),
    "issuer with a slash more": ("issuer", lambda i: i.token(iss=i.issuer + "/")),
    "issuer in a list": ("issuer", lambda i: i.token(iss=[i.issuer])),
    "no issuer": ("issuer", lambda i: i.token(iss=...)),
    "another audience": ("audience", lambda i: i.token(aud="account")),
    "audience as part of another": ("audience", lambda i: i.token(aud=f"{AUDIENCE}-2")),
    "audience list without ours": ("audience", lambda i: i.token(aud=["account", "console"])),
    "audience in a deeper list": ("audience", lambda i: i.token(aud=[[AUDIENCE]])),
    "audience as a key": ("audience", lambda i: i.token(aud={AUDIENCE: True})),
    "no audience": ("audience", lambda i: i.token(aud=...)),
    "another client": ("client", lambda i: i.token(azp="another-app")),
    "client in a list": ("client", lambda i: i.token(azp=["ohif-viewer"])),
    "no client": ("client", lambda i: i.token(azp=...)),
    "ID token": ("type", lambda i: i.token(typ="ID")),
    "refresh token": ("type", lambda i: i.token(typ="Refresh")),
    "type in lower case": ("type", lambda i: i.token(typ="bearer")),
    "no type": ("type", lambda i: i.token(typ=...)),
    "expired over 30 s ago": ("time", lambda i: i.token(exp=T - 31)),
    "no expiry": ("time", lambda i: i.token(exp=...)),
    "expiry as text": ("time", lambda i: i.token(exp=str(T + 300))),
    "expiry true": ("time", lambda i: i.token(exp=True)),
    "expiry NaN": ("time", lambda i: i.token(exp=float("nan"))),
    "expiry infinite": ("time", lambda i: i.token(exp=float("inf"))),
    "issued over 30 s ahead": ("time", lambda i: i.token(iat=T + 32)),
    "no issue time": ("time", lambda i: i.token(iat=...)),
    "issue time as text": ("time", lambda i: i.token(iat="yesterday")),
    "not valid for over 30 s yet": ("time", lambda i: i.token(nbf=T + 32)),
    "not-before as a list": ("time", lambda i: i.token(nbf=[T])),
    "no subject": ("claims", lambda i: i.token(sub=...)),
    "empty subject": ("claims", lambda i: i.token(sub="")),
    "subject of a wrong type": ("claims", lambda i: i.token(sub=7)),
    "subject with control characters": ("claims", lambda i: i.token(sub="a\nb")),
    "subject too long": ("claims", lambda i: i.token(sub="s" * 256)),
    "too large": ("too-large", lambda i: i.token(padding="p" * 12_000)),
    "no token at all": ("malformed", lambda _: "abc"),
    "two dots": ("malformed", lambda _: ".."),
    "spaces within": ("malformed", lambda i: i.token().replace(".", " .", 1)),
    "two tokens": ("malformed", lambda i: f"{i.token()},{i.token()}"),
    "header no JSON": ("malformed", lambda i: "AAAA." + i.token().partition(".")[2]),
    "header a list": ("header", lambda i: f"{encoded(['alg'])}." + i.token().partition(".")[2]),
    "five parts, encrypted": ("malformed", lambda _: "a.b.c.d.e"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_token_is_refused_and_counted(case: str, still_world: World) -> None:
    reason, make = REFUSED[case]
    before = REGISTRY.get_sample_value("gateway_denied_total", {"reason": reason}) or 0
    answer = still_world.get("/studies", make(still_world.issuer))
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="clinicpacs", error="invalid_token"')
    assert REGISTRY.get_sample_value("gateway_denied_total", {"reason": reason}) == before + 1


TAKEN: dict[str, Callable[[Issuer], str]] = {
    "as Keycloak makes it": lambda i: i.token(),
    "audience as text": lambda i: i.token(aud=AUDIENCE),
    "expired just now": lambda i: i.token(exp=T - 29),
    "issued by a clock that is ahead": lambda i: i.token(iat=T + 29, nbf=T + 29),
    "times with fractions": lambda i: i.token(exp=T + 60.5, iat=T - 0.5),
    "expiry beyond all clocks": lambda i: i.token(exp=10**30),
    "no user name": lambda i: i.token(preferred_username=...),
    "user name of a wrong type": lambda i: i.token(preferred_username={"nora": 1}),
    "with a thumbprint": lambda i: with_header(i, x5t="abc"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_good_token_is_taken(case: str, still_world: World) -> None:
    assert still_world.get("/studies", TAKEN[case](still_world.issuer)).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic bm9yYTpkZW1v", "Token abc", "bearer:abc", "{token}", "Basic {token}"],
)
def test_only_a_bearer_token_in_the_header_counts(authorization: str, still_world: World) -> None:
    header = authorization.format(token=still_world.issuer.token())
    answer = still_world.app.test_client().get("/dicom-web/studies", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="clinicpacs"'


def test_a_token_in_the_address_or_a_cookie_is_no_token(still_world: World) -> None:
    token = still_world.issuer.token()
    client = still_world.app.test_client()
    client.set_cookie("access_token", token)
    for name in ("token", "access_token", "Authorization"):
        assert client.get(f"/dicom-web/studies?{name}={token}").status_code == 401


ODD_GROUPS: list[Any] = [
    ...,
    None,
    f"/clinics/{NORTH}",
    {f"/clinics/{NORTH}": 1},
    7,
    [],
    [None, 7, {"a": 1}, [f"/clinics/{NORTH}"]],
    [NORTH],
    [f"clinics/{NORTH}"],
    [f"/clinics/{NORTH}/"],
    [f"/clinics/{NORTH}/admins"],
    [f"/other/clinics/{NORTH}"],
    [f"/Clinics/{NORTH}"],
    [f"/clinics/{NORTH}\n"],
    ["/clinics/NORTHSIDE"],
    ["/clinics/*"],
    ["/clinics/"],
    ["/clinics/.."],
    ["/clinics/" + "n" * 64],
    [f"/clinics/{CLOSED}"],
    ["/clinics/not-in-the-catalog"],
]


@pytest.mark.parametrize("groups", ODD_GROUPS, ids=repr)
def test_a_group_that_is_exactly_no_active_clinic_opens_nothing(groups: Any, still_world: World) -> None:
    answer = still_world.get(
        "/studies", still_world.issuer.token(groups=groups or ... if groups is None else groups)
    )
    assert answer.status_code == 403
    assert "administrator" in answer.get_json(force=True)["detail"]


@pytest.mark.parametrize(
    "claims",
    [
        {"realm_access": {"roles": "radiologist"}},
        {"realm_access": ["radiologist"]},
        {"realm_access": {"roles": {"radiologist": 1}}},
        {"realm_access": {"roles": ["Radiologist", "pacs-admin ", "radiologists"]}},
        {"realm_access": None, "roles": ["radiologist"], "role": "pacs-admin"},
        {"resource_access": {"dicom-gateway": {"roles": ["pacs-admin"]}}},
        {"groups": ["/radiologist", "radiologist", "/clinics/radiologist"]},
    ],
    ids=repr,
)
def test_a_role_counts_only_in_the_realm_roles(claims: dict[str, Any], still_world: World) -> None:
    # By hand: for the issuer's helper `roles` are those of the realm.
    said = still_world.issuer.claims(groups=[]) | claims
    token = jwt.encode({"alg": "RS256", "kid": "first"}, said, key("first"))
    assert still_world.get("/studies", token).status_code == 403


@pytest.mark.parametrize("role", ["radiologist", "pacs-admin"])
def test_a_role_sees_across_clinics(role: str, still_world: World) -> None:
    token = still_world.issuer.token("rita", groups=[], roles=[role])
    assert len(still_world.uids("", token)) == 4


def test_a_clinic_that_is_closed_shuts_its_users_out_at_once(world: World) -> None:
    token = world.issuer.token()
    assert world.get("/studies", token).status_code == 200
    with world.catalog.write() as connection:
        clinics.deactivate(connection, NORTH)
    assert world.get("/studies", token).status_code == 403


def test_a_revoked_token_is_refused_at_once_and_a_newer_one_is_taken(any_catalog_world: World) -> None:
    world = any_catalog_world
    token = world.issuer.token()
    assert world.get("/studies", token).status_code == 200
    world.clock.turn(10)
    world.insert(revocations, subject="subject-of-nora", issued_before=world.clock.now())
    answer = world.get("/studies", token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert world.get("/studies", world.sam).status_code == 200
    world.clock.turn(1)
    assert world.get("/studies").status_code == 200


def test_a_verified_token_is_not_remembered_past_its_expiry(world: World) -> None:
    token = world.issuer.token(exp=T + 5)
    assert world.get("/studies", token).status_code == 200
    world.clock.turn(34)
    assert world.get("/studies", token).status_code == 200
    world.clock.turn(2)
    assert world.get("/studies", token).status_code == 401


def test_so_many_tokens_are_remembered_and_the_oldest_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.identity.tokens._CACHE_MAX", 2)
    first, second, third = (world.issuer.token() for _ in range(3))
    before = REGISTRY.get_sample_value("gateway_tokens_verified_total") or 0
    verified = []
    for token in (first, second, third, second, first):
        assert world.get("/studies", token).status_code == 200
        verified.append((REGISTRY.get_sample_value("gateway_tokens_verified_total") or 0) - before)
    assert verified == [1, 2, 3, 3, 4]


def test_a_token_that_was_taken_lends_its_words_to_no_other_signature(still_world: World) -> None:
    token = still_world.issuer.token()
    assert still_world.get("/studies", token).status_code == 200
    said, _, signature = token.rpartition(".")
    for other in (signature[::-1], still_world.issuer.token("sam").rpartition(".")[2], "AA"):
        assert still_world.get("/studies", f"{said}.{other}").status_code == 401


def test_the_policy_reads_what_it_needs_and_nothing_else() -> None:
    policy = ClaimsPolicy("https://issuer.example", AUDIENCE, frozenset({"a"}))
    claims = {
        "iss": "https://issuer.example", "aud": AUDIENCE, "azp": "a", "typ": "Bearer", "sub": "s",
        "iat": T, "exp": T + 1, "groups": ["/clinics/northside", "/clinics/x"], "admin": True,
    }  # fmt: skip
    found = policy.verify(claims, T)
    assert (found.subject, sorted(found.clinics), found.sees_all) == ("s", ["northside", "x"], False)


def test_a_header_of_a_wrong_shape_is_refused_before_any_key_is_asked_for() -> None:
    headers: list[Any] = [[], "RS256", 7, {"alg": ["RS256"], "kid": "first"}, {"kid": "first"}, {"alg": 7}]
    for header in headers:
        with pytest.raises(InvalidTokenError):
            unverified_kid(f"{encoded(header)}.e30.AAAA")


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_weak_and_foreign_keys_of_the_key_set_are_not_used(world: World) -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"})
    issuer = world.issuer
    encrypting = public_jwk("second") | {"use": "enc"}
    other = public_jwk("third") | {"alg": "RS512"}
    issuer.body = json.dumps(
        {"keys": [weak.as_dict(private=False), encrypting, other, {"kty": "oct", "kid": "o", "k": "AAAA"}, 7]}
    ).encode()
    for kid in ("second", "third"):
        assert world.get("/studies", issuer.token(kid=kid)).status_code == 401
    token = jwt.encode({"alg": "RS256", "kid": "weak"}, issuer.claims(), weak)
    assert world.get("/studies", token).status_code == 401


def test_a_token_is_verified_once_and_the_catalog_asked_at_each_frame(any_catalog_world: World) -> None:
    world = any_catalog_world
    frame, token = f"{MINE.path()}/frames/1", world.issuer.token()
    before = REGISTRY.get_sample_value("gateway_tokens_verified_total") or 0
    assert [world.get(frame, token).status_code for _ in range(5)] == [200] * 5
    assert REGISTRY.get_sample_value("gateway_tokens_verified_total") == before + 1
    with world.catalog.write() as connection:
        clinics.deactivate(connection, NORTH)
    assert world.get(frame, token).status_code == 403
    with world.catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", world.clock.now())
    assert world.get(frame, token).status_code == 200
    world.clock.turn(1)
    world.insert(revocations, subject="subject-of-nora", issued_before=world.clock.now())
    assert world.get(frame, token).status_code == 401
    assert REGISTRY.get_sample_value("gateway_tokens_verified_total") == before + 1
