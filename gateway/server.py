"""What is ours in gunicorn: errors as problem details, logs without what patients are called."""

from __future__ import annotations

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

_log = logs.get("gateway.access")
_errors = logs.get("gateway.server")

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
        """One request that was answered."""
        del req
        _log.info(
            "answered",
            route=environ.get("clinicpacs.route", "other"),
            method=environ["REQUEST_METHOD"],
            status=int(str(resp.status).split(maxsplit=1)[0]),
            bytes=resp.sent,
            seconds=round(request_time.total_seconds(), 4),
            client=environ.get("REMOTE_ADDR", ""),
            subject=environ.get("clinicpacs.subject", ""),
        )


class GatewayWorker(ThreadWorker):
    """gunicorn's threaded worker, but for what it tells of requests that it cannot read."""

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
