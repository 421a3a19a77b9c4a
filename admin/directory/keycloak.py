"""`Directory` on Keycloak's Admin API, as the service account of the client `clinicpacs-admin`.

The service account needs the client roles `manage-users`, `view-users`, `query-users`, `query-groups` and
`view-realm` of `realm-management`; the realm has the roles `radiologist` and `pacs-admin`. Measured with
Keycloak 26.7.3: without `view-realm` the members of a role are a 403.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakError, KeycloakGetError

from admin.directory import (
    AddedUser,
    ClinicGroup,
    DirectoryError,
    DirectoryUnavailableError,
    InvalidUserError,
    NewUser,
    Outcome,
    Role,
    UnknownClinicError,
    UnknownUserError,
    User,
    Username,
    check_password,
    group_path,
    parse_roles,
    temporary_password,
)
from admin.directory.keycloak_forms import (
    NAME_ATTRIBUTE,
    PARENT,
    clinic_name,
    clinic_of,
    new_user,
    reason_of,
    split_name,
    user_of,
)
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Attributes are left out of the brief form.
_IN_FULL = {"briefRepresentation": "false"}
_NOT_FOUND = 404
_REFUSED = frozenset({400, 409})


class KeycloakDirectory:
    """`Directory` on Keycloak 26.

    Args:
        server_url: Keycloak's base URL with its relative path, such as ``https://pacs.example.org/auth``.
        realm: The realm that holds users, groups and our service account.
        client_id: The service account's client.
        client_secret: Its secret.
        verify: Whether certificates are checked, or the CA bundle to check them with.
        timeout_seconds: How long Keycloak may stay silent.
    """

    def __init__(
        self,
        server_url: str,
        client_secret: str,
        *,
        realm: str = "clinicpacs",
        client_id: str = "clinicpacs-admin",
        verify: bool | str = True,
        timeout_seconds: int = 15,
    ) -> None:
        self._url, self._realm = server_url.rstrip("/"), realm
        self._admin = KeycloakAdmin(
            server_url=f"{self._url}/",
            realm_name=realm,
            user_realm_name=realm,
            client_id=client_id,
            client_secret_key=client_secret,
            grant_type="client_credentials",
            verify=verify,
            timeout=timeout_seconds,
        )

    def check(self) -> str:
        """See `Directory.check`."""
        with self._translated():
            self._admin.users_count()
        return f"Keycloak, {self._url}, realm {self._realm}"

    def ensure_clinic(self, clinic: str, name: str) -> Outcome:
        """See `Directory.ensure_clinic`."""
        clinic_id = ClinicId(clinic)
        payload = {"name": clinic_id, "attributes": {NAME_ATTRIBUTE: [name]}}
        with self._translated():
            group = self._group(group_path(clinic_id))
            if group is None:
                self._admin.create_group(payload, parent=self._parent_id(), skip_exists=True)
                return Outcome.ADDED
            if clinic_name(group) == name:
                return Outcome.UNCHANGED
            attributes = {**group.get("attributes", {}), NAME_ATTRIBUTE: [name]}
            self._admin.update_group(group["id"], {"name": clinic_id, "attributes": attributes})
            return Outcome.CHANGED

    def clinics(self) -> list[ClinicGroup]:
        """See `Directory.clinics`."""
        with self._translated():
            groups = self._groups()
        found = ((clinic_of(group["path"]), clinic_name(group)) for group in groups)
        return [ClinicGroup(clinic, name) for clinic, name in sorted(found, key=str) if clinic]

    def add_user(
        self,
        username: str,
        email: str,
        clinics: Iterable[str] = (),
        roles: Iterable[str] = (),
        password: str | None = None,
        *,
        name: str | None = None,
    ) -> AddedUser:
        """See `Directory.add_user`."""
        new = NewUser.of(username, email, clinics, roles, name)
        temporary = temporary_password() if password is None else None
        secret = temporary or check_password(password or "")
        with self._translated():
            groups = self._require_groups(new.clinics)
            before = self._find(new.username)
            if before is not None:
                return self._complete(before, new, groups, renamed=name is not None)
            user_id = self._admin.create_user(new_user(new, secret, temporary=temporary is not None))
            self._join(user_id, groups.values())
            self._grant(user_id, new.roles)
            return AddedUser(self._user(self._admin.get_user(user_id)), Outcome.ADDED, temporary)

    def set_clinics(self, username: str, clinics: Iterable[str]) -> User:
        """See `Directory.set_clinics`."""
        wanted = frozenset(ClinicId(clinic) for clinic in clinics)
        with self._translated():
            groups = self._require_groups(wanted)
            user_id = self._require(username)["id"]
            own = {clinic_of(group["path"]): group["id"] for group in self._admin.get_user_groups(user_id)}
            self._join(user_id, (groups[clinic] for clinic in wanted - set(own)))
            for clinic, group_id in own.items():
                if clinic is not None and clinic not in wanted:
                    self._admin.group_user_remove(user_id, group_id)
            return self._user(self._admin.get_user(user_id))

    def set_roles(self, username: str, roles: Iterable[str]) -> User:
        """See `Directory.set_roles`."""
        wanted = parse_roles(roles)
        with self._translated():
            user_id = self._require(username)["id"]
            own = self._admin.get_realm_roles_of_user(user_id)
            surplus = [role for role in own if role["name"] in set(Role) - wanted]
            if surplus:
                self._admin.delete_realm_roles_of_user(user_id, surplus)
            self._grant(user_id, wanted - {role["name"] for role in own})
            return self._user(self._admin.get_user(user_id))

    def set_active(self, username: str, *, active: bool) -> User:
        """See `Directory.set_active`."""
        with self._translated():
            representation = self._require(username)
            self._admin.update_user(representation["id"], {**representation, "enabled": active})
            if not active:
                self._admin.user_logout(representation["id"])
            return self._user(self._admin.get_user(representation["id"]))

    def set_password(self, username: str, password: str | None = None) -> str | None:
        """See `Directory.set_password`."""
        temporary = temporary_password() if password is None else None
        secret = temporary or check_password(password or "")
        with self._translated():
            user_id = self._require(username)["id"]
            self._admin.set_user_password(user_id, secret, temporary=temporary is not None)
            self._admin.user_logout(user_id)
        return temporary

    def remove_user(self, username: str) -> Outcome:
        """See `Directory.remove_user`."""
        with self._translated():
            found = self._find(Username(username))
            if found is None:
                return Outcome.UNCHANGED
            self._admin.delete_user(found["id"])
        return Outcome.CHANGED

    def user(self, username: str) -> User:
        """See `Directory.user`."""
        with self._translated():
            return self._user(self._require(username))

    def users(self) -> list[User]:
        """See `Directory.users`.

        By the members of groups and roles: a few requests a clinic instead of two a user.
        """
        with self._translated():
            clinics: dict[str, set[ClinicId]] = defaultdict(set)
            roles: dict[str, set[Role]] = defaultdict(set)
            for group in self._groups():
                clinic = clinic_of(group["path"])
                for member in self._admin.get_group_members(group["id"]) if clinic else ():
                    clinics[member["id"]].add(ClinicId(str(clinic)))
            for role in Role:
                for member in self._admin.get_realm_role_members(role.value):
                    roles[member["id"]].add(role)
            everyone = self._admin.get_users()
        users = (user_of(each, clinics[each["id"]], roles[each["id"]]) for each in everyone)
        return sorted(users, key=lambda user: user.username)

    def _complete(
        self, before: dict[str, Any], new: NewUser, groups: dict[ClinicId, str], *, renamed: bool
    ) -> AddedUser:
        user = self._user(before)
        changes: dict[str, Any] = {"email": new.email} if user.email != new.email else {}
        if renamed and user.name != new.name:
            changes.update(split_name(new.name))
        if changes:
            self._admin.update_user(user.id, {**before, **changes})
        self._join(user.id, (groups[clinic] for clinic in new.clinics - user.clinics))
        self._grant(user.id, new.roles - user.roles)
        after = self._user(self._admin.get_user(user.id))
        return AddedUser(after, Outcome.UNCHANGED if after == user else Outcome.CHANGED)

    def _user(self, representation: dict[str, Any]) -> User:
        user_id = representation["id"]
        clinics = (clinic_of(group["path"]) for group in self._admin.get_user_groups(user_id))
        names = {role["name"] for role in self._admin.get_realm_roles_of_user(user_id)}
        return user_of(representation, (each for each in clinics if each), (r for r in Role if r in names))

    def _find(self, username: Username) -> dict[str, Any] | None:
        found = self._admin.get_users({"username": username, "exact": "true", **_IN_FULL})
        return dict(found[0]) if found else None

    def _require(self, username: str) -> dict[str, Any]:
        found = self._find(Username(username))
        if found is None:
            raise UnknownUserError(f"there is no user {username!r}")
        return found

    def _group(self, path: str) -> dict[str, Any] | None:
        try:
            return dict(self._admin.get_group_by_path(path.removeprefix("/")))
        except KeycloakGetError as error:
            if error.response_code == _NOT_FOUND:
                return None
            raise

    def _groups(self) -> list[dict[str, Any]]:
        parent = self._group(f"/{PARENT}")
        return list(self._admin.get_group_children(parent["id"], dict(_IN_FULL))) if parent else []

    def _parent_id(self) -> Any:
        parent = self._group(f"/{PARENT}")
        return parent["id"] if parent else str(self._admin.create_group({"name": PARENT}))

    def _require_groups(self, clinics: frozenset[ClinicId]) -> dict[ClinicId, str]:
        groups = {clinic: self._group(group_path(clinic)) for clinic in sorted(clinics)}
        for clinic, group in groups.items():
            if group is None:
                raise UnknownClinicError(f"there is no clinic {clinic!r}: add it first")
        return {clinic: group["id"] for clinic, group in groups.items() if group}

    def _join(self, user_id: str, group_ids: Iterable[str]) -> None:
        for group_id in group_ids:
            self._admin.group_user_add(user_id, group_id)

    def _grant(self, user_id: str, roles: frozenset[Role]) -> None:
        if not roles:
            return
        available = {r["name"]: r for r in self._admin.get_available_realm_roles_of_user(user_id)}
        missing = roles - available.keys()
        if missing:
            raise DirectoryError(f"the realm {self._realm} has no role {', '.join(sorted(missing))}")
        self._admin.assign_realm_roles(user_id, [available[role] for role in sorted(roles)])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except KeycloakError as error:
            refused = error.response_code in _REFUSED
            kind = InvalidUserError if refused else DirectoryUnavailableError
            raise kind(f"Keycloak at {self._url}: {reason_of(error)}") from error
