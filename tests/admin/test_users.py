"""Adding a user grants what is asked, tells a password once, and takes nothing away."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from admin.directory import Role, UnknownUserError
from admin.platform import Platform
from admin.settings import AdminSettings
from pacs.catalog.schema import audit, revocations

if TYPE_CHECKING:
    from support.site import Site

NORA = ("add-user", "nora", "--email", "nora@northside.example")


@pytest.fixture
def two_clinics(site: Site) -> Site:
    site.done("add-clinic", "northside", "Northside")
    site.done("add-clinic", "southside", "Southside")
    return site


def temporary(told: str) -> str | None:
    found = re.search(r"temporary password, shown only now: (\S+)", told)
    return found[1] if found else None


def test_a_user_gets_clinic_role_and_a_password_that_opens(two_clinics: Site) -> None:
    told = two_clinics.done(*NORA, "--clinic", "northside", "--role", "radiologist", "--full-name", "Nora N")
    user = two_clinics.directory.user("nora")
    assert (user.clinics, user.roles, user.name) == ({"northside"}, {Role.RADIOLOGIST}, "Nora N")
    password = temporary(told)
    assert password is not None
    assert two_clinics.directory.authenticate("nora", password) is not None
    assert ("add-user", None, True) in two_clinics.audited()
    assert password not in str(two_clinics.rows(revocations)) + str(two_clinics.audited())


def test_running_it_again_adds_and_keeps_the_password(two_clinics: Site) -> None:
    password = temporary(two_clinics.done(*NORA, "--clinic", "northside"))
    told = two_clinics.done(*NORA, "--clinic", "southside", "--role", "pacs-admin")
    assert "clinic southside added" in told
    assert "role pacs-admin added" in told
    assert temporary(told) is None
    assert "the password stays" in told
    assert two_clinics.directory.user("nora").clinics == {"northside", "southside"}
    assert password is not None
    assert two_clinics.directory.authenticate("nora", password) is not None
    assert "nothing to change" in two_clinics.done(*NORA)


def test_a_password_is_reset_only_when_asked(two_clinics: Site) -> None:
    first = temporary(two_clinics.done(*NORA))
    second = temporary(two_clinics.done(*NORA, "--reset-password"))
    assert first is not None
    assert second is not None
    assert two_clinics.directory.authenticate("nora", first) is None
    assert two_clinics.directory.authenticate("nora", second) is not None
    two_clinics.done(*NORA, "--reset-password", "--password-stdin", typed="from a file\n")
    assert two_clinics.directory.authenticate("nora", "from a file") is not None
    assert [row[0] for row in two_clinics.audited()].count("reset-password") == 2


def test_a_given_password_is_not_shown(two_clinics: Site) -> None:
    told = two_clinics.done(*NORA, "--password-stdin", typed="hush hush\n")
    assert "hush" not in told
    assert two_clinics.directory.authenticate("nora", "hush hush") is not None


def test_an_unknown_clinic_is_told_with_the_remedy(two_clinics: Site) -> None:
    result = two_clinics.run(*NORA, "--clinic", "eastside")
    assert result.exit_code == 2
    assert "clinicpacs add-clinic eastside" in result.stderr
    with pytest.raises(UnknownUserError):
        two_clinics.directory.user("nora")


def test_a_clinic_that_was_added_without_a_provider_gets_its_group_now(sqlite_site: Site) -> None:
    sqlite_site.done("add-clinic", "northside", "Northside", IDENTITY_PATH="")
    sqlite_site.done(*NORA, "--clinic", "northside")
    assert [(group.id, group.name) for group in sqlite_site.directory.clinics()] == [
        ("northside", "Northside")
    ]
    assert sqlite_site.directory.user("nora").clinics == {"northside"}


def test_without_an_identity_provider_there_are_no_users(sqlite_site: Site) -> None:
    for command in [NORA, ("remove-user", "nora", "--yes")]:
        result = sqlite_site.run(*command, IDENTITY_PATH="")
        assert result.exit_code == 2
        assert "no identity provider is configured" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("add-user", "no ra", "--email", "nora@northside.example"),
        ("add-user", "nora", "--email", "nowhere"),
        ("add-user", "nora", "--email", "nora@northside.example", "--clinic", "../x"),
        ("add-user", "nora", "--email", "nora@northside.example", "--role", "root"),
        ("add-user", "nora", "--email", "nora@northside.example", "--full-name", "<script>"),
        ("add-user", "nora"),
    ],
)
def test_wrong_usage_is_told_without_a_traceback(sqlite_site: Site, arguments: tuple[str, ...]) -> None:
    result = sqlite_site.run(*arguments)
    assert result.exit_code == 2
    assert result.stderr
    assert "Traceback" not in result.output
    assert sqlite_site.directory.users() == []


def test_an_empty_password_is_refused(sqlite_site: Site) -> None:
    result = sqlite_site.run(*NORA, "--password-stdin", typed="\n")
    assert result.exit_code == 2
    assert sqlite_site.directory.users() == []


def test_what_did_not_happen_is_audited_as_such(sqlite_site: Site) -> None:
    sqlite_site.done(*NORA)
    result = sqlite_site.run("add-user", "sam", "--email", "nora@northside.example")
    assert result.exit_code == 2
    assert "is the address of user 'nora'" in result.stderr
    assert sqlite_site.audited()[-2:] == [("add-user", None, True), ("add-user", None, False)]


def test_what_happened_in_part_is_not_denied(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    sqlite_site.done(*NORA, "--clinic", "northside")
    with closing(sqlite3.connect(sqlite_site.directory.database.path)) as connection:
        connection.execute(
            "CREATE TRIGGER away BEFORE INSERT ON user_roles BEGIN INSERT INTO nowhere VALUES (1); END"
        )
    result = sqlite_site.run("move-user", "nora", "--clinic", "southside", "--role", "radiologist")
    assert result.exit_code == 2
    assert sqlite_site.directory.user("nora").clinics == {"southside"}
    told = sqlite_site.rows(audit)[-1]
    assert (told["action"], told["allowed"]) == ("move-user", False)
    assert told["detail"].endswith("-> southside, radiologist (failed; part of it may have happened)")


def test_a_removed_users_tokens_are_refused_from_now_on(two_clinics: Site) -> None:
    two_clinics.done(*NORA, "--clinic", "northside")
    subject = two_clinics.directory.user("nora").id
    asked = two_clinics.run("remove-user", "nora", typed="n\n")
    assert asked.exit_code == 1
    assert two_clinics.directory.user("nora").id == subject
    before = datetime.now(UTC)
    two_clinics.done("remove-user", "nora", typed="y\n")
    (row,) = two_clinics.rows(revocations)
    assert row["subject"] == subject
    assert before <= row["issued_before"] <= before + timedelta(seconds=30)
    with pytest.raises(UnknownUserError):
        two_clinics.directory.user("nora")


def test_a_moved_user_has_only_what_was_named_and_older_tokens_end(two_clinics: Site) -> None:
    two_clinics.done(*NORA, "--clinic", "northside", "--role", "radiologist")
    subject = two_clinics.directory.user("nora").id
    before = datetime.now(UTC)
    told = two_clinics.done("move-user", "nora", "--clinic", "southside")
    assert "nora: northside, radiologist -> southside, radiologist" in told
    (row,) = two_clinics.rows(revocations)
    assert (row["subject"], row["issued_before"] >= before) == (subject, True)
    assert ("move-user", None, True) in two_clinics.audited()
    two_clinics.done("move-user", "nora", "--no-role", "--clinic", "northside", "--clinic", "southside")
    user = two_clinics.directory.user("nora")
    assert (user.clinics, user.roles) == ({"northside", "southside"}, frozenset())
    two_clinics.done("move-user", "nora", "--no-clinic")
    assert two_clinics.directory.user("nora").clinics == frozenset()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--no-clinic", "--clinic", "northside"),
        ("--role", "radiologist", "--no-role"),
        ("--clinic", "eastside"),
    ],
)
def test_a_user_is_moved_only_to_what_is_clear_and_there(
    two_clinics: Site, arguments: tuple[str, ...]
) -> None:
    two_clinics.done(*NORA, "--clinic", "northside")
    result = two_clinics.run("move-user", "nora", *arguments)
    assert result.exit_code == 2
    assert two_clinics.directory.user("nora").clinics == {"northside"}
    assert two_clinics.rows(revocations) == []


@pytest.mark.long
def test_deactivating_a_clinic_signs_out_who_is_left_with_nothing(two_clinics: Site) -> None:
    ids = {}
    for name, has in {
        "nora": ["--clinic", "northside"],
        "rita": ["--clinic", "northside", "--role", "radiologist"],
        "ada": ["--clinic", "northside", "--clinic", "southside"],
        "sam": ["--clinic", "southside"],
    }.items():
        two_clinics.done("add-user", name, "--email", f"{name}@example.org", *has)
        ids[name] = two_clinics.directory.user(name).id
    moment = time.time()
    assert "1 user signed out" in two_clinics.done("deactivate-clinic", "northside")
    accounts = {name: two_clinics.directory.account(subject) for name, subject in ids.items()}
    assert [name for name, each in accounts.items() if each and each.sessions_from >= moment] == ["nora"]


def test_a_one_time_code_is_refused_where_none_can_be_asked_for(two_clinics: Site) -> None:
    result = two_clinics.run(*NORA, "--otp")
    assert result.exit_code == 2
    assert "one-time codes" in result.stderr
    assert two_clinics.directory.users() == []


def test_an_unknown_user_is_not_removed(sqlite_site: Site) -> None:
    result = sqlite_site.run("remove-user", "nora", "--yes")
    assert result.exit_code == 2
    assert "there is no user 'nora'" in result.stderr
    assert sqlite_site.audited() == []


def test_a_platform_that_is_closed_lets_go_of_the_users(tmp_path: Path) -> None:
    users = tmp_path / "identity.db"

    def is_open() -> bool:
        return users in {each.resolve() for each in Path("/proc/self/fd").iterdir()}

    platform = Platform(AdminSettings(identity_path=users))
    assert platform.directory is not None
    platform.directory.check()
    assert is_open()
    platform.close()
    assert not is_open()
