"""What every answer of the gateway has, whichever part of it made the answer."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug import Response
from werkzeug.exceptions import HTTPException

from gateway.metrics import REQUESTS, SECONDS
from gateway.problems import ALLOWED_METHODS, PROBLEM_JSON, Problem, Unavailable, problem_body
from pacs import logs
from pacs.catalog import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.sansio.response import Response as AnyResponse

    from gateway.archive.accel import HandOver

SAFE_HEADERS = {
    # A shared workstation keeps nothing; a proxy that caches never gives one user's answer to another.
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    # Encapsulated documents are a stranger's: opened by themselves they may run and load nothing.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}
"""On every answer, unless its route has others."""

_log = logs.get(__name__)


def to_error(error: Exception, route: str) -> Response:
    """The answer to a request that raised: problem details in every case."""
    match error:
        case Problem():
            return error.response()
        case CatalogError():
            _log.warning("the catalog cannot be used", exc_info=error)
            return Unavailable("The catalog cannot be reached.").response()
        case HTTPException():
            return _to_http_error(error.code or 500)
    _log.error("a request failed", route=route, exc_info=error)
    return Response(problem_body(500, "Something failed here."), 500, content_type=PROBLEM_JSON)


def _to_http_error(status: int) -> Response:
    response = Response(
        problem_body(status, "This request cannot be served."), status, content_type=PROBLEM_JSON
    )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ALLOWED_METHODS
    return response


def finish(
    response: AnyResponse | HandOver,
    environ: dict[str, Any],
    *,
    route: str,
    subject: str,
    started: float,
    headers: Mapping[str, str] = SAFE_HEADERS,
) -> None:
    """Set the headers, count, and leave in `environ` what `gateway.server.GatewayLogger` tells."""
    for name, value in headers.items():
        response.headers[name] = value
    REQUESTS.labels(route, str(response.status_code)).inc()
    SECONDS.labels(route).observe(time.perf_counter() - started)
    environ["clinicpacs.route"] = route
    environ["clinicpacs.subject"] = subject
