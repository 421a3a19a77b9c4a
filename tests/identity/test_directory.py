"""The `Directory` protocol on the embedded store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from admin.directory import (
    Directory,
    DirectoryUnavailableError,
    InvalidUserError,
    Outcome,
    Role,
    UnknownClinicError,
    UnknownUserError,
    temporary_password,
)
from admin.directory.embedded import EmbeddedDirectory
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from support.oidc import Clock


@pytest.fixture
def users(directory: EmbeddedDirectory) -> Directory:
    """Seen as commands see it: mypy checks that the class satisfies the Protocol."""
    return directory


def test_a_clinic_is_added_once_and_can_be_renamed(users: Directory) -> None:
    assert users.ensure_clinic("eastside", "Eastside") is Outcome.ADDED
    assert users.ensure_clinic("eastside", "Eastside") is Outcome.UNCHANGED
    assert users.ensure_clinic("eastside", "Eastside Clinic") is Outcome.CHANGED
    assert [clinic.id for clinic in users.clinics()] == ["eastside", "northside", "southside"]
    with pytest.raises(InvalidClinicIdError):
        users.ensure_clinic("../x", "X")


def test_adding_a_user_twice_changes_nothing_the_second_time(users: Directory) -> None:
    first = users.add_user("Tim", "Tim@Example.org", ["northside"], [], "a password", name="Tim  Sample")
    second = users.add_user("tim", "tim@example.org", ["northside"], [])
    assert (first.outcome, second.outcome) == (Outcome.ADDED, Outcome.UNCHANGED)
    assert first.user == second.user == users.user("tim")
    assert first.user.name == "Tim Sample"
    assert (first.temporary_password, second.temporary_password) == (None, None)


def test_adding_an_existing_user_completes_and_takes_nothing_away(
    users: Directory, directory: EmbeddedDirectory
) -> None:
    added = users.add_user("nora", "nora@example.org", ["southside"], ["radiologist"], "another password")
    assert added.outcome is Outcome.CHANGED
    assert added.user.clinics == {ClinicId("northside"), ClinicId("southside")}
    assert added.user.roles == {Role.RADIOLOGIST}
    assert directory.authenticate("nora", "demo") is not None
    assert directory.authenticate("nora", "another password") is None


def test_without_a_password_a_temporary_one_is_made(users: Directory, directory: EmbeddedDirectory) -> None:
    added = users.add_user("tim", "tim@example.org", ["northside"])
    assert added.temporary_password
    assert added.temporary_password not in repr(added)
    account = directory.authenticate("tim", added.temporary_password)
    assert account is not None
    assert account.must_change_password
    assert len({temporary_password() for _ in range(100)}) == 100


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
        ("tim", "nora@example.org", [], None),
        ("nora", "rita@example.org", [], None),
        ("tim", "tim@example.org", ["admin"], None),
        ("tim", "tim@example.org", [], "<b>"),
        ("tim", "tim@example.org", [], "x" * 121),
    ],
)
def test_what_is_no_user_is_refused(
    users: Directory, username: str, email: str, roles: list[str], name: str | None
) -> None:
    before = users.users()
    with pytest.raises(InvalidUserError):
        users.add_user(username, email, ["northside"], roles, "a password", name=name)
    assert users.users() == before


def test_a_clinic_has_to_be_added_first(users: Directory) -> None:
    with pytest.raises(UnknownClinicError, match="eastside"):
        users.add_user("tim", "tim@example.org", ["eastside"], [], "x")
    with pytest.raises(UnknownClinicError, match="eastside"):
        users.set_clinics("nora", ["eastside"])


def test_clinics_roles_and_activity_are_set(users: Directory) -> None:
    assert users.set_clinics("nora", ["southside"]).clinics == {ClinicId("southside")}
    assert users.set_roles("nora", ["pacs-admin"]).roles == {Role.PACS_ADMIN}
    assert users.set_roles("nora", []).roles == frozenset()
    assert not users.set_active("nora", active=False).active
    assert [user.username for user in users.users() if not user.active] == ["nora"]


def test_passwords_are_replaced(users: Directory, directory: EmbeddedDirectory) -> None:
    assert users.set_password("nora", "a new one") is None
    assert directory.authenticate("nora", "demo") is None
    assert directory.authenticate("nora", "a new one") is not None
    temporary = users.set_password("nora")
    assert temporary
    assert directory.authenticate("nora", temporary) is not None
    for refused in ("", "x" * 1025):
        with pytest.raises(InvalidUserError):
            users.set_password("nora", refused)


def test_removing_twice_is_fine(users: Directory) -> None:
    assert users.remove_user("nora") is Outcome.CHANGED
    assert users.remove_user("nora") is Outcome.UNCHANGED
    with pytest.raises(UnknownUserError):
        users.user("nora")


def test_status_names_the_provider(users: Directory) -> None:
    assert "embedded issuer" in users.check()


def test_the_database_is_private(directory: EmbeddedDirectory) -> None:
    files = list(directory.database.path.parent.glob("identity.db*"))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_no_password_is_kept(directory: EmbeddedDirectory) -> None:
    directory.add_user("tim", "tim@example.org", [], [], "correct horse")
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
