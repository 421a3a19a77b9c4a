"""The `Directory` protocol on the embedded store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from admin.directory import DirectoryError, DirectoryUnavailableError, InvalidUserError, NewUser
from admin.directory.embedded import EmbeddedDirectory
from admin.directory.events import Events
from support.directory_contract import DirectoryContract, People, SignIn
from support.oidc import PASSWORD

if TYPE_CHECKING:
    from support.oidc import Clock


@pytest.fixture
def people(directory: EmbeddedDirectory) -> People:
    def sign_in(username: str, password: str) -> SignIn:
        account = directory.authenticate(username, password)
        if account is None:
            return SignIn.REFUSED
        return SignIn.MUST_CHANGE_PASSWORD if account.must_change_password else SignIn.DONE

    return People(directory, PASSWORD, sign_in)


class TestEmbedded(DirectoryContract):
    """The contract, on SQLite."""


@pytest.mark.parametrize(
    ("username", "email", "roles", "name"),
    [
        ("no space", "x@example.org", [], None),
        ("", "x@example.org", [], None),
        ("-x", "x@example.org", [], None),
        ("x" * 64, "x@example.org", [], None),
        ("tim", "no address", [], None),
        ("tim", "x@example.org,y@example.org", [], None),
        ("tim", "x@example..org", [], None),
        ("tim", "tim@example.org", ["admin"], None),
        ("tim", "tim@example.org", [], "<b>"),
        ("tim", "tim@example.org", [], "x" * 121),
    ],
)
def test_what_is_no_user_is_refused(username: str, email: str, roles: list[str], name: str | None) -> None:
    with pytest.raises(InvalidUserError):
        NewUser.of(username, email, ["northside"], roles, name=name)


def test_one_time_codes_are_not_for_the_embedded_issuer(people: People) -> None:
    with pytest.raises(InvalidUserError, match="one-time codes"):
        people.directory.add_user(people.new("tim", otp=True))
    assert len(people.directory.users()) == 3


def test_sign_ins_are_on_no_record(directory: EmbeddedDirectory) -> None:
    with pytest.raises(DirectoryError, match="keeps no record of who signed in"):
        directory.events(Events.SIGN_INS)


def test_status_names_the_provider(directory: EmbeddedDirectory) -> None:
    assert "embedded issuer" in directory.check()


def test_the_database_is_private(directory: EmbeddedDirectory) -> None:
    files = list(directory.database.path.parent.glob("identity.db*"))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_no_password_is_kept(directory: EmbeddedDirectory) -> None:
    directory.add_user(NewUser.of("tim", "tim@example.org"), "correct horse")
    directory.database.close()
    files = directory.database.path.parent.glob("identity.db*")
    assert not any(b"correct horse" in file.read_bytes() for file in files)


def test_two_processes_share_it(directory: EmbeddedDirectory, clock: Clock) -> None:
    script = (
        "import sys; from pathlib import Path; from admin.directory.embedded import EmbeddedDirectory\n"
        "directory = EmbeddedDirectory(Path(sys.argv[1]))\n"
        "for n in range(30): directory.ensure_clinic(f'other-{n}', 'Other')\n"
    )
    command = [sys.executable, "-c", script, str(directory.database.path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as other:
        for number in range(30):
            directory.ensure_clinic(f"own-{number}", "Own")
        assert other.wait(30) == 0
    assert len(directory.clinics()) == 2 + 60


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    directory = EmbeddedDirectory(tmp_path / "identity.db")
    with directory.database.write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    with pytest.raises(DirectoryUnavailableError, match="newer version"):
        EmbeddedDirectory(tmp_path / "identity.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity.db").write_text("this is no database, only a longer text of no meaning" * 20)
    with pytest.raises(DirectoryUnavailableError, match=r"identity\.db"):
        EmbeddedDirectory(tmp_path / "identity.db")
    (tmp_path / "folder").write_text("")
    with pytest.raises(DirectoryUnavailableError):
        EmbeddedDirectory(tmp_path / "folder" / "identity.db")
