"""Where a request comes from, for the audit trail."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.settings import Network

_HOPS_MAX = 32
_KEPT_LENGTH_MAX = 256


def source_address(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str:
    """The address of the client.

    It is the connection's own. Only where that is a trusted proxy, X-Forwarded-For is read, from its end,
    which the proxy wrote, backwards over trusted proxies to the first address that is none: what a client
    put in front of it is never believed.

    Args:
        peer: the connection's address.
        forwarded_for: the header's value, or nothing.
        trusted: TRUSTED_PROXIES.
    """
    if len(forwarded_for) <= _KEPT_LENGTH_MAX:
        return _kept(peer, forwarded_for, trusted)
    return _found(peer, forwarded_for, trusted)


def _found(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str:
    address = _address(peer)
    for hop in reversed(forwarded_for.split(",")[-_HOPS_MAX:]):
        if not address or not any(ip_address(address) in network for network in trusted):
            break
        if not (before := _address(hop)):
            break
        address = before
    return address


_kept = lru_cache(1024)(_found)


def _address(text: str) -> str:
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return ""
