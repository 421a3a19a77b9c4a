"""Errors as the caller gets them: problem details (RFC 9457).

Problem
├── BadRequest         400
├── Unauthorized       401, with WWW-Authenticate (RFC 6750 section 3)
├── Forbidden          403
├── NotFound           404, the same for "not yours" and "does not exist"
├── MethodNotAllowed   405
├── NotAcceptable      406
├── UriTooLong         414
├── BadGateway         502
└── Unavailable        503
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import ClassVar

from werkzeug import Response

PROBLEM_JSON = "application/problem+json"
ALLOWED_METHODS = "GET, HEAD, OPTIONS"
MAX_URI = 4096
"""Characters of path and query. gunicorn cuts off at twice that (gunicorn.conf.py)."""
# RFC 9110's, as of Python 3.13; earlier ones have RFC 2616's.
_TITLES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable"}


def problem_body(status: int, detail: str) -> str:
    """The document; it never repeats anything of the request."""
    return json.dumps(
        {
            "type": "about:blank",
            "title": _TITLES.get(status) or HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
    )


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is an error.

    Args:
        detail: one sentence for the caller, without patient data.
        headers: to go with it.
    """

    status: ClassVar[int] = 500

    def __init__(self, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> Response:
        """The HTTP answer."""
        return Response(
            problem_body(self.status, self.detail),
            status=self.status,
            headers=self.headers,
            content_type=PROBLEM_JSON,
        )


class BadRequest(Problem):
    """Something in the request is malformed; the detail says what."""

    status = 400


class Unauthorized(Problem):
    """There is no token, or none that is good (RFC 6750 section 3).

    Args:
        detail: one sentence for the caller.
        came: whether a token came; without any, no error code is told.
    """

    status = 401

    def __init__(self, detail: str, *, came: bool = True) -> None:
        error = ', error="invalid_token"' if came else ""
        super().__init__(detail, {"WWW-Authenticate": f'Bearer realm="clinicpacs"{error}'})


class Forbidden(Problem):
    """It is known who asks, and that they may not have this."""

    status = 403


class NotFound(Problem):
    """No such resource, or none for this caller."""

    status = 404

    def __init__(self) -> None:
        super().__init__("There is no such study, series, instance or resource.")


class MethodNotAllowed(Problem):
    """What is here is not served that way: below /dicom-web everything is read only."""

    status = 405

    def __init__(self, allowed: str = ALLOWED_METHODS) -> None:
        super().__init__(f"Only {allowed} are served here.", {"Allow": allowed})


class NotAcceptable(Problem):
    """No representation that is offered is accepted."""

    status = 406


class UriTooLong(Problem):
    """The request's path and query are too long."""

    status = 414

    def __init__(self) -> None:
        super().__init__(f"Path and query together may have at most {MAX_URI} characters.")


class BadGateway(Problem):
    """The archive gave an answer that is of no use."""

    status = 502

    def __init__(self) -> None:
        super().__init__("The archive could not answer this.")


class Unavailable(Problem):
    """Something that the answer needs is down; trying again later helps."""

    status = 503

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"Retry-After": "5"})
