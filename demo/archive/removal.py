"""Removing studies, by a DELETE as other archives have it, too; DICOMweb itself has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response

from demo.archive.errors import RequestError

if TYPE_CHECKING:
    from demo.archive.storage import Storage
    from pacs.ids import Uid


def removal_blueprint(storage: Storage) -> Blueprint:
    """The one resource."""
    blueprint = Blueprint("removal", __name__)

    @blueprint.delete("/studies/<uid:study>")
    def remove(study: Uid) -> Response:
        if not storage.remove(study):
            raise RequestError(404, "no such study")
        return Response(status=204)

    return blueprint
