"""Who signed in, and who tried to, as the identity provider has it on record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class RecordedSignIn:
    """One attempt.

    Attributes:
        at: when, aware.
        username: as it was typed, which may be nobody's.
        user_id: the token's ``sub``; empty when there is no such user.
        source: address of the client.
        client: the identity provider's client, such as ``ohif-viewer``.
        error: why it was refused, in the provider's word; empty when it was not.
    """

    at: datetime
    username: str
    user_id: str
    source: str
    client: str
    error: str
