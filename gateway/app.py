"""The gateway's WSGI application."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from gateway.archive.upstream import Upstream
from gateway.audit.denied import Denials
from gateway.audit.opened import OpenedStudies
from gateway.clock import Clock
from gateway.dicomweb import DicomWeb
from gateway.explorer.archive import AdministeredArchive
from gateway.explorer.route import create_explorer
from gateway.identity.claims import ClaimsPolicy
from gateway.identity.jwks import JwksCache, JwksFetcher
from gateway.identity.protector import Protector
from gateway.identity.tokens import TokenVerifier
from gateway.metrics import REQUESTS, SECONDS, exposition
from gateway.paths import check_raw_uri
from gateway.problems import (
    ALLOWED_METHODS,
    PROBLEM_JSON,
    MethodNotAllowed,
    Problem,
    Unavailable,
    problem_body,
)
from pacs import logs
from pacs.catalog import Catalog, CatalogError

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.sansio.response import Response as AnyResponse

    from gateway.explorer.route import Explorer
    from gateway.settings import GatewaySettings

SAFE_HEADERS = {
    # A shared workstation keeps nothing; a proxy that caches never gives one user's answer to another.
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    # Encapsulated documents are a stranger's: opened by themselves they may run and load nothing.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}
"""On every answer, unless its route has put others into `g.headers`."""
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"]

_log = logs.get(__name__)


@dataclass(frozen=True)
class Gateway:
    """The application's parts that outlive a request; at `app.extensions["gateway"]`."""

    catalog: Catalog
    jwks: JwksCache
    upstream: Upstream
    denials: Denials
    administered: AdministeredArchive | None

    def close(self) -> None:
        """Write the last denials, drop all connections."""
        self.denials.close()
        self.upstream.close()
        if self.administered:
            self.administered.close()
        self.catalog.close()


class _Anything(BaseConverter):
    """All of the rest of a path, slashes and line feeds too, as it is."""

    regex = "(?s:.*)"
    part_isolating = False


def create_app(
    settings: GatewaySettings,
    *,
    catalog: Catalog | None = None,
    fetch_jwks: Callable[[], Any] | None = None,
    clock: Clock | None = None,
) -> Flask:
    """Put the gateway together.

    Args:
        settings: of the gateway.
        catalog: an open one; else that of the settings is opened.
        fetch_jwks: gets the issuer's key set; else over HTTP.
        clock: tells the time.

    Raises:
        pacs.catalog.CatalogError: the catalog cannot be opened.
    """
    clock = clock or Clock()
    catalog = catalog or Catalog.open(settings.database_url)
    documents = JwksFetcher(settings.oidc_issuer, settings.oidc_jwks_url)
    jwks = JwksCache(fetch_jwks or documents, clock)
    policy = ClaimsPolicy(settings.oidc_issuer, settings.oidc_audience, settings.oidc_clients)
    administered = AdministeredArchive(settings) if settings.orthanc_url else None
    gateway = Gateway(catalog, jwks, Upstream(settings), Denials(catalog, clock), administered)
    dicomweb = DicomWeb(
        settings=settings,
        catalog=catalog,
        protector=Protector(TokenVerifier(policy, jwks, clock)),
        upstream=gateway.upstream,
        opened=OpenedStudies(catalog, clock),
        denials=gateway.denials,
        clock=clock,
    )
    app = Flask(__name__, static_folder=None)
    app.extensions["gateway"] = gateway
    _add_routes(app, dicomweb)
    if administered:
        explorer = create_explorer(
            settings,
            catalog=catalog,
            documents=documents,
            jwks=jwks,
            denials=gateway.denials,
            archive=administered,
            clock=clock,
        )
        _add_explorer(app, explorer)
    _add_operations(app, gateway)
    _add_errors(app)
    _add_hooks(app)
    return app


def _add_routes(app: Flask, dicomweb: DicomWeb) -> None:
    app.url_map.merge_slashes = False
    app.url_map.converters["anything"] = _Anything

    @app.route("/dicom-web/<anything:tail>", methods=METHODS, provide_automatic_options=False)
    def dicom_web(tail: str) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": ALLOWED_METHODS})
        if request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        check_raw_uri(request.environ)
        return dicomweb.answer(tail)


def _add_explorer(app: Flask, explorer: Explorer) -> None:
    @app.route("/orthanc", methods=METHODS, provide_automatic_options=False)
    @app.route("/orthanc/<anything:tail>", methods=METHODS, provide_automatic_options=False)
    def orthanc(tail: str = "") -> Response:
        return explorer.answer(tail)


def _add_operations(app: Flask, gateway: Gateway) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", content_type="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        with gateway.catalog.read() as connection:
            connection.execute(text("SELECT 1"))
        if not gateway.jwks.ready():
            raise Unavailable("The identity provider's keys cannot be fetched.")
        return Response("ready\n", content_type="text/plain")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(), content_type=CONTENT_TYPE_LATEST)


def _add_errors(app: Flask) -> None:
    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(CatalogError)
    def no_catalog(error: CatalogError) -> Response:
        _log.warning("the catalog cannot be used", exc_info=error)
        return Unavailable("The catalog cannot be reached.").response()

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        response = Response(
            problem_body(status, "This request cannot be served."), status, content_type=PROBLEM_JSON
        )
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ALLOWED_METHODS
        return response

    @app.errorhandler(Exception)
    def fault(error: Exception) -> Response:
        _log.error("a request failed", route=g.get("route", "other"), exc_info=error)
        return Response(problem_body(500, "Something failed here."), 500, content_type=PROBLEM_JSON)


def _add_hooks(app: Flask) -> None:
    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        g.route = {"/healthz": "healthz", "/readyz": "readyz", "/metrics": "metrics"}.get(
            request.path, "other"
        )

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in (SAFE_HEADERS | g.get("headers", {})).items():
            response.headers[name] = value
        _count(response)
        request.environ["clinicpacs.route"] = g.get("route", "other")
        request.environ["clinicpacs.subject"] = g.get("subject", "")
        return response


def _count(response: AnyResponse) -> None:
    route = g.get("route", "other")
    REQUESTS.labels(route, str(response.status_code)).inc()
    if "started" in g:
        SECONDS.labels(route).observe(time.perf_counter() - g.started)
