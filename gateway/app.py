"""The gateway's WSGI application."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Flask, g, request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from werkzeug import Response
from werkzeug.routing import BaseConverter

from gateway import answers
from gateway.archive.upstream import Upstream, archive_places
from gateway.audit.denied import Denials
from gateway.audit.opened import OpenedStudies
from gateway.audit.searched import Searches
from gateway.clock import Clock
from gateway.dicomweb import DicomWeb
from gateway.explorer.archive import AdministeredArchive
from gateway.explorer.route import create_explorer
from gateway.front import Front
from gateway.identity.claims import ClaimsPolicy
from gateway.identity.jwks import JwksCache, JwksFetcher
from gateway.identity.protector import Protector
from gateway.identity.tokens import TokenVerifier
from gateway.metrics import exposition
from gateway.problems import Unavailable
from pacs.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.sansio.response import Response as AnyResponse

    from gateway.explorer.route import Explorer
    from gateway.settings import GatewaySettings

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"]


@dataclass(frozen=True)
class Gateway:
    """The application's parts that outlive a request; at `app.extensions["gateway"]`."""

    catalog: Catalog
    documents: JwksFetcher
    jwks: JwksCache
    upstream: Upstream
    denials: Denials
    searches: Searches
    administered: AdministeredArchive | None

    def close(self) -> None:
        """Write the last denials and searches, drop all connections."""
        self.denials.close()
        self.searches.close()
        self.upstream.close()
        if self.administered:
            self.administered.close()
        self.documents.close()
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
    catalog = catalog or Catalog.open(settings.database_url, bounded=True)
    documents = JwksFetcher(settings.oidc_issuer, settings.oidc_jwks_url)
    jwks = JwksCache(fetch_jwks or documents, clock)
    places = archive_places(settings.gateway_threads)
    administered = AdministeredArchive(settings, places) if settings.orthanc_url else None
    denials, searches = Denials(catalog, clock), Searches(catalog, clock)
    upstream = Upstream(settings, places)
    gateway = Gateway(catalog, documents, jwks, upstream, denials, searches, administered)
    app = Flask(__name__, static_folder=None)
    app.extensions["gateway"] = gateway
    app.url_map.merge_slashes = False
    app.url_map.converters["anything"] = _Anything
    if administered:
        explorer = create_explorer(
            settings,
            catalog=catalog,
            documents=documents,
            jwks=jwks,
            denials=denials,
            archive=administered,
            clock=clock,
        )
        _add_explorer(app, explorer)
    _add_operations(app, gateway)
    _add_hooks(app)
    app.wsgi_app = Front(_dicomweb(settings, gateway, clock), app.wsgi_app)  # type: ignore[method-assign]
    return app


def _dicomweb(settings: GatewaySettings, gateway: Gateway, clock: Clock) -> DicomWeb:
    policy = ClaimsPolicy(settings.oidc_issuer, settings.oidc_audience, settings.oidc_clients)
    return DicomWeb(
        settings=settings,
        catalog=gateway.catalog,
        protector=Protector(TokenVerifier(policy, gateway.jwks, clock)),
        upstream=gateway.upstream,
        opened=OpenedStudies(gateway.catalog, clock),
        denials=gateway.denials,
        searches=gateway.searches,
        clock=clock,
    )


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


def _add_hooks(app: Flask) -> None:
    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return answers.to_error(error, g.get("route", "other"))

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        g.route = {"/healthz": "healthz", "/readyz": "readyz", "/metrics": "metrics"}.get(
            request.path, "other"
        )

    @app.after_request
    def finish(response: AnyResponse) -> AnyResponse:
        answers.finish(
            response,
            request.environ,
            route=g.get("route", "other"),
            subject=g.get("subject", ""),
            started=g.get("started", time.perf_counter()),
            headers=answers.SAFE_HEADERS | g.get("headers", {}),
        )
        return response
