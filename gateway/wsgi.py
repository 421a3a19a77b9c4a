"""The application as gunicorn's workers make it: each its own, after the fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.app import create_app
from gateway.settings import GatewaySettings
from pacs.settings import load

if TYPE_CHECKING:
    from flask import Flask


def application() -> Flask:
    """The gateway, by the environment's settings."""
    return create_app(load(GatewaySettings))
