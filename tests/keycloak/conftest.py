"""A real Keycloak with the realm that production imports: started here, or the end-to-end run's.

Users and clinics that the tests add end in a random tag, so that others may live in the same realm.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from admin.directory.keycloak import KeycloakDirectory
from support.directory_contract import People, SignIn
from support.keycloak import Keycloak
from support.keycloak_browser import Browser, random_password

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """KEYCLOAK_URL is one that runs; KEYCLOAK_HOME a distribution to start."""
    if "KEYCLOAK_URL" in os.environ:
        yield Keycloak.running(dict(os.environ))
        return
    home = os.environ.get("KEYCLOAK_HOME")
    if home is None:
        pytest.skip("neither KEYCLOAK_URL nor KEYCLOAK_HOME is set")
    server = Keycloak.start(Path(home).resolve(), tmp_path_factory.mktemp("keycloak"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def directory(keycloak: Keycloak) -> KeycloakDirectory:
    return KeycloakDirectory(keycloak.url, keycloak.secrets["KEYCLOAK_CLIENT_SECRET"], verify=keycloak.verify)


@pytest.fixture
def browser(keycloak: Keycloak) -> Browser:
    return Browser(keycloak)


@pytest.fixture
def people(keycloak: Keycloak, directory: KeycloakDirectory) -> Iterator[People]:
    """Two clinics, two users, and nothing of them afterwards."""
    yield from _settled(keycloak, directory)


@pytest.fixture(scope="session")
def residents(keycloak: Keycloak, directory: KeycloakDirectory) -> Iterator[People]:
    """And ada of both clinics, a pacs-admin: for tests that only sign in, with the right password."""
    for people in _settled(keycloak, directory):
        directory.add_user(people.new("ada", "northside", "southside"), people.password)
        directory.set_roles(people.user("ada"), ["pacs-admin"])
        yield people


def _settled(keycloak: Keycloak, directory: KeycloakDirectory) -> Iterator[People]:
    def sign_in(username: str, password: str) -> SignIn:
        answer = Browser(keycloak).sign_in(username, password)
        if answer.is_redirect:
            return SignIn.DONE
        assert answer.status_code == 200, answer.text
        return SignIn.MUST_CHANGE_PASSWORD if "password-new" in answer.text else SignIn.REFUSED

    people = People(directory, random_password(), sign_in, f"-{secrets.token_hex(3)}")
    for name in ("northside", "southside"):
        directory.ensure_clinic(people.clinic(name), name.capitalize())
    directory.add_user(people.new("nora", "northside"), people.password)
    directory.add_user(people.new("rita"), people.password)
    directory.set_roles(people.user("rita"), ["radiologist"])
    yield people
    _remove_all(keycloak, directory, people.tag)


def _remove_all(keycloak: Keycloak, directory: KeycloakDirectory, tag: str) -> None:
    for user in directory.users():
        if user.username.endswith(tag):
            directory.remove_user(user.username)
    token = str(keycloak.service_token("clinicpacs-admin", "KEYCLOAK_CLIENT_SECRET").json()["access_token"])
    for clinic in directory.clinics():
        if clinic.id.endswith(tag):
            group = keycloak.admin("GET", f"/group-by-path/clinics/{clinic.id}", token).json()
            keycloak.admin("DELETE", f"/groups/{group['id']}", token)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up this process's logs; the runner closes the stderr that they write to."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
