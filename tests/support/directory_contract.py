"""What every `Directory` does, whichever identity provider keeps the users.

A test module subclasses `DirectoryContract` under a name that pytest collects, and has a fixture `people`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import pytest

from admin.directory import (
    InvalidUserError,
    NewUser,
    Outcome,
    Role,
    UnknownClinicError,
    UnknownUserError,
)
from admin.directory.passwords import temporary_password
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin.directory import Directory

GIVEN = "a password of many words"


class SignIn(Enum):
    """What becomes of a user name and a password."""

    REFUSED = "refused"
    MUST_CHANGE_PASSWORD = "must change password"
    DONE = "done"


@dataclass(frozen=True)
class People:
    """Two clinics and at least two users: nora of northside, rita the radiologist.

    Attributes:
        directory: seen as commands see it: mypy checks that the adapter satisfies the Protocol.
        password: of all of them.
        sign_in: tries a user name and a password.
        tag: ends all names, where others live in the same directory.
    """

    directory: Directory
    password: str
    sign_in: Callable[[str, str], SignIn]
    tag: str = ""

    def new(self, name: str, *clinics: str, full_name: str | None = None, otp: bool = False) -> NewUser:
        own = [self.clinic(clinic) for clinic in clinics]
        return NewUser.of(self.user(name), self.email(name), own, name=full_name, one_time_code=otp)

    def user(self, name: str) -> str:
        return name + self.tag

    def email(self, name: str) -> str:
        return f"{name}{self.tag}@example.org"

    def clinic(self, name: str) -> ClinicId:
        return ClinicId(name + self.tag)

    @property
    def nora(self) -> str:
        return self.user("nora")


class DirectoryContract:
    """The tests."""

    def test_a_clinic_is_added_once_and_can_be_renamed(self, people: People) -> None:
        users, eastside = people.directory, people.clinic("eastside")
        assert users.ensure_clinic(eastside, "Eastside") is Outcome.ADDED
        assert users.ensure_clinic(eastside, "Eastside") is Outcome.UNCHANGED
        assert users.ensure_clinic(eastside, "Восток") is Outcome.CHANGED
        names = {clinic.id: clinic.name for clinic in users.clinics()}
        assert names[eastside] == "Восток"
        assert names.keys() >= {people.clinic("northside"), people.clinic("southside")}
        with pytest.raises(InvalidClinicIdError):
            users.ensure_clinic("../x", "X")

    def test_more_clinics_than_a_page_of_answers_are_all_listed(self, people: People) -> None:
        many = {people.clinic(f"branch-{number}") for number in range(12)}
        for clinic in many:
            people.directory.ensure_clinic(clinic, "Branch")
        assert {clinic.id for clinic in people.directory.clinics()} >= many
        people.directory.set_clinics(people.nora, many)
        (nora,) = [user for user in people.directory.users() if user.username == people.nora]
        assert nora.clinics == many

    def test_adding_a_user_twice_changes_nothing_the_second_time(self, people: People) -> None:
        users = people.directory
        first = users.add_user(people.new("tim", "northside", full_name="Tim  Sample"), GIVEN)
        second = users.add_user(people.new("tim", "northside"))
        assert (first.outcome, second.outcome) == (Outcome.ADDED, Outcome.UNCHANGED)
        assert first.user == second.user == users.user(people.user("tim"))
        assert first.user.name == "Tim Sample"
        assert (first.temporary_password, second.temporary_password) == (None, None)
        assert people.sign_in(people.user("tim"), GIVEN) is SignIn.DONE

    def test_adding_an_existing_user_completes_and_takes_nothing_away(self, people: People) -> None:
        new = NewUser.of(
            people.nora,
            people.email("nora.new"),
            [people.clinic("southside")],
            ["radiologist"],
            name="Łucja Sample",
        )
        added = people.directory.add_user(new, GIVEN)
        assert added.outcome is Outcome.CHANGED
        assert added.user.clinics == {people.clinic("northside"), people.clinic("southside")}
        assert added.user.roles == {Role.RADIOLOGIST}
        assert (added.user.email, added.user.name) == (people.email("nora.new"), "Łucja Sample")
        assert people.sign_in(people.nora, people.password) is SignIn.DONE
        assert people.sign_in(people.nora, GIVEN) is SignIn.REFUSED

    def test_without_a_password_a_temporary_one_is_made(self, people: People) -> None:
        added = people.directory.add_user(people.new("tim", "northside"))
        assert added.temporary_password
        assert added.temporary_password not in repr(added)
        assert people.sign_in(people.user("tim"), added.temporary_password) is SignIn.MUST_CHANGE_PASSWORD
        assert len({temporary_password() for _ in range(100)}) == 100

    def test_a_name_of_one_word_and_none_at_all_sign_in(self, people: People) -> None:
        """Nobody is asked to complete a profile."""
        for name, full_name in (("tim", "Tim"), ("tom", None), ("tam", "Tam van der Sample")):
            user = people.directory.add_user(people.new(name, full_name=full_name), GIVEN).user
            assert user.name == (full_name or people.user(name).capitalize())
            assert people.sign_in(user.username, GIVEN) is SignIn.DONE

    def test_an_address_that_is_taken_is_refused_with_whose_it_is(self, people: People) -> None:
        before = people.directory.users()
        for name in ("tim", "rita"):
            with pytest.raises(InvalidUserError, match=f"is the address of user '{people.nora}'"):
                people.directory.add_user(NewUser.of(people.user(name), people.email("nora")), GIVEN)
        assert people.directory.users() == before

    def test_a_clinic_has_to_be_added_first(self, people: People) -> None:
        with pytest.raises(UnknownClinicError, match="westside"):
            people.directory.add_user(people.new("tim", "westside"), GIVEN)
        with pytest.raises(UnknownUserError):
            people.directory.user(people.user("tim"))
        with pytest.raises(UnknownClinicError, match="westside"):
            people.directory.set_clinics(people.nora, [people.clinic("westside")])

    def test_clinics_and_roles_are_set(self, people: People) -> None:
        users, southside = people.directory, people.clinic("southside")
        users.set_clinics(people.nora, [southside])
        users.set_roles(people.nora, ["pacs-admin"])
        nora = users.user(people.nora)
        assert (nora.clinics, nora.roles) == ({southside}, {Role.PACS_ADMIN})
        listed = {user.username: user for user in users.users()}
        assert listed[people.nora] == nora
        assert listed[people.user("rita")].roles == {Role.RADIOLOGIST}
        users.set_roles(people.nora, [])
        assert users.user(people.nora).roles == frozenset()

    def test_who_is_deactivated_cannot_sign_in(self, people: People) -> None:
        assert not people.directory.set_active(people.nora, active=False).active
        assert people.sign_in(people.nora, people.password) is SignIn.REFUSED
        assert people.directory.set_active(people.nora, active=True).active
        assert people.sign_in(people.nora, people.password) is SignIn.DONE

    def test_passwords_are_replaced(self, people: People) -> None:
        users, nora = people.directory, people.nora
        assert users.set_password(nora, GIVEN) is None
        assert people.sign_in(nora, GIVEN) is SignIn.DONE
        temporary = users.set_password(nora)
        assert temporary
        assert people.sign_in(nora, temporary) is SignIn.MUST_CHANGE_PASSWORD
        assert people.sign_in(nora, GIVEN) is SignIn.REFUSED
        for refused in ("", "x" * 1025):
            with pytest.raises(InvalidUserError):
                users.set_password(nora, refused)

    def test_removing_twice_is_fine(self, people: People) -> None:
        people.directory.remove_user(people.nora)
        people.directory.remove_user(people.nora)
        assert people.sign_in(people.nora, people.password) is SignIn.REFUSED

    def test_who_is_not_there_is_told(self, people: People) -> None:
        users, nobody = people.directory, people.user("nobody")
        for ask in (users.user, users.set_password, users.end_sessions):
            with pytest.raises(UnknownUserError, match="there is no user"):
                ask(nobody)
