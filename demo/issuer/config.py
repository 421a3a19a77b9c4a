"""What the embedded issuer is told at its start."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

# As in production: what changes at the issuer counts within a minute.
ACCESS_TOKEN_SECONDS = 30
SESSION_SECONDS = 10 * 60 * 60  # a working day; refresh tokens live as long as their session
CODE_SECONDS = 60
REALM_PATH = "/auth/realms/clinicpacs"
SCOPE = "openid profile email"
EXPLORER_CLIENT = "orthanc-explorer"


class IssuerConfigError(ValueError):
    """The issuer cannot be run like this."""


@dataclass(frozen=True)
class SampleUser:
    """A login that the sign-in page names, so that whoever tries the demo can sign in."""

    username: str
    password: str
    what: str


@dataclass(frozen=True)
class ClientConfig:
    """An application that people sign in to.

    Args:
        client_id: Its name.
        redirect_uris: Where codes may be sent to; compared as they are (RFC 9700 section 2.1).
        secret: Of a confidential client; empty for a public one.
    """

    client_id: str
    redirect_uris: frozenset[str]
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class IssuerConfig:
    """Settings of the embedded issuer.

    Args:
        issuer: The issuer's URL, such as ``http://127.0.0.1:8800/auth/realms/clinicpacs``. The viewer is on
            the same origin.
        audience: ``aud`` of access tokens: the gateway.
        client_id: The one public client.
        explorer_secret: Of the client that signs browsers in at /orthanc; empty if there is none.
        samples: Logins that the sign-in page shows.

    Raises:
        IssuerConfigError: plain http on anything but this machine's loopback, or no plain URL.
    """

    issuer: str
    audience: str = "dicom-gateway"
    client_id: str = "ohif-viewer"
    explorer_secret: str = field(default="", repr=False)
    samples: tuple[SampleUser, ...] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise IssuerConfigError(f"{self.issuer!r} is no issuer: an http(s) URL without query is expected")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise IssuerConfigError(f"{self.issuer!r}: without https only this machine itself is served")

    @cached_property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    @cached_property
    def path(self) -> str:
        """The issuer's path, where cookies belong."""
        return urlsplit(self.issuer).path

    @cached_property
    def host(self) -> str:
        """Host and port, as the Host header names them."""
        return urlsplit(self.issuer).netloc

    @cached_property
    def is_https(self) -> bool:
        """Whether cookies are sent over TLS only."""
        return urlsplit(self.issuer).scheme == "https"

    @cached_property
    def clients(self) -> dict[str, ClientConfig]:
        """The applications, by their names: all of them on the issuer's own origin."""
        found = [ClientConfig(self.client_id, frozenset({f"{self.origin}/callback"}))]
        if self.explorer_secret:
            callback = f"{self.origin}/orthanc/callback"
            found.append(ClientConfig(EXPLORER_CLIENT, frozenset({callback}), self.explorer_secret))
        return {client.client_id: client for client in found}

    def allows_post_logout(self, uri: str) -> bool:
        """Whether a browser may be sent there after it signed out: anywhere on the viewer's origin.

        OHIF asks to return to the page it was on, so no list of whole addresses would do.
        """
        return uri == self.origin or uri.startswith(f"{self.origin}/")

    def endpoint(self, name: str) -> str:
        """The URL of a protocol endpoint, at the path that Keycloak has it."""
        return f"{self.issuer}/protocol/openid-connect/{name}"


def _is_loopback(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
