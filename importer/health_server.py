"""The small HTTP server of a daemon: `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CLIENT_SECONDS = 5


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class HealthServer:
    """Serves one registry and two sets of named checks: 200 when all hold, 503 when one does not.

    `alive` says whether a restart would help, `ready` whether the daemon gets its work done now.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        alive: Callable[[], Mapping[str, bool]],
        ready: Callable[[], Mapping[str, bool]],
    ) -> None:
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
            "/healthz": lambda: _checked(alive()),
            "/readyz": lambda: _checked(ready()),
        }

        class Handler(BaseHTTPRequestHandler):
            timeout = _CLIENT_SECONDS

            def do_GET(self) -> None:
                page = pages.get(self.path.partition("?")[0])
                status, content_type, body = page() if page else (404, "text/plain", b"not found\n")
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: a scrape every few seconds is no news."""

        self._server = (_Server6 if ":" in host else ThreadingHTTPServer)((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on, also when it was asked for any."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _checked(checks: Mapping[str, bool]) -> tuple[int, str, bytes]:
    return 200 if all(checks.values()) else 503, "application/json", json.dumps(dict(checks)).encode() + b"\n"
