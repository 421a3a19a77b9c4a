"""Bringing Keycloak's realm in line with `.env`: addresses, clients' secrets, the life of tokens and events.

Keycloak imports the realm file once, and a realm that is there stays as it is: without this a new address or
secret would be known to all services but Keycloak. What was changed by hand elsewhere in the realm is kept.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakAuthenticationError, KeycloakError

from admin.directory import DirectoryError, DirectoryUnavailableError
from admin.directory.keycloak_api import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    Recording = Callable[[str], AbstractContextManager[object]]

_PLACEHOLDER = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::([^}]*))?\}")
_OF_CLIENT = ("rootUrl", "baseUrl", "redirectUris", "webOrigins", "secret")
_ATTRIBUTES = ("post.logout.redirect.uris", "access.token.lifespan")
_LIFE = "accessTokenLifespan"
_KEPT, _CHANGES_KEPT, _TYPES = "eventsExpiration", "adminEventsExpiration", "enabledEventTypes"
_DAY = 86_400


def wanted(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The realm file with its placeholders filled in, as Keycloak does at an import.

    Raises:
        DirectoryError: a placeholder's variable is not set, and has no default.
    """
    missing: set[str] = set()

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        given = environment.get(name) or default
        if given is None:
            missing.add(name)
        # Within a JSON string, whatever it holds.
        return json.dumps(given or "")[1:-1]

    text = _PLACEHOLDER.sub(value, path.read_text(encoding="utf-8"))
    if missing:
        raise DirectoryError(f"{path.name} needs {', '.join(sorted(missing))}")
    realm: dict[str, Any] = json.loads(text)
    return realm


def keeping_events(realm: dict[str, Any], days: int) -> dict[str, Any]:
    """The realm with sign-ins and administrators' changes kept for so many days; 0: for ever."""
    seconds = days * _DAY
    attributes = realm.get("attributes", {}) | {_CHANGES_KEPT: str(seconds)}
    return realm | {_KEPT: seconds, "attributes": attributes}


def apply(
    url: str,
    password: str,
    realm: dict[str, Any],
    recording: Recording = nullcontext,
) -> list[str]:
    """Change what differs.

    Args:
        url: Keycloak's root.
        password: of the user `admin` of the realm `master`.
        realm: as it is to be; of `wanted`.
        recording: what a change, a sentence, is made within; it is not made if that raises.

    Returns:
        What was changed, a sentence each; empty when the realm was in line.

    Raises:
        DirectoryUnavailableError: Keycloak does not answer, or refuses.
    """
    name = realm["realm"]
    admin = KeycloakAdmin(
        server_url=f"{url.rstrip('/')}/",
        username="admin",
        password=password,
        realm_name=name,
        user_realm_name="master",
        timeout=TIMEOUT_SECONDS,
    )
    try:
        return [
            *_apply_life(admin, realm, recording),
            *_apply_keeping(admin, realm, recording),
            *_apply_clients(admin, realm, recording),
            *_apply_rights(admin, realm, recording),
        ]
    except KeycloakError as error:
        # Keycloak answers 401, or 400 to a user that it has locked for a while (measured, 26.7).
        if isinstance(error, KeycloakAuthenticationError) or b"invalid_grant" in (error.response_body or b""):
            raise DirectoryUnavailableError(
                "KEYCLOAK_ADMIN_PASSWORD is not that of Keycloak's user admin, or too many wrong ones were "
                "tried: put the right one into .env and try again in some minutes"
            ) from error
        raise DirectoryUnavailableError(f"Keycloak at {url} refuses or does not answer: {error}") from error


def _apply_life(admin: KeycloakAdmin, realm: dict[str, Any], recording: Recording) -> list[str]:
    seconds = int(realm[_LIFE])
    if admin.get_realm(realm["realm"])[_LIFE] == seconds:
        return []
    change = f"access tokens live {seconds} s"
    with recording(change):
        admin.update_realm(realm["realm"], {_LIFE: seconds})
    return [change]


def _apply_keeping(admin: KeycloakAdmin, realm: dict[str, Any], recording: Recording) -> list[str]:
    """How long events are kept, and which; attributes that the file does not name stay."""
    now = admin.get_realm(realm["realm"])
    attributes = now.get("attributes", {}) | {_CHANGES_KEPT: realm["attributes"][_CHANGES_KEPT]}
    told = {_KEPT: realm[_KEPT], _TYPES: realm[_TYPES], "attributes": attributes}
    if all(_same(each, now.get(key)) for key, each in told.items()):
        return []
    days = realm[_KEPT] // _DAY
    change = f"sign-ins and changes are kept {f'for {days} days' if days else 'for ever'}"
    with recording(change):
        admin.update_realm(realm["realm"], told)
    return [change]


def _apply_clients(admin: KeycloakAdmin, realm: dict[str, Any], recording: Recording) -> list[str]:
    there = {client["clientId"]: client for client in admin.get_clients()}
    changed = []
    for client in realm["clients"]:
        now = there.get(client["clientId"])
        if now is None:
            continue
        differing = {
            key: client[key] for key in _OF_CLIENT if key in client and not _same(client[key], now.get(key))
        }
        told = {key: each for key, each in client.get("attributes", {}).items() if key in _ATTRIBUTES}
        if any(not _same(each, now["attributes"].get(key)) for key, each in told.items()):
            differing["attributes"] = {**now["attributes"], **told}
        if differing:
            changed.append(f"{client['clientId']}: {', '.join(sorted(differing))}")
            with recording(changed[-1]):
                admin.update_client(now["id"], {**now, **differing})
    return changed


def _apply_rights(admin: KeycloakAdmin, realm: dict[str, Any], recording: Recording) -> list[str]:
    """What a service account may do in a newer version; a right that is too much is left alone."""
    changed = []
    for user in realm["users"]:
        for owner, wanted in user.get("clientRoles", {}).items():
            client = admin.get_client_id(user["serviceAccountClientId"])
            owner_id = admin.get_client_id(owner)
            if client is None or owner_id is None:
                continue
            account = admin.get_client_service_account_user(client)["id"]
            known = {role["name"] for role in admin.get_client_roles_of_user(account, owner_id)}
            missing = [admin.get_client_role(owner_id, name) for name in wanted if name not in known]
            if missing:
                names = ", ".join(role["name"] for role in missing)
                changed.append(f"{user['serviceAccountClientId']}: may {names}")
                with recording(changed[-1]):
                    admin.assign_client_role(account, owner_id, missing)
                    # The client's tokens bear a role only when it is in the client's scope, too.
                    admin.assign_client_roles_to_client_scope(client, owner_id, missing)
    return changed


def _same(one: Any, other: Any) -> bool:
    """Lists in any order; Keycloak joins logout addresses with ``##``."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(one) == sorted(other)
    if isinstance(one, str) and isinstance(other, str):
        return sorted(one.split("##")) == sorted(other.split("##"))
    return bool(one == other)
