"""Rendered frames and thumbnails over HTTP (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from demo.archive.accept import choose
from demo.archive.errors import RequestError
from demo.archive.part10 import open_instance
from demo.archive.rendering import MEDIA_TYPES, parse_rendering, render
from demo.archive.wado import INSTANCE, SERIES, STUDY, find_instances, parse_frame_list

if TYPE_CHECKING:
    from demo.archive.index import InstanceKey
    from demo.archive.storage import Storage
    from pacs.ids import Uid

_THUMBNAIL = (256, 256)


def pictures_blueprint(storage: Storage) -> Blueprint:
    """``rendered`` of an instance or frame, ``thumbnail`` of anything."""
    blueprint = Blueprint("pictures", __name__)

    @blueprint.get(INSTANCE + "/rendered")
    @blueprint.get(INSTANCE + "/frames/<frames>/rendered")
    def rendered(study: Uid, series: Uid, sop: Uid, frames: str = "1") -> Response:
        return _picture(storage, find_instances(storage, study, series, sop), frames)

    @blueprint.get(STUDY + "/thumbnail")
    @blueprint.get(SERIES + "/thumbnail")
    @blueprint.get(INSTANCE + "/thumbnail")
    @blueprint.get(INSTANCE + "/frames/<frames>/thumbnail")
    def thumbnail(
        study: Uid, series: Uid | None = None, sop: Uid | None = None, frames: str = "1"
    ) -> Response:
        return _picture(storage, find_instances(storage, study, series, sop), frames, _THUMBNAIL)

    return blueprint


def _picture(
    storage: Storage, keys: list[InstanceKey], frames: str, size: tuple[int, int] | None = None
) -> Response:
    numbers = parse_frame_list(frames)
    if len(numbers) > 1:
        raise RequestError(406, "one frame is rendered at a time")
    _, media_type = choose([(each, "") for each in MEDIA_TYPES], single=True)
    rendering = parse_rendering(request.args, media_type, size)
    # The middle of a series shows more of it than its first slice does.
    with open_instance(storage.path(keys[len(keys) // 2])) as opened:
        return Response(render(opened, numbers[0], rendering), content_type=media_type)
