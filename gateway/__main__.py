"""`python -m gateway`: the gateway under gunicorn."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from gunicorn.app.wsgiapp import WSGIApplication

from gateway.settings import GatewaySettings
from pacs.catalog import Catalog, CatalogError
from pacs.settings import load, refuse


def main() -> None:
    """Check what can be checked before a process is forked, then serve until SIGTERM."""
    settings = load(GatewaySettings)
    try:
        Catalog.open(settings.database_url).close()
    except CatalogError as error:
        refuse(str(error))
    _check_port(settings.gateway_host, settings.gateway_port)
    sys.argv = ["gateway", "--config", str(Path(__file__).with_name("gunicorn.conf.py"))]
    WSGIApplication("%(prog)s", prog="gateway").run()  # type: ignore[no-untyped-call]


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            refuse(f"GATEWAY_HOST={host}, GATEWAY_PORT={port}: {error.strerror}")


if __name__ == "__main__":
    main()
