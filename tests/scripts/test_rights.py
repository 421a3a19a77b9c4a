"""What each container of the production stack may do, by docker-compose.yml."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from support.shell import ROOT

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
WRITABLE = {"keycloak"}
"""It makes its own program ready at its start, in its own folder."""
OF_THE_IMAGE = {"keycloak", "postgres"}
"""Whose image says which user: Keycloak's is not root; PostgreSQL's is, to hand its folder over."""
ROOT_USER = {"alloy", "inbox-rights"}
"""Container logs are root's, and folders in the inbox any user's."""
CAPABILITIES = {
    "inbox-rights": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
    "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
}


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    """Nor can it get more, or take all of the machine."""
    service = SERVICES[name]
    assert service["read_only"] is (name not in WRITABLE)
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == CAPABILITIES.get(name, [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service.keys().isdisjoint({"privileged", "pid", "ipc", "userns_mode", "devices"})
    assert service.get("network_mode", "none") == "none"
    assert "docker.sock" not in str(service.get("volumes"))


def test_nobody_is_root_but_who_has_to_be() -> None:
    users = {name: service["user"] for name, service in SERVICES.items() if "user" in service}
    assert SERVICES.keys() - users.keys() == OF_THE_IMAGE
    assert {
        name for name, user in users.items() if not re.match(r"[1-9]|\$\{PACS_UID:-[1-9]", user)
    } == ROOT_USER


def test_only_nginx_publishes_ports() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
