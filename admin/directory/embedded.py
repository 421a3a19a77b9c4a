"""The embedded issuer's users, for the demo and for machines without Keycloak."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, Table, delete, insert, select, update
from werkzeug.security import check_password_hash, generate_password_hash

from admin.directory import (
    AddedUser,
    ClinicGroup,
    DirectoryError,
    InvalidUserError,
    NewUser,
    Outcome,
    Role,
    UnknownClinicError,
    UnknownUserError,
    User,
    Username,
    parse_roles,
)
from admin.directory.identity_db import CLINICS, USER_CLINICS, USER_ROLES, USERS, IdentityDatabase
from admin.directory.passwords import check_password, temporary_password
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from admin.directory.events import Events, IdentityEvent

_SCRYPT = "scrypt:32768:8:1"
# Verified when there is no such user, so that the answer takes as long as for one who exists.
_NOBODY = (
    "scrypt:32768:8:1$bm9ib2R5bm9ib2R5$"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
)


@dataclass(frozen=True)
class Account:
    """A user as the issuer needs one: with what decides on sessions."""

    user: User
    must_change_password: bool
    sessions_from: float


class EmbeddedDirectory:
    """`Directory` on a SQLite file.

    Args:
        path: The file; made, readable by its owner only, when it is missing.
        clock: Seconds since 1970.

    Raises:
        DirectoryUnavailableError: the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.database = IdentityDatabase(path)
        self._clock = clock

    def check(self) -> str:
        """See `Directory.check`."""
        with self.database.read() as connection:
            connection.execute(select(USERS.c.id).limit(1))
        return f"embedded issuer, {self.database.path}"

    def ensure_clinic(self, clinic: str, name: str) -> Outcome:
        """See `Directory.ensure_clinic`."""
        row = {"id": ClinicId(clinic), "name": name}
        with self.database.write() as connection:
            known = connection.execute(select(CLINICS.c.name).where(CLINICS.c.id == clinic)).scalar()
            if known is None:
                connection.execute(insert(CLINICS).values(row))
                return Outcome.ADDED
            if known == name:
                return Outcome.UNCHANGED
            connection.execute(update(CLINICS).where(CLINICS.c.id == clinic).values(name=name))
            return Outcome.CHANGED

    def clinics(self) -> list[ClinicGroup]:
        """See `Directory.clinics`."""
        with self.database.read() as connection:
            rows = connection.execute(select(CLINICS).order_by(CLINICS.c.id))
            return [ClinicGroup(ClinicId(row.id), row.name) for row in rows]

    def add_user(self, new: NewUser, password: str | None = None) -> AddedUser:
        """See `Directory.add_user`."""
        if password is not None:
            check_password(password)
        if new.one_time_code:
            raise InvalidUserError("the embedded issuer knows no one-time codes; Keycloak does")
        with self.database.write() as connection:
            _require_clinics(connection, new.clinics)
            _require_own_address(connection, new)
            before = _find_user(connection, new.username)
            if before is not None:
                return _complete(connection, before, new)
        return self._insert(new, password)

    def set_clinics(self, username: str, clinics: Iterable[str]) -> None:
        """See `Directory.set_clinics`."""
        wanted = frozenset(ClinicId(clinic) for clinic in clinics)
        with self.database.write() as connection:
            _require_clinics(connection, wanted)
            user = _require_user(connection, username)
            _replace(connection, USER_CLINICS, user, "clinic_id", wanted)

    def set_roles(self, username: str, roles: Iterable[str]) -> None:
        """See `Directory.set_roles`."""
        wanted = parse_roles(roles)
        with self.database.write() as connection:
            user = _require_user(connection, username)
            _replace(connection, USER_ROLES, user, "role", wanted)

    def set_active(self, username: str, *, active: bool) -> User:
        """See `Directory.set_active`."""
        values: dict[str, Any] = {"active": active}
        if not active:
            values["sessions_from"] = self._clock()
        with self.database.write() as connection:
            user = _require_user(connection, username)
            connection.execute(update(USERS).where(USERS.c.id == user.id).values(values))
            return _require_user(connection, username)

    def set_password(self, username: str, password: str | None = None) -> str | None:
        """See `Directory.set_password`."""
        temporary = temporary_password() if password is None else None
        values = self._password_values(temporary or check_password(password or ""), temporary is not None)
        with self.database.write() as connection:
            user = _require_user(connection, username)
            connection.execute(update(USERS).where(USERS.c.id == user.id).values(values))
        return temporary

    def end_sessions(self, username: str) -> None:
        """See `Directory.end_sessions`."""
        with self.database.write() as connection:
            user = _require_user(connection, username)
            values = {"sessions_from": self._clock()}
            connection.execute(update(USERS).where(USERS.c.id == user.id).values(values))

    def remove_user(self, username: str) -> None:
        """See `Directory.remove_user`."""
        with self.database.write() as connection:
            connection.execute(delete(USERS).where(USERS.c.username == Username(username)))

    def user(self, username: str) -> User:
        """See `Directory.user`."""
        with self.database.read() as connection:
            return _require_user(connection, username)

    def events(
        self, which: Events, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[IdentityEvent]:
        """See `Directory.events`."""
        del which, since, until
        raise DirectoryError("the embedded issuer keeps no record of who signed in; Keycloak does")

    def users(self) -> list[User]:
        """See `Directory.users`."""
        with self.database.read() as connection:
            rows = connection.execute(select(USERS).order_by(USERS.c.username)).mappings().all()
            return [_user(connection, row) for row in rows]

    def close(self) -> None:
        """See `Directory.close`."""
        self.database.close()

    def authenticate(self, username: str, password: str) -> Account | None:
        """The active account that this name and password open, if any.

        Takes as long for a name that does not exist as for one that does.
        """
        with self.database.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.username == username)).mappings().first()
            account = _account(connection, row) if row else None
        matches = check_password_hash(row["password_hash"] if row else _NOBODY, password)
        return account if matches and account is not None and account.user.active else None

    def account(self, user_id: str) -> Account | None:
        """The account of that subject, if there is one and it is active."""
        with self.database.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.id == user_id)).mappings().first()
            account = _account(connection, row) if row else None
        return account if account is not None and account.user.active else None

    def _insert(self, new: NewUser, password: str | None) -> AddedUser:
        # Hashing takes a tenth of a second: not while other writers wait.
        temporary = temporary_password() if password is None else None
        row = {
            "id": str(uuid.uuid4()),
            "username": new.username,
            "email": new.email,
            "name": new.name,
            "active": True,
            **self._password_values(temporary or password or "", temporary is not None),
        }
        with self.database.write() as connection:
            before = _find_user(connection, new.username)
            if before is not None:
                return _complete(connection, before, new)
            _require_own_address(connection, new)
            connection.execute(insert(USERS).values(row))
            user = _require_user(connection, new.username)
            _replace(connection, USER_CLINICS, user, "clinic_id", new.clinics)
            _replace(connection, USER_ROLES, user, "role", new.roles)
            return AddedUser(_require_user(connection, new.username), Outcome.ADDED, temporary)

    def _password_values(self, password: str, temporary: bool) -> dict[str, Any]:  # noqa: FBT001 - one caller each
        return {
            "password_hash": generate_password_hash(password, _SCRYPT),
            "must_change_password": temporary,
            "sessions_from": self._clock(),
        }


def _complete(connection: Connection, before: User, new: NewUser) -> AddedUser:
    values = {"email": new.email, "name": new.full_name or before.name}
    connection.execute(update(USERS).where(USERS.c.id == before.id).values(values))
    _replace(connection, USER_CLINICS, before, "clinic_id", before.clinics | new.clinics)
    _replace(connection, USER_ROLES, before, "role", before.roles | new.roles)
    after = _require_user(connection, before.username)
    return AddedUser(after, Outcome.UNCHANGED if after == before else Outcome.CHANGED)


def _require_clinics(connection: Connection, clinics: frozenset[ClinicId]) -> None:
    known = set(connection.execute(select(CLINICS.c.id)).scalars())
    for clinic in sorted(clinics - known):
        raise UnknownClinicError(clinic)


def _require_own_address(connection: Connection, new: NewUser) -> None:
    query = select(USERS.c.username).where(USERS.c.email == new.email, USERS.c.username != new.username)
    other = connection.execute(query).scalar()
    if other is not None:
        raise InvalidUserError(f"{new.email} is the address of user {other!r}")


def _replace(
    connection: Connection,
    table: Table,
    user: User,
    column: str,
    values: frozenset[ClinicId] | frozenset[Role],
) -> None:
    connection.execute(delete(table).where(table.c.user_id == user.id))
    rows = [{"user_id": user.id, column: str(value)} for value in sorted(values)]
    if rows:
        connection.execute(insert(table), rows)


def _find_user(connection: Connection, username: str) -> User | None:
    query = select(USERS).where(USERS.c.username == Username(username))
    row = connection.execute(query).mappings().first()
    return _user(connection, row) if row else None


def _require_user(connection: Connection, username: str) -> User:
    user = _find_user(connection, username)
    if user is None:
        raise UnknownUserError(f"there is no user {username!r}")
    return user


def _account(connection: Connection, row: RowMapping) -> Account:
    return Account(_user(connection, row), row["must_change_password"], row["sessions_from"])


def _user(connection: Connection, row: RowMapping) -> User:
    clinics = select(USER_CLINICS.c.clinic_id).where(USER_CLINICS.c.user_id == row["id"])
    roles = select(USER_ROLES.c.role).where(USER_ROLES.c.user_id == row["id"])
    return User(
        id=row["id"],
        username=row["username"],
        email=row["email"],
        name=row["name"],
        clinics=frozenset(ClinicId(each) for each in connection.execute(clinics).scalars()),
        roles=frozenset(Role(each) for each in connection.execute(roles).scalars()),
        active=row["active"],
    )
