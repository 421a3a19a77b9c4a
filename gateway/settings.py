"""The gateway's settings."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from pacs.settings import ArchiveSettings, DataSettings, HttpUrl, Port

Network = IPv4Network | IPv6Network


def _issuer(url: str) -> str:
    # Compared character by character with `iss`: a trailing slash is part of it.
    if not url.startswith(("http://", "https://")) or not urlsplit(url).netloc:
        raise ValueError("must be the issuer's URL, exactly as its tokens bear it")
    return url


def _words(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _networks(value: object) -> object:
    words = _words(value)
    if not isinstance(words, list):
        return words
    try:
        return tuple(ip_network(each) for each in words)
    except ValueError:
        raise ValueError("must be addresses or networks such as 172.16.0.0/12") from None


def _optional_url(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url


def _optional_root(url: str) -> str:
    return _optional_url(url).rstrip("/")


class GatewaySettings(DataSettings, ArchiveSettings):
    """All that the gateway reads from its environment."""

    oidc_issuer: Annotated[
        str,
        AfterValidator(_issuer),
        Field(description="The identity provider's issuer, exactly as its tokens bear it."),
    ]
    oidc_jwks_url: Annotated[
        str,
        AfterValidator(_optional_url),
        Field(description="Where the issuer's keys are fetched; empty asks its discovery document."),
    ] = ""
    oidc_audience: Annotated[
        str, Field(min_length=1, description="The audience that a token must be meant for.")
    ] = "dicom-gateway"
    oidc_clients: Annotated[
        frozenset[str],
        NoDecode,
        BeforeValidator(_words),
        Field(min_length=1, description="OIDC clients whose tokens are taken, separated by commas."),
    ] = frozenset({"ohif-viewer"})
    oidc_token_url: Annotated[
        str,
        AfterValidator(_optional_url),
        Field(
            description="The issuer's token endpoint, as it is reached from here; browsers then find the "
            "others below OIDC_ISSUER where Keycloak has them. Empty asks its discovery document."
        ),
    ] = ""
    orthanc_url: Annotated[
        str,
        AfterValidator(_optional_root),
        Field(
            description="Root of the archive's own REST API, served to administrators below `/orthanc`; "
            "empty serves nothing there."
        ),
    ] = ""
    orthanc_admin_username: Annotated[
        str, Field(min_length=1, pattern="^[^:]+$", description="The archive's user for `/orthanc`.")
    ] = "admin"
    orthanc_admin_password: Annotated[
        SecretStr, Field(description="Password of the archive's user for `/orthanc`.")
    ] = SecretStr("")
    explorer_client_id: Annotated[
        str, Field(min_length=1, description="OIDC client that signs browsers in at `/orthanc`.")
    ] = "orthanc-explorer"
    explorer_client_secret: Annotated[
        SecretStr,
        Field(
            description="Secret of that client; browsers' cookies are encrypted by a key made of it. Empty: "
            "no sign-in there, only `Authorization: Bearer`."
        ),
    ] = SecretStr("")
    explorer_clients: Annotated[
        frozenset[str],
        NoDecode,
        BeforeValidator(_words),
        Field(
            description="OIDC clients whose tokens are taken at `/orthanc`, besides OIDC_CLIENTS and "
            "EXPLORER_CLIENT_ID, separated by commas."
        ),
    ] = frozenset({"orthanc-scripts"})
    public_url: Annotated[
        HttpUrl, Field(description="Origin that browsers use; the URLs in answers start with it.")
    ] = "https://localhost"
    accel_prefix: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9_-]+)*$",
            description="nginx's internal location that bulk data is handed to; empty streams it instead.",
        ),
    ] = ""
    gateway_host: Annotated[str, Field(description="Address to listen on; containers need 0.0.0.0.")] = (
        "127.0.0.1"
    )
    gateway_port: Annotated[
        Port, Field(description="Port of `/dicom-web`, `/orthanc`, `/healthz` and `/metrics`.")
    ] = 8000
    gateway_workers: Annotated[int, Field(ge=1, le=64, description="Processes.")] = 2
    gateway_threads: Annotated[int, Field(ge=1, le=256, description="Requests at once in each process.")] = 16
    gateway_client_seconds: Annotated[
        int,
        Field(ge=1, le=3600, description="How long a client may pause within a request."),
    ] = 30
    trusted_proxies: Annotated[
        tuple[Network, ...],
        NoDecode,
        BeforeValidator(_networks),
        Field(
            description="Proxies whose X-Forwarded-For is believed for the audit trail, separated by commas; "
            "none by default."
        ),
    ] = ()
    qido_max_results: Annotated[
        int, Field(ge=1, le=100_000, description="Most results that one search answers.")
    ] = 1000
