"""One origin: OHIF, the gateway under /dicom-web and the embedded issuer under /auth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from admin.directory.embedded import EmbeddedDirectory
from admin.settings import IdentitySettings
from demo.issuer.app import create_issuer
from demo.issuer.config import IssuerConfig
from demo.ohif_install import ensure_ohif
from demo.people import USERS
from demo.viewer import create_viewer
from gateway.app import create_app
from gateway.settings import GatewaySettings
from pacs.settings import load, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

# Where the gateway's own routes are; the rest of the origin is the viewer's and the issuer's.
_GATEWAY_PATHS = ("/dicom-web", "/healthz", "/readyz")


class Origin(DispatcherMiddleware):
    """The three applications; `extensions` are the gateway's, for the hooks of its gunicorn.conf.py."""

    def __init__(self, viewer: Flask, issuer: Flask, issuer_path: str, gateway: Flask) -> None:
        self.extensions = gateway.extensions
        mounted = {path: _at_its_own_path(gateway, path) for path in _GATEWAY_PATHS}
        super().__init__(viewer, {issuer_path: issuer, **mounted})


def create_origin() -> Origin:
    """The demo's application, from the settings that `python -m demo` passes in the environment."""
    settings = load(GatewaySettings)
    identity = load(IdentitySettings)
    if identity.identity_path is None:
        refuse("IDENTITY_PATH is not set: start the demo with `make demo`")
    config = IssuerConfig(settings.oidc_issuer, samples=tuple(user.as_sample() for user in USERS))
    issuer = create_issuer(config, EmbeddedDirectory(identity.identity_path), identity.data_path)
    viewer = create_viewer(ensure_ohif(), origin=settings.public_url)
    return Origin(viewer, issuer, config.path, create_app(settings))


def _at_its_own_path(app: WSGIApplication, path: str) -> WSGIApplication:
    """The application with the whole path in PATH_INFO, as it is routed in production."""

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = f"{path}{environ['PATH_INFO']}"
        environ["SCRIPT_NAME"] = ""
        return app(environ, start_response)

    return mounted
