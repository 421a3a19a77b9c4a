"""Handing a request over to nginx (ACCEL_PREFIX), which fetches from the archive and caches.

The contract. The gateway answers without a body and with

    X-Accel-Redirect: <ACCEL_PREFIX>/<revision>/<accept-key>/<path>[?<query>]

* ``revision``: digits; the study's, read together with the authorisation. A new image, or the end of the
  archive's StableAge, raises it, so that a cached answer of before is never found again.
* ``accept-key``: ``multipart,TYPE,SUBTYPE,SYNTAX`` or ``single,TYPE,SUBTYPE``; SYNTAX is ``any``,
  ``default`` or a UID. nginx maps it back, with named captures, to the Accept header for the archive:
  ``multipart/related; type="TYPE/SUBTYPE"; transfer-syntax=SYNTAX`` with ``any`` as ``*`` and no
  transfer-syntax for ``default``; or ``TYPE/SUBTYPE``.
* ``path``: below the archive's DICOMweb root, ``studies/...``, made of parsed values: letters, digits, dots,
  commas and slashes only. ``query``: viewport, window and quality.

The whole address is the cache's key, and it holds nothing of the caller: every caller was authorised for
the study before. In the internal location nginx must set Accept, Accept-Encoding ``identity``, the archive's
Authorization, Forwarded, X-Forwarded-Host and X-Forwarded-Proto by itself, pass none of the client's headers
and body on, hide the archive's Cache-Control, Set-Cookie and Server, and add the headers of
`gateway.answers.SAFE_HEADERS`, which it does not take over from this answer.

Of what the archive then refuses (400, 406, 415) or fails at (500), nginx may ask here again, for the client's
own address and with ``X-Accel-Refused: 1``: the answer is the next form that the client accepts, or says why
there is none.

Metadata goes this way only when the study is settled: before that the archive may serve metadata from before
the last store, which then would be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.paths import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from gateway.access.studies import OpenStudy
    from gateway.media import Representation

_BULKY = frozenset({Kind.RETRIEVE, Kind.FRAMES, Kind.BULK, Kind.RENDERED, Kind.THUMBNAIL})


def can_hand_over(kind: Kind, study: OpenStudy, representation: Representation) -> bool:
    """Whether nginx can answer this as it comes from the archive, and may keep it."""
    if study.owner is None or representation.unwrap_as:
        return False
    return kind in _BULKY or (kind is Kind.METADATA and study.settled)


class HandOver:
    """The answer that nginx replaces. It bears no Content-Type: nginx would keep it.

    Werkzeug's own response costs a quarter of what an authorised frame costs here (measured).
    """

    status_code = 200

    def __init__(self, location: str) -> None:
        self.headers = {"X-Accel-Redirect": location, "Content-Length": "0"}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer by WSGI."""
        del environ
        start_response("200 OK", list(self.headers.items()))
        return ()


def hand_over(
    prefix: str, study: OpenStudy, representation: Representation, path: str, query: str
) -> HandOver:
    """See the module's docstring."""
    location = f"{prefix}/{study.revision}/{representation.key}{path}"
    return HandOver(f"{location}?{query}" if query else location)
