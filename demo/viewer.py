"""OHIF's static files under one origin with the issuer and the gateway.

What nginx does in production, and with the same headers: see `CONTENT_SECURITY_POLICY`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, redirect, request, send_file
from werkzeug.security import safe_join

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

APP_CONFIG = Path(__file__).parent.parent / "ohif" / "app-config.js"

# The two inline scripts of OHIF 3.13.2's index.html; `create_viewer` checks that they still are these.
_INLINE_SCRIPTS = (
    "'sha256-VggY0rSMrfuUfyGbMQUTdohoMO4fFh+5LLFfr7rG50g='",
    "'sha256-12PW7jQ7q6uBo6f025aNINHBa58dqEw1kjWTLzM/lTg='",
)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        # Measured with 3.13.2: without 'unsafe-eval' the JPEG decoders (in a worker) throw an EvalError, and
        # so does the page itself when a DICOM SEG is opened.
        f"script-src 'self' 'unsafe-eval' {' '.join(_INLINE_SCRIPTS)}",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "media-src blob:",
        # A PDF: OHIF's <object> begins without data, which means the page itself, and is not tried again.
        "object-src 'self' blob:",
        "frame-src blob:",
        "connect-src 'self' blob: data:",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""For every page of the viewer."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# Not the system's table: it differs between machines, and browsers refuse scripts of a wrong type.
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonc": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".webmanifest": "application/manifest+json",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}

# Hosting files of other platforms, and pages that load scripts from other hosts or sign in elsewhere.
WITHHELD = frozenset({"_headers", "_redirects", "google.js", "serve.json", "silent-refresh.html", "sw.js"})

_HASHED = re.compile(r"(?:^|\.)[0-9a-f]{16}\.(?:js|css|wasm|woff2)$")
_INLINE = re.compile(r"<script>(.+?)</script>", re.DOTALL)


class ViewerError(Exception):
    """The OHIF folder is not what this viewer was made for."""


def create_viewer(dist: Path, origin: str | None = None, app_config: Path = APP_CONFIG) -> Flask:
    """The viewer as a WSGI application for the root of an origin.

    Args:
        dist: OHIF's built files (`demo.ohif_install.ensure_ohif`).
        origin: Scheme, host and port that the issuer knows; pages asked for by another name of this machine
            are redirected there, or signing in would fail.
        app_config: The file served as ``/app-config.js``.

    Raises:
        ViewerError: no OHIF there, or one whose inline scripts the security policy does not allow.
    """
    _check(dist, app_config)
    root = dist.resolve()
    app = Flask(__name__, static_folder=None)

    @app.get("/app-config.js")
    def config() -> BaseResponse:
        return _send(app_config)

    @app.get("/no-access.html")
    def no_access() -> BaseResponse:
        return _send(app_config.with_name("no-access.html"))

    @app.get("/signed-out.html")
    def signed_out() -> BaseResponse:
        return redirect("/", 302)

    @app.get("/", defaults={"path": ""})
    @app.get("/<path:path>")
    def file_or_page(path: str) -> BaseResponse:
        asset = find_asset(root, path)
        if asset is not None:
            return _send(asset)
        if PurePosixPath(path).suffix or path in WITHHELD:
            abort(404)
        if origin is not None and request.host_url.rstrip("/") != origin:
            return redirect(origin + request.full_path.rstrip("?"), 307)
        return _send(root / "index.html")

    @app.after_request
    def secure(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def find_asset(root: Path, path: str) -> Path | None:
    """The file that a request path names, if it is one that is served.

    Args:
        root: The resolved folder; nothing outside is served, not through a symbolic link either.
        path: The decoded path, without its leading slash.
    """
    joined = safe_join(str(root), path)
    if joined is None or path in WITHHELD or path in {"", "index.html"} or "\x00" in path:
        return None
    candidate = Path(joined)
    if not candidate.is_file() or not candidate.resolve().is_relative_to(root):
        return None
    return candidate


def inline_script_hashes(html: str) -> list[str]:
    """The CSP sources (Content Security Policy 3 section 2.3.1) of a page's inline scripts."""
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE.findall(html))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def _check(dist: Path, app_config: Path) -> None:
    index = dist / "index.html"
    for file in (index, app_config):
        if not file.is_file():
            raise ViewerError(f"{file} is missing")
    unknown = set(inline_script_hashes(index.read_text(encoding="utf-8"))) - set(_INLINE_SCRIPTS)
    if unknown:
        raise ViewerError(
            f"{index} holds scripts that the security policy does not know: {', '.join(sorted(unknown))}"
        )


def _send(file: Path) -> BaseResponse:
    media_type = MEDIA_TYPES.get(file.suffix, "application/octet-stream")
    response = send_file(file.absolute(), mimetype=media_type, conditional=True, etag=True, max_age=0)
    response.headers["Content-Type"] = media_type
    immutable = bool(_HASHED.search(file.name))
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if immutable else "no-cache"
    return response
