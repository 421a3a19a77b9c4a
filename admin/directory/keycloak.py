"""`Directory` on Keycloak's Admin API, as the service account of the client `clinicpacs-admin`.

What that account may do, and what the realm must have, stands in `keycloak/clinicpacs-realm.json`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keycloak.exceptions import KeycloakError

from admin.directory import (
    AddedUser,
    ClinicGroup,
    InvalidUserError,
    NewUser,
    Outcome,
    Role,
    User,
    Username,
    group_path,
    parse_roles,
)
from admin.directory.events import Events
from admin.directory.keycloak_api import EVENT_RIGHTS, KeycloakApi
from admin.directory.keycloak_forms import (
    NAME_ATTRIBUTE,
    change_of,
    clinic_name,
    clinic_of,
    new_user,
    sign_in_of,
    split_name,
    user_of,
)
from admin.directory.passwords import check_password, temporary_password
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from admin.directory.events import IdentityEvent

_CONFLICT = 409


class KeycloakDirectory:
    """`Directory` on Keycloak 26.

    Args:
        server_url: Keycloak's base URL with its relative path, such as ``https://pacs.example.org/auth``.
        client_secret: The client's secret.
        realm: The realm that holds users, groups and our service account.
        client_id: The service account's client.
        verify: Whether certificates are checked, or the CA bundle to check them with.
    """

    def __init__(
        self,
        server_url: str,
        client_secret: str,
        *,
        realm: str = "clinicpacs",
        client_id: str = "clinicpacs-admin",
        verify: bool | str = True,
    ) -> None:
        self._api = KeycloakApi(
            server_url,
            client_secret,
            realm=realm,
            client_id=client_id,
            verify=verify,
        )
        self._admin = self._api.admin

    def check(self) -> str:
        """See `Directory.check`."""
        with self._api.translated():
            self._api.require_rights()
        return f"Keycloak, {self._api.url}, realm {self._api.realm}"

    def ensure_clinic(self, clinic: str, name: str) -> Outcome:
        """See `Directory.ensure_clinic`."""
        clinic_id = ClinicId(clinic)
        payload = {"name": clinic_id, "attributes": {NAME_ATTRIBUTE: [name]}}
        with self._api.translated():
            group = self._api.group(group_path(clinic_id))
            if group is None:
                self._admin.create_group(payload, parent=self._api.parent_id(), skip_exists=True)
                return Outcome.ADDED
            if clinic_name(group) == name:
                return Outcome.UNCHANGED
            attributes = {**group.get("attributes", {}), NAME_ATTRIBUTE: [name]}
            self._admin.update_group(group["id"], {"name": clinic_id, "attributes": attributes})
            return Outcome.CHANGED

    def clinics(self) -> list[ClinicGroup]:
        """See `Directory.clinics`."""
        with self._api.translated():
            groups = self._api.clinic_groups()
        found = ((clinic_of(group["path"]), clinic_name(group)) for group in groups)
        return [ClinicGroup(clinic, name) for clinic, name in sorted(found, key=str) if clinic]

    def add_user(self, new: NewUser, password: str | None = None) -> AddedUser:
        """See `Directory.add_user`."""
        temporary = temporary_password() if password is None else None
        secret = temporary or check_password(password or "")
        with self._api.translated():
            groups = self._api.require_groups(new.clinics)
            before = self._api.find(new.username)
            if before is not None:
                return self._complete(before, new, groups)
            user_id = self._create(new, secret, temporary=temporary is not None)
            self._api.join(user_id, groups.values())
            self._api.grant(user_id, new.roles)
            return AddedUser(self._api.user_by_id(user_id), Outcome.ADDED, temporary)

    def set_clinics(self, username: str, clinics: Iterable[str]) -> None:
        """See `Directory.set_clinics`."""
        wanted = frozenset(ClinicId(clinic) for clinic in clinics)
        with self._api.translated():
            groups = self._api.require_groups(wanted)
            user_id = self._api.require(username)["id"]
            own = {clinic_of(group["path"]): group["id"] for group in self._admin.get_user_groups(user_id)}
            self._api.join(user_id, (groups[clinic] for clinic in wanted - set(own)))
            for clinic, group_id in own.items():
                if clinic is not None and clinic not in wanted:
                    self._admin.group_user_remove(user_id, group_id)

    def set_roles(self, username: str, roles: Iterable[str]) -> None:
        """See `Directory.set_roles`."""
        wanted = parse_roles(roles)
        with self._api.translated():
            user_id = self._api.require(username)["id"]
            own = self._admin.get_realm_roles_of_user(user_id)
            surplus = [role for role in own if role["name"] in set(Role) - wanted]
            if surplus:
                self._admin.delete_realm_roles_of_user(user_id, surplus)
            self._api.grant(user_id, wanted - {role["name"] for role in own})

    def set_active(self, username: str, *, active: bool) -> User:
        """See `Directory.set_active`."""
        with self._api.translated():
            representation = self._api.require(username)
            self._admin.update_user(representation["id"], {**representation, "enabled": active})
            if not active:
                self._admin.user_logout(representation["id"])
            return self._api.user_by_id(representation["id"])

    def set_password(self, username: str, password: str | None = None) -> str | None:
        """See `Directory.set_password`."""
        temporary = temporary_password() if password is None else None
        secret = temporary or check_password(password or "")
        with self._api.translated():
            user_id = self._api.require(username)["id"]
            self._admin.set_user_password(user_id, secret, temporary=temporary is not None)
            self._admin.user_logout(user_id)
        return temporary

    def end_sessions(self, username: str) -> None:
        """See `Directory.end_sessions`."""
        with self._api.translated():
            self._admin.user_logout(self._api.require(username)["id"])

    def remove_user(self, username: str) -> None:
        """See `Directory.remove_user`."""
        with self._api.translated():
            found = self._api.find(Username(username))
            if found is not None:
                # Measured: refresh tokens and the browser's session go with the user.
                self._admin.delete_user(found["id"])

    def user(self, username: str) -> User:
        """See `Directory.user`."""
        with self._api.translated():
            return self._api.user(self._api.require(username))

    def users(self) -> list[User]:
        """See `Directory.users`.

        By the members of groups and roles: a few requests a clinic instead of two a user.
        """
        with self._api.translated():
            clinics: dict[str, set[ClinicId]] = defaultdict(set)
            roles: dict[str, set[Role]] = defaultdict(set)
            for group in self._api.clinic_groups():
                clinic = clinic_of(group["path"])
                for member in self._admin.get_group_members(group["id"]) if clinic else ():
                    clinics[member["id"]].add(ClinicId(str(clinic)))
            for role in Role:
                for member in self._admin.get_realm_role_members(role.value):
                    roles[member["id"]].add(role)
            everyone = self._admin.get_users()
        users = (user_of(each, clinics[each["id"]], roles[each["id"]]) for each in everyone)
        return sorted(users, key=lambda user: user.username)

    def events(
        self, which: Events, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[IdentityEvent]:
        """See `Directory.events`."""
        with self._api.translated(EVENT_RIGHTS):
            if which is Events.CHANGES:
                yield from self._changes(since, until)
            else:
                failed = which is Events.FAILED_SIGN_INS
                yield from map(sign_in_of, self._api.sign_ins(since, until, failed=failed))

    def close(self) -> None:
        """See `Directory.close`; the library closes its connections when it goes out of use."""

    def _changes(self, since: datetime | None, until: datetime | None) -> Iterator[IdentityEvent]:
        names: dict[str, str] = {}
        for event in map(change_of, self._api.changes(since, until)):
            if event.user_id not in names:
                names[event.user_id] = self._api.username_of(event.user_id)
            yield replace(event, username=names[event.user_id])

    def _create(self, new: NewUser, password: str, *, temporary: bool) -> Any:
        try:
            return self._admin.create_user(new_user(new, password, temporary=temporary))
        except KeycloakError as error:
            self._refuse_taken_address(error, new)
            raise

    def _complete(self, before: dict[str, Any], new: NewUser, groups: dict[ClinicId, str]) -> AddedUser:
        user = self._api.user(before)
        changes: dict[str, Any] = {"email": new.email} if user.email != new.email else {}
        if new.full_name and user.name != new.full_name:
            changes.update(split_name(new.full_name))
        if changes:
            self._update({**before, **changes}, new)
        self._api.join(user.id, (groups[clinic] for clinic in new.clinics - user.clinics))
        self._api.grant(user.id, new.roles - user.roles)
        asked = new.one_time_code and self._api.ask_for_one_time_code({**before, **changes})
        after = self._api.user_by_id(user.id)
        return AddedUser(after, Outcome.CHANGED if asked or after != user else Outcome.UNCHANGED)

    def _update(self, representation: dict[str, Any], new: NewUser) -> None:
        try:
            self._admin.update_user(representation["id"], representation)
        except KeycloakError as error:
            self._refuse_taken_address(error, new)
            raise

    def _refuse_taken_address(self, error: KeycloakError, new: NewUser) -> None:
        """Keycloak says only that there is such a user; the person at the terminal needs to know who."""
        other = self._api.find_by_email(new.email) if error.response_code == _CONFLICT else None
        if other is not None and other["username"] != new.username:
            raise InvalidUserError(f"{new.email} is the address of user {other['username']!r}") from error
