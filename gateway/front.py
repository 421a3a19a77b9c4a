"""The way in: /dicom-web without Flask, all else with it.

Flask would cost an authorised frame more than all that is decided about it (measured), and a viewer asks for
thousands of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug import Request, Response

from gateway import answers, openapi
from gateway.paths import check_raw_uri
from gateway.problems import ALLOWED_METHODS, MethodNotAllowed
from gateway.visit import Visit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from gateway.archive.accel import HandOver
    from gateway.dicomweb import DicomWeb

PREFIX = "/dicom-web/"


class Front:
    """A WSGI application.

    Args:
        dicomweb: answers below `PREFIX`.
        others: answers everything else.
    """

    def __init__(self, dicomweb: DicomWeb, others: WSGIApplication) -> None:
        self._dicomweb = dicomweb
        self._others = others

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ, populate_request=False)
        if not request.path.startswith(PREFIX):
            return self._others(environ, start_response)
        visit = Visit(request)
        response: Response | HandOver
        try:
            response = self._answer(visit)
        except Exception as error:  # noqa: BLE001 - told as a problem, and logged, whatever it is
            response = answers.to_error(error, visit.route)
        answers.finish(response, environ, route=visit.route, subject=visit.subject, started=visit.started)
        return response(environ, start_response)

    def _answer(self, visit: Visit) -> Response | HandOver:
        method = visit.request.method
        if method == "OPTIONS":
            return Response(status=204, headers={"Allow": ALLOWED_METHODS})
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        check_raw_uri(visit.request.environ)
        if visit.request.path == openapi.PATH:
            return openapi.serve()
        return self._dicomweb.answer(visit, visit.request.path.removeprefix(PREFIX))
