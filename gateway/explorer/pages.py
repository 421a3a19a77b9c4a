"""The few pages that are ours: what went wrong, and the step from the issuer back to Explorer."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response, g, request
from markupsafe import escape

from gateway.explorer.paths import ROOT

if TYPE_CHECKING:
    from gateway.problems import Problem

# Not sandboxed: the refresh of a sandboxed page counts as another site's, and the cookie would stay behind.
_CSP = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_SIGN_IN = f'<a href="{ROOT}/">Sign in again</a>'
_SIGN_OUT = f'<a href="{ROOT}/sign-out">Sign out</a>'


def is_navigation() -> bool:
    """Whether a person opens a page, and not a script or a part of a page asks for something."""
    if request.method != "GET" or "text/html" not in request.headers.get("Accept", ""):
        return False
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")
    return mode == "navigate" and request.headers.get("Sec-Fetch-Dest", "document") == "document"


def problem_page(problem: Problem, *, can_sign_in: bool) -> Response:
    """An error for a person: its sentence, nothing of the request, and a way on."""
    way_on = ""
    if can_sign_in:
        way_on = _SIGN_OUT if problem.status == HTTPStatus.FORBIDDEN else _SIGN_IN
    body = f"<p>{escape(problem.detail)}</p><p>{way_on}</p>"
    response = _page(HTTPStatus(problem.status).phrase, body, problem.status)
    response.headers.update(problem.headers)
    return response


def onward_page(address: str) -> Response:
    """Sends the browser on to an address of ours, as a step that this origin starts.

    After a redirect from the issuer the browser may still count the navigation as the other site's that
    began it, and keep a Strict cookie back: Explorer would ask to sign in, for ever.
    """
    target = escape(address)
    refresh = f'<meta http-equiv="refresh" content="0;url={target}">'
    return _page("Signed in", f'<p><a href="{target}">Go on</a></p>', HTTPStatus.OK, refresh)


def signed_out_page() -> Response:
    """When the issuer cannot be asked to end its own session."""
    text = "You are signed out here, but the identity provider cannot be reached to sign you out there."
    return _page("Signed out", f"<p>{text}</p><p>{_SIGN_IN}</p>", HTTPStatus.OK)


def _page(title: str, body: str, status: int, head: str = "") -> Response:
    g.headers = g.get("headers", {}) | {"Content-Security-Policy": _CSP}
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return Response(html, status, content_type="text/html; charset=utf-8")
