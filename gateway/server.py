"""What is ours in gunicorn: errors as problem details, logs without what patients are called."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

from gateway.problems import PROBLEM_JSON, problem_body
from pacs import logs

if TYPE_CHECKING:
    from datetime import timedelta
    from socket import socket

    from gunicorn.workers.gthread import TConn

_access = logging.getLogger("gateway.access")
_errors = logs.get("gateway.server")

_STAYS_MILLISECONDS = 20

_REFUSED: dict[type[Exception], int] = {
    LimitRequestLine: 414,
    LimitRequestHeaders: 431,
    ExpectationFailed: 417,
}


class GatewayLogger(Logger):
    """Sends gunicorn's own words to our logs (templates only), and one line for each request.

    The line has no path and no query: both may hold a patient's name.
    """

    def setup(self, cfg: Any) -> None:
        """No handlers of gunicorn's own."""
        self.cfg = cfg
        self._access_log_enabled = True
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """One request that was answered: as `pacs.logs` writes a line, but at a tenth of its cost."""
        del req
        if not _access.isEnabledFor(logging.INFO):
            return
        line = {
            "service": "gateway",
            "route": environ.get("clinicpacs.route", "other"),
            "method": environ["REQUEST_METHOD"],
            "status": int(str(resp.status).split(maxsplit=1)[0]),
            "bytes": resp.sent,
            "seconds": round(request_time.total_seconds(), 4),
            "client": environ.get("REMOTE_ADDR", ""),
            "subject": environ.get("clinicpacs.subject", ""),
            "event": "answered",
            "level": "info",
            "logger": _access.name,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        with contextlib.suppress(OSError):  # as there: a log that cannot be written stops nobody
            os.write(sys.stderr.fileno(), f"{json.dumps(line, ensure_ascii=False)}\n".encode())


class GatewayWorker(ThreadWorker):
    """gunicorn's threaded worker, but for what it tells of requests that it cannot read.

    And a thread stays for a moment with the connection that it has served, as nginx's next request comes over
    it. To hand it to the loop and back costs as much again as the request (measured).
    """

    def handle(self, conn: TConn) -> object:
        """Serve a connection while requests follow one another and no other connection waits for a thread."""
        # What gunicorn waits with is made for each connection; nearly always there is nothing to wait for.
        conn.data_ready = conn.data_ready or _follows(conn, 0)
        kept: object = True
        while kept is True:
            kept = super().handle(conn)  # type: ignore[no-untyped-call]
            if (
                kept is not True
                or not self.alive
                or self._others_wait()
                or not _follows(conn, _STAYS_MILLISECONDS)
            ):
                break
        return kept

    def _others_wait(self) -> bool:
        idle = len(self.keepalived_conns) + len(self.pending_conns)
        return bool(self.nr_conns - idle > self.cfg.threads)

    def handle_error(self, req: Any, client: socket, addr: Any, exc: BaseException) -> None:
        """Answer with problem details; gunicorn's own page would repeat what was sent."""
        del req
        status = next((code for kind, code in _REFUSED.items() if isinstance(exc, kind)), None)
        if status is None:
            status = 400 if isinstance(exc, ParseException) else 500
        _errors.warning(
            "a request could not be read",
            status=status,
            client=addr[0] if addr else "",
            reason=type(exc).__name__,
        )
        body = problem_body(status, "This request cannot be read.").encode()
        head = (
            f"HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Type: {PROBLEM_JSON}\r\n"
            f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode("ascii") + body)  # type: ignore[no-untyped-call]
        except OSError:
            _errors.debug("the client was gone before it was told", status=status)


def _follows(conn: TConn, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(milliseconds))
