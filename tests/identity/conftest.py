"""A real issuer with real users, and a browser-like client for it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from admin.directory import NewUser
from admin.directory.embedded import EmbeddedDirectory
from demo.issuer import REALM_PATH, IssuerConfig, SampleUser, create_issuer
from support.oidc import CLINICS, ORIGIN, PASSWORD, USERS, Clock, OidcClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hashing passwords and making keys is slow on purpose: once, then copied."""
    folder = tmp_path_factory.mktemp("identity")
    directory = EmbeddedDirectory(folder / "identity.db", Clock())
    for clinic in CLINICS:
        directory.ensure_clinic(clinic, clinic.capitalize())
    for username, (clinics, roles) in USERS.items():
        directory.add_user(NewUser.of(username, f"{username}@example.org", clinics, roles), PASSWORD)
    create_issuer(IssuerConfig(ORIGIN + REALM_PATH), directory, folder)
    directory.database.close()
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def data_path(_made_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(_made_once, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def directory(data_path: Path, clock: Clock) -> Iterator[EmbeddedDirectory]:
    directory = EmbeddedDirectory(data_path / "identity.db", clock)
    yield directory
    directory.database.close()


@pytest.fixture
def oidc(directory: EmbeddedDirectory, data_path: Path, clock: Clock) -> OidcClient:
    samples = (SampleUser("nora", PASSWORD, "physician, Northside"),)
    config = IssuerConfig(ORIGIN + REALM_PATH, samples=samples)
    return OidcClient(create_issuer(config, directory, data_path, clock))
