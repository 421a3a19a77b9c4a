"""Who may sign in: clinics' groups, users, roles and passwords, behind one Protocol.

Two adapters: `admin.directory.embedded` (the demo's own issuer) and `admin.directory.keycloak`. Commands
know only what stands here. Every call can be repeated: what is already there is reported as unchanged.

    DirectoryError
    ├── DirectoryUnavailableError   the identity provider cannot be reached, or does not let us in
    ├── InvalidUserError (ValueError)   the user's data are refused; one sentence a fault
    ├── UnknownUserError (LookupError)
    └── UnknownClinicError (LookupError)   a clinic that was never added
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from admin.directory.events import Events, IdentityEvent

# Keycloak lower-cases user names; a narrower alphabet keeps them apart from e-mail addresses and paths.
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# RFC 5321 section 4.5.3.1 limits; the form is checked only as far as a typing error would show.
_EMAIL = re.compile(r"[^\s@,;<>\"\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,185}")
_NAME_MAX = 120


class DirectoryError(Exception):
    """The directory could not do what was asked; its text is meant for the person at the terminal."""


class DirectoryUnavailableError(DirectoryError):
    """The identity provider cannot be reached or refuses us. Nothing is known then."""


class InvalidUserError(DirectoryError, ValueError):
    """A user name, e-mail address, name, role or password that is refused."""


class UnknownUserError(DirectoryError, LookupError):
    """There is no user of that name."""


class UnknownClinicError(DirectoryError, LookupError):
    """There is no clinic of that id, in the directory or in the catalog."""

    def __init__(self, clinic: ClinicId) -> None:
        super().__init__(f"there is no clinic {clinic!r}: `clinicpacs add-clinic {clinic} NAME` adds it")


class Username(str):
    """A name to sign in with, in lower case as Keycloak keeps it.

    Raises:
        InvalidUserError: when it is not ``[a-z0-9][a-z0-9._-]{0,62}`` after lower-casing.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse what a person typed."""
        name = text.strip().lower()
        if not _USERNAME.fullmatch(name):
            raise InvalidUserError(
                f"{text!r} is not a user name: use 1 to 63 letters, digits, dots, hyphens and underscores, "
                "starting with a letter or digit"
            )
        return super().__new__(cls, name)


class Email(str):
    """An e-mail address, in lower case as Keycloak keeps it.

    Raises:
        InvalidUserError: when it can be none.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse what a person typed."""
        address = text.strip().lower()
        if not _EMAIL.fullmatch(address) or address.endswith((".", "-")) or ".." in address:
            raise InvalidUserError(f"{text!r} is not an e-mail address")
        return super().__new__(cls, address)


class Role(StrEnum):
    """The roles that see all clinics. A user without one sees the own clinics only."""

    RADIOLOGIST = "radiologist"
    PACS_ADMIN = "pacs-admin"


class Outcome(StrEnum):
    """What a call changed."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class ClinicGroup:
    """A clinic as the identity provider knows it: the group ``/clinics/<id>``."""

    id: ClinicId
    name: str


@dataclass(frozen=True)
class User:
    """A user with what decides on access, as the directory has it. `id` is the token's ``sub``."""

    id: str
    username: str
    email: str
    name: str
    clinics: frozenset[ClinicId] = frozenset()
    roles: frozenset[Role] = frozenset()
    active: bool = True


@dataclass(frozen=True)
class AddedUser:
    """The answer of `Directory.add_user`.

    `temporary_password` is set only when one was generated now: it is shown once and must be changed at
    the first sign-in.
    """

    user: User
    outcome: Outcome
    temporary_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NewUser:
    """The checked data of a user to be added; made by `of` only.

    `full_name` is None when none was given: one who exists keeps theirs then.
    """

    username: Username
    email: Email
    clinics: frozenset[ClinicId]
    roles: frozenset[Role]
    full_name: str | None
    one_time_code: bool

    @classmethod
    def of(
        cls,
        username: str,
        email: str,
        clinics: Iterable[str] = (),
        roles: Iterable[str] = (),
        *,
        name: str | None = None,
        one_time_code: bool = False,
    ) -> Self:
        """Parse what a person typed.

        Args:
            username: Name to sign in with.
            email: Address; no two users share one.
            clinics: Ids of clinics that were added before.
            roles: `radiologist`, `pacs-admin`.
            name: The person's name as the viewer shows it; the user name when there is none.
            one_time_code: Ask for a one-time code, too, which the user sets up at the next sign-in.

        Raises:
            InvalidUserError: with the first fault found.
            InvalidClinicIdError: when a clinic id is none.
        """
        return cls(
            username=Username(username),
            email=Email(email),
            clinics=frozenset(ClinicId(clinic) for clinic in clinics),
            roles=parse_roles(roles),
            full_name=_full_name(name) if name else None,
            one_time_code=one_time_code,
        )

    @property
    def name(self) -> str:
        """What is shown of the person."""
        return self.full_name or self.username.capitalize()


def parse_roles(roles: Iterable[str]) -> frozenset[Role]:
    """The roles of these names.

    Raises:
        InvalidUserError: when one is neither `radiologist` nor `pacs-admin`.
    """
    names = list(roles)
    known = [role.value for role in Role]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidUserError(f"{unknown[0]!r} is not a role: use one of {', '.join(known)}")
    return frozenset(Role(name) for name in names)


def group_path(clinic: ClinicId) -> str:
    """The group, as it stands in the token's ``groups`` claim."""
    return f"/clinics/{clinic}"


def _full_name(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > _NAME_MAX or not text.isprintable() or set(text) & set('<>&"$%!#?§;*~/\\|^='):
        # The set is what Keycloak's default user profile refuses in a person's name.
        raise InvalidUserError(f"{name!r} is not a person's name")
    return text


class Directory(Protocol):
    """What `clinicpacs` needs of an identity provider.

    Every method raises `DirectoryUnavailableError` when the provider does not answer.
    """

    def check(self) -> str:
        """One line for `clinicpacs status`: which provider this is. Asks it a question first."""

    def ensure_clinic(self, clinic: str, name: str) -> Outcome:
        """Make the group ``/clinics/<id>``, or give it its new name.

        Raises:
            InvalidClinicIdError: when the id is none.
        """

    def clinics(self) -> list[ClinicGroup]:
        """All clinics' groups, by id."""

    def add_user(self, new: NewUser, password: str | None = None) -> AddedUser:
        """Add a user, or complete one who exists.

        An existing user gains the clinics and roles that are missing and takes the e-mail address and the
        name (if one is given); the password stays, and nothing is taken away. A new one without a password
        gets a temporary one.

        Raises:
            InvalidUserError: when any of it is refused.
            UnknownClinicError: when a clinic was never added.
        """

    def set_clinics(self, username: str, clinics: Iterable[str]) -> None:
        """Make these, and only these, the user's clinics."""

    def set_roles(self, username: str, roles: Iterable[str]) -> None:
        """Make these, and only these, the user's roles."""

    def set_active(self, username: str, *, active: bool) -> User:
        """Let the user sign in, or not; a deactivated user's sessions end at once."""

    def set_password(self, username: str, password: str | None = None) -> str | None:
        """Set the password and end the user's sessions.

        Returns:
            The temporary password that was generated, when none was given.
        """

    def end_sessions(self, username: str) -> None:
        """Sign the user out everywhere; signing in again is possible."""

    def remove_user(self, username: str) -> None:
        """Remove the user and end the sessions; one who is not there is no error."""

    def user(self, username: str) -> User:
        """The user of that name.

        Raises:
            UnknownUserError: when there is none.
        """

    def users(self) -> list[User]:
        """All users, by name."""

    def events(
        self, which: Events, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[IdentityEvent]:
        """What is on record from `since` on and before `until`, newest first, never many in memory.

        Raises:
            DirectoryError: the provider keeps none, or does not tell us; while iterating, too.
        """

    def close(self) -> None:
        """Drop all connections."""
