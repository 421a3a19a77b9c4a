"""The Keycloak adapter as far as it can be tested without a Keycloak; with one in tests/keycloak."""

from __future__ import annotations

import socket

import pytest

from admin.directory import DirectoryUnavailableError, InvalidUserError, NewUser
from admin.directory.keycloak import KeycloakDirectory
from admin.directory.keycloak_forms import clinic_of, rights_in, split_name, user_of


@pytest.mark.parametrize(
    ("path", "clinic"),
    [
        ("/clinics/northside", "northside"),
        ("/clinics", None),
        ("/clinics/", None),
        ("/clinics/northside/physicians", None),
        ("/other/clinics/northside", None),
        ("/clinics/NORTHSIDE", None),
        ("northside", None),
    ],
)
def test_only_a_group_right_below_clinics_is_a_clinic(path: str, clinic: str | None) -> None:
    assert clinic_of(path) == clinic


@pytest.mark.parametrize("name", ["Nora Sample", "Nora", "Nora de la Sample"])
def test_a_name_comes_back_as_it_went(name: str) -> None:
    user = user_of({"id": "1", "username": "nora", **split_name(name)}, (), ())
    assert user.name == name
    assert not user.active


def test_a_keycloak_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and nobody listens
        directory = KeycloakDirectory(f"http://127.0.0.1:{held.getsockname()[1]}/auth", "secret")
        with pytest.raises(DirectoryUnavailableError, match="KEYCLOAK_URL"):
            directory.check()
        with pytest.raises(DirectoryUnavailableError):
            directory.add_user(NewUser.of("nora", "nora@example.org", ["northside"]))


def test_bad_data_is_refused_before_keycloak_is_asked() -> None:
    directory = KeycloakDirectory("http://127.0.0.1:9/auth", "secret")
    with pytest.raises(InvalidUserError):
        directory.set_roles("nora", ["admin"])


@pytest.mark.parametrize("token", ["", "a.b.c", "x", "a.e30.c", "a.bnVsbA.c"])
def test_what_is_no_token_grants_no_rights(token: str) -> None:
    assert rights_in(token) == frozenset()
