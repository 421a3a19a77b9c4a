"""Keycloak's Admin API as our service account: users, groups and roles looked up, refusals told.

Measured with Keycloak 26.7.3: without `view-realm` the members of a role are a 403; without `manage-users`
only changes are refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakConnectionError, KeycloakError, KeycloakGetError

from admin.directory import (
    DirectoryError,
    DirectoryUnavailableError,
    InvalidUserError,
    Role,
    UnknownClinicError,
    UnknownUserError,
    User,
    Username,
    group_path,
)
from admin.directory.keycloak_forms import PARENT, clinic_of, reason_of, rights_in, user_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pacs.ids import ClinicId

RIGHTS = frozenset({"manage-users", "view-users", "query-users", "query-groups", "view-realm"})
"""Client roles of `realm-management` that the service account needs."""
EVENT_RIGHTS = frozenset({"view-events"})
"""And to see who signed in and changed what, which no other command needs."""
# Attributes are left out of the brief form.
_IN_FULL = {"briefRepresentation": "false"}
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_REFUSED = frozenset({400, 409})
TIMEOUT_SECONDS = 30
"""How long Keycloak may stay silent at a request."""
_TOTP = "CONFIGURE_TOTP"
_PAGE = 500


class KeycloakApi:
    """The realm `realm` of the Keycloak at `url`; `admin` is python-keycloak's client."""

    def __init__(
        self,
        url: str,
        client_secret: str,
        *,
        realm: str,
        client_id: str,
        verify: bool | str,
    ) -> None:
        self.url, self.realm, self._client_id = url.rstrip("/"), realm, client_id
        self.admin = KeycloakAdmin(
            server_url=f"{self.url}/",
            realm_name=realm,
            user_realm_name=realm,
            client_id=client_id,
            client_secret_key=client_secret,
            grant_type="client_credentials",
            verify=verify,
            timeout=TIMEOUT_SECONDS,
        )

    @contextmanager
    def translated(self, rights: frozenset[str] = RIGHTS) -> Iterator[None]:
        """Turn what the library raises into sentences that say what to do; `rights` are what it takes."""
        try:
            yield
        except KeycloakError as error:
            refused = error.response_code in _REFUSED
            kind = InvalidUserError if refused else DirectoryUnavailableError
            raise kind(self._told(error, rights)) from error

    def require_rights(self) -> None:
        """Ask for a token, and look whether it grants what the commands need.

        Raises:
            DirectoryUnavailableError: it does not.
        """
        self.admin.users_count()  # also proves that the token is taken
        token = self.admin.connection.token or {}
        missing = RIGHTS - rights_in(token.get("access_token", ""))
        if missing:
            raise DirectoryUnavailableError(self._lacks(missing))

    def user(self, representation: dict[str, Any]) -> User:
        """A user with clinics and roles."""
        user_id = representation["id"]
        clinics = (clinic_of(group["path"]) for group in self.admin.get_user_groups(user_id))
        names = {role["name"] for role in self.admin.get_realm_roles_of_user(user_id)}
        return user_of(representation, (each for each in clinics if each), (r for r in Role if r in names))

    def user_by_id(self, user_id: str) -> User:
        """The same, by the token's ``sub``."""
        return self.user(self.admin.get_user(user_id))

    def username_of(self, user_id: str) -> str:
        """By the token's ``sub``; empty for one who is gone or of another realm, as Keycloak's admin is."""
        try:
            return str(self.admin.get_user(user_id)["username"]) if user_id else ""
        except KeycloakGetError as error:
            if error.response_code == _NOT_FOUND:
                return ""
            raise

    def find(self, username: Username) -> dict[str, Any] | None:
        """The user of exactly that name."""
        return self._first({"username": username})

    def find_by_email(self, email: str) -> dict[str, Any] | None:
        """The user of exactly that address."""
        return self._first({"email": email})

    def require(self, username: str) -> dict[str, Any]:
        """The user of exactly that name.

        Raises:
            UnknownUserError: there is none.
        """
        found = self.find(Username(username))
        if found is None:
            raise UnknownUserError(f"there is no user {username!r}")
        return found

    def group(self, path: str) -> dict[str, Any] | None:
        """The group of that path."""
        try:
            return dict(self.admin.get_group_by_path(path.removeprefix("/")))
        except KeycloakGetError as error:
            if error.response_code == _NOT_FOUND:
                return None
            raise

    def clinic_groups(self) -> list[dict[str, Any]]:
        """The groups right below ``/clinics``."""
        parent = self.group(f"/{PARENT}")
        return list(self.admin.get_group_children(parent["id"], dict(_IN_FULL))) if parent else []

    def parent_id(self) -> Any:
        """The id of ``/clinics``, which is made where the realm has none."""
        parent = self.group(f"/{PARENT}")
        return parent["id"] if parent else str(self.admin.create_group({"name": PARENT}))

    def require_groups(self, clinics: frozenset[ClinicId]) -> dict[ClinicId, str]:
        """The ids of these clinics' groups.

        Raises:
            UnknownClinicError: one of them has none.
        """
        groups = {clinic: self.group(group_path(clinic)) for clinic in sorted(clinics)}
        for clinic, group in groups.items():
            if group is None:
                raise UnknownClinicError(clinic)
        return {clinic: group["id"] for clinic, group in groups.items() if group}

    def join(self, user_id: str, group_ids: Iterable[str]) -> None:
        """Put a user into these groups."""
        for group_id in group_ids:
            self.admin.group_user_add(user_id, group_id)

    def grant(self, user_id: str, roles: frozenset[Role]) -> None:
        """Give a user roles that were not given before."""
        if not roles:
            return
        available = {r["name"]: r for r in self.admin.get_available_realm_roles_of_user(user_id)}
        missing = roles - available.keys()
        if missing:
            raise DirectoryError(f"the realm {self.realm} has no role {', '.join(sorted(missing))}")
        self.admin.assign_realm_roles(user_id, [available[role] for role in sorted(roles)])

    def ask_for_one_time_code(self, representation: dict[str, Any]) -> bool:
        """Have a user set one up at the next sign-in; False when that is done, or already asked."""
        user_id, actions = representation["id"], representation.get("requiredActions", [])
        kinds = {credential["type"] for credential in self.admin.get_credentials(user_id)}
        if "otp" in kinds or _TOTP in actions:
            return False
        self.admin.update_user(user_id, {**representation, "requiredActions": [*actions, _TOTP]})
        return True

    def _first(self, query: dict[str, str]) -> dict[str, Any] | None:
        found = self.admin.get_users({**query, "exact": "true", **_IN_FULL})
        return dict(found[0]) if found else None

    def sign_ins(
        self, since: datetime | None, until: datetime | None, *, failed: bool
    ) -> Iterator[dict[str, Any]]:
        """Events of these types, newest first."""
        types = ["LOGIN_ERROR"] if failed else ["LOGIN", "LOGIN_ERROR"]
        return _paged(self.admin.get_events, {"type": types}, since, until)

    def changes(self, since: datetime | None, until: datetime | None) -> Iterator[dict[str, Any]]:
        """What administrators changed, newest first."""
        return _paged(self.admin.get_admin_events, {}, since, until)

    def _told(self, error: KeycloakError, rights: frozenset[str]) -> str:
        reason = reason_of(error)
        if isinstance(error, KeycloakConnectionError):
            return (
                f"Keycloak cannot be reached at {self.url} ({reason}): is it running, is KEYCLOAK_URL right?"
            )
        if error.response_code == _FORBIDDEN:
            return self._lacks(rights)
        told = f"Keycloak at {self.url}, realm {self.realm}: {reason}"
        if error.response_code == _UNAUTHORIZED:
            return f"{told}; is KEYCLOAK_CLIENT_SECRET the secret of the realm's client {self._client_id}?"
        if error.response_code == _NOT_FOUND:
            return f"{told}; are KEYCLOAK_URL and KEYCLOAK_REALM right? The URL ends in /auth as a rule"
        return told

    def _lacks(self, rights: frozenset[str]) -> str:
        return (
            f"Keycloak at {self.url}, realm {self.realm}: the service account of {self._client_id} "
            f"lacks rights; its roles of realm-management must include {', '.join(sorted(rights))}"
        )


def _paged(
    ask: Callable[[dict[str, Any]], list[dict[str, Any]]],
    query: dict[str, Any],
    since: datetime | None,
    until: datetime | None,
) -> Iterator[dict[str, Any]]:
    # With an end that is fixed, what comes meanwhile shifts no page. Both ends count as within.
    query["dateTo"] = _milliseconds(until or datetime.now(UTC)) - 1
    if since is not None:
        query["dateFrom"] = _milliseconds(since)
    for first in count(0, _PAGE):
        page = ask({**query, "first": first, "max": _PAGE})
        yield from page
        if len(page) < _PAGE:
            return


def _milliseconds(time: datetime) -> int:
    """Since 1970, whole ones: no event of that very time, or after it, is before them."""
    return -int(-time.timestamp() * 1000 // 1)
