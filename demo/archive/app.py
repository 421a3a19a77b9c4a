"""The archive as a WSGI application."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, ValidationError

from demo.archive.answers import problem
from demo.archive.errors import RequestError, UnreadableInstanceError
from demo.archive.pictures import pictures_blueprint
from demo.archive.qido import qido_blueprint
from demo.archive.removal import removal_blueprint
from demo.archive.storage import Storage
from demo.archive.stow import stow_blueprint
from demo.archive.wado import wado_blueprint
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "/dicom-web"


class _UidConverter(BaseConverter):
    """A path segment that is a UID; a path with another one does not exist."""

    regex = "[0-9.]{1,64}"

    def to_python(self, value: str) -> Uid:
        try:
            return Uid(value)
        except InvalidUidError as error:
            raise ValidationError from error


def create_archive(
    root: Path,
    *,
    username: str = "",
    password: str = "",
    max_bytes: int | None = None,
    reindex: bool = False,
) -> Flask:
    """The archive that serves a folder, its index rebuilt where that is needed.

    Only one process may serve a folder at a time: see ``storage.lock``.

    Args:
        root: where files and index lie; made when it is missing.
        username: for HTTP basic authentication.
        password: likewise; empty lets everybody in.
        max_bytes: refuse to store more than this.
        reindex: rebuild the index even if it looks good.
    """
    storage = Storage(root, max_bytes=max_bytes)
    storage.prepare(reindex=reindex)
    app = Flask(__name__, static_folder=None)
    app.url_map.converters["uid"] = _UidConverter
    app.extensions["storage"] = storage
    _require_login(app, username, password)
    blueprints = (stow_blueprint, qido_blueprint, wado_blueprint, pictures_blueprint, removal_blueprint)
    for blueprint in blueprints:
        app.register_blueprint(blueprint(storage), url_prefix=_PREFIX)
    app.add_url_rule("/system", view_func=_system)
    _answer_errors(app)
    return app


def _system() -> Response:
    """What a client has to know of this archive, under the keys that Orthanc uses."""
    return jsonify(ApiVersion=0, Name="clinicpacs demo archive", OverwriteInstances=True, Version="demo")


def _require_login(app: Flask, username: str, password: str) -> None:
    if not password:
        return
    expected = (username.encode(), password.encode())

    @app.before_request
    def check() -> Response | None:
        login = request.authorization
        given = ((login.username or "").encode(), (login.password or "").encode()) if login else (b"", b"")
        # Both are compared in any case, so that the time tells nothing of either.
        if all([hmac.compare_digest(a, b) for a, b in zip(given, expected, strict=True)]):  # noqa: C419
            return None
        answer = problem(401, "Unauthorized", "the archive asks for a user name and a password")
        answer.headers["WWW-Authenticate"] = 'Basic realm="archive"'
        return answer


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Response:
        return problem(error.status, "The request cannot be answered", error.detail)

    @app.errorhandler(UnreadableInstanceError)
    def unreadable(error: UnreadableInstanceError) -> Response:
        # It was stored as it came; what is asked for cannot be made of it.
        return problem(406, "Not Acceptable", str(error))

    @app.errorhandler(HTTPException)
    def of_http(error: HTTPException) -> Response:
        answer = problem(error.code or 500, error.name, error.description or "")
        answer.headers.extend(
            (name, value) for name, value in error.get_headers() if name in {"Allow", "Location"}
        )
        return answer

    @app.errorhandler(OperationalError)
    def index_unavailable(_: OperationalError) -> Response:
        return problem(503, "Service Unavailable", "the index cannot be read or written now")

    @app.after_request
    def harden(answer: Response) -> Response:
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer
