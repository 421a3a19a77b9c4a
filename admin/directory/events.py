"""Who signed in, and tried to, and who changed what, as the identity provider has it on record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class Events(StrEnum):
    """Which of them; each is also what we call the action."""

    SIGN_INS = "sign-in"
    FAILED_SIGN_INS = "sign-in-failed"
    CHANGES = "identity-change"


@dataclass(frozen=True)
class IdentityEvent:
    """One attempt to sign in, or one change of users, groups, roles or settings.

    Attributes:
        id: the provider's own.
        at: when, aware.
        what: was changed, and how; empty for a sign-in.
        username: as it was typed, which may be nobody's; of a change, who made it, if that can still be told.
        user_id: of whoever did it, the token's ``sub``; empty when there is no such user.
        source: address of the client.
        client: the identity provider's client, such as ``ohif-viewer``; of a change, its number.
        error: why it was refused, in the provider's word; empty when it was not.
    """

    id: str
    at: datetime
    what: str
    username: str
    user_id: str
    source: str
    client: str
    error: str

    def as_row(self) -> dict[str, Any]:
        """With the columns of an audit row. It is none: its number is the provider's, and it has no hash."""
        details = (f"client {self.client}" if self.client else "", self.what, self.error)
        return {
            "id": self.id,
            "at": self.at,
            "action": Events.CHANGES.value if self.what else Events.SIGN_INS.value,
            "allowed": not self.error,
            "subject": self.user_id,
            "username": self.username,
            "clinic_id": None,
            "study_uid": None,
            "source": self.source,
            "detail": "; ".join(each for each in details if each),
            "count": 1,
            "hash": None,
        }
