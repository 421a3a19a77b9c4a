"""How users, groups and errors look in Keycloak's Admin API."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from admin.directory import NewUser, Role, User
from admin.directory.events import IdentityEvent
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keycloak.exceptions import KeycloakError

PARENT = "clinics"
NAME_ATTRIBUTE = "clinic_name"


def user_of(representation: dict[str, Any], clinics: Iterable[ClinicId], roles: Iterable[Role]) -> User:
    """A user of these clinics and roles."""
    names = (representation.get("firstName"), representation.get("lastName"))
    return User(
        id=representation["id"],
        username=representation["username"],
        email=representation.get("email") or "",
        name=" ".join(part for part in names if part) or representation["username"],
        clinics=frozenset(clinics),
        roles=frozenset(roles),
        active=bool(representation.get("enabled")),
    )


def new_user(new: NewUser, password: str, *, temporary: bool) -> dict[str, Any]:
    """What is sent to make a user."""
    return {
        "username": new.username,
        "email": new.email,
        "emailVerified": True,
        "enabled": True,
        **split_name(new.name),
        "requiredActions": ["CONFIGURE_TOTP"] if new.one_time_code else [],
        # In the same request: a user without a password could be left behind otherwise.
        "credentials": [{"type": "password", "value": password, "temporary": temporary}],
    }


def split_name(name: str) -> dict[str, str]:
    """A name as Keycloak keeps it; a single word is the first name."""
    first, _, last = name.rpartition(" ")
    return {"firstName": first or last, "lastName": last if first else ""}


def sign_in_of(event: dict[str, Any]) -> IdentityEvent:
    """An event of the type LOGIN or LOGIN_ERROR."""
    return IdentityEvent(
        id=event.get("id") or "",
        at=datetime.fromtimestamp(event["time"] / 1000, UTC),
        what="",
        username=(event.get("details") or {}).get("username") or "",
        user_id=event.get("userId") or "",
        source=event.get("ipAddress") or "",
        client=event.get("clientId") or "",
        error=event.get("error") or "",
    )


def change_of(event: dict[str, Any]) -> IdentityEvent:
    """An admin event: of the administration's pages, of our own commands, of whoever else has the right."""
    by = event.get("authDetails") or {}
    changed = event.get("resourcePath") or event.get("resourceType") or ""
    return IdentityEvent(
        id=event.get("id") or "",
        at=datetime.fromtimestamp(event["time"] / 1000, UTC),
        what=f"{event['operationType']} {changed}".rstrip(),
        username="",
        user_id=by.get("userId") or "",
        source=by.get("ipAddress") or "",
        client=by.get("clientId") or "",
        error=event.get("error") or "",
    )


def clinic_of(path: str) -> ClinicId | None:
    """The clinic of a group, if it is exactly ``/clinics/<id>``."""
    try:
        return ClinicId(path.removeprefix(f"/{PARENT}/")) if path.startswith(f"/{PARENT}/") else None
    except InvalidClinicIdError:
        return None


def clinic_name(group: dict[str, Any]) -> str:
    """The clinic's name, as its group has it."""
    names: list[str] = group.get("attributes", {}).get(NAME_ATTRIBUTE) or [group["name"]]
    return names[0]


def rights_in(unverified_token: str) -> frozenset[str]:
    """The client roles of `realm-management` that an access token of our own carries.

    Only to tell what is missing: it is Keycloak that decides, by the token that it signed.
    """
    try:
        payload = unverified_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return frozenset(claims["resource_access"]["realm-management"]["roles"])
    except (ValueError, LookupError, TypeError):
        return frozenset()


def reason_of(error: KeycloakError) -> str:
    """What Keycloak said about a refused request."""
    try:
        body = json.loads(error.response_body or b"")
        text = body.get("errorMessage") or body.get("error_description") or body.get("error")
    except (ValueError, AttributeError):
        said = error.error_message
        text = said if isinstance(said, str) else "what answered there is not Keycloak's Admin API"
    code = f" ({error.response_code})" if error.response_code else ""
    return f"{text}{code}"
