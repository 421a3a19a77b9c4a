"""WADO-RS: retrieve instances, metadata, frames and bulk values (PS3.18 section 10.4).

Everything is sent in the transfer syntax it is stored in; nothing is transcoded.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Blueprint, Response
from pydicom.filereader import read_file_meta_info

from demo.archive.accept import ANYTHING, DICOM, OCTETS, choose
from demo.archive.answers import DICOM_JSON, accepts_json, instance_url
from demo.archive.bulk import bulk_parts
from demo.archive.errors import RequestError
from demo.archive.index import InstanceKey
from demo.archive.json_model import json_dataset
from demo.archive.multipart import new_boundary, write_parts
from demo.archive.part10 import OpenInstance, open_instance
from demo.archive.pixels import PixelData, media_type_of, read_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from demo.archive.storage import Storage
    from pacs.ids import Uid

STUDY = "/studies/<uid:study>"
SERIES = STUDY + "/series/<uid:series>"
INSTANCE = SERIES + "/instances/<uid:sop>"
_FRAME_LIST = re.compile(r"[1-9][0-9]{0,6}(,[1-9][0-9]{0,6}){0,9999}")
_PDF = "application/pdf"
_ENCAPSULATED_DOCUMENT = "00420011"


def wado_blueprint(storage: Storage) -> Blueprint:
    """The retrieve resources but for pictures."""
    blueprint = Blueprint("wado", __name__)

    @blueprint.get(STUDY)
    @blueprint.get(SERIES)
    @blueprint.get(INSTANCE)
    def instances(study: Uid, series: Uid | None = None, sop: Uid | None = None) -> Response:
        keys = find_instances(storage, study, series, sop)
        return _instances([storage.path(key) for key in keys], single=sop is not None)

    @blueprint.get(STUDY + "/metadata")
    @blueprint.get(SERIES + "/metadata")
    @blueprint.get(INSTANCE + "/metadata")
    def metadata(study: Uid, series: Uid | None = None, sop: Uid | None = None) -> Response:
        if not accepts_json():
            raise RequestError(406, "metadata is answered in application/dicom+json only")
        return _metadata(storage, find_instances(storage, study, series, sop))

    @blueprint.get(INSTANCE + "/frames/<frames>")
    def frames(study: Uid, series: Uid, sop: Uid, frames: str) -> Response:
        numbers = parse_frame_list(frames)
        path = storage.path(InstanceKey(study, series, sop))
        return _of_open_instance(path, lambda opened: _frames(opened, numbers))

    @blueprint.get(INSTANCE + "/bulk/<path:tags>")
    def bulk(study: Uid, series: Uid, sop: Uid, tags: str) -> Response:
        path = storage.path(InstanceKey(study, series, sop))
        return _of_open_instance(path, lambda opened: _bulk(opened, tags))

    return blueprint


def find_instances(
    storage: Storage, study: Uid, series: Uid | None = None, sop: Uid | None = None
) -> list[InstanceKey]:
    """The instances that a URL names, in the order they were first stored.

    Raises:
        RequestError: 404 when there is none.
    """
    keys = storage.index.instance_keys(study, series, sop)
    if not keys:
        raise RequestError(404, "no such study, series or instance")
    return keys


def parse_frame_list(text: str) -> list[int]:
    """Frame numbers of a URL.

    Raises:
        RequestError: 400 when they are none.
    """
    if not _FRAME_LIST.fullmatch(text):
        raise RequestError(400, "frame numbers are whole numbers from 1, separated by commas")
    return [int(number) for number in text.split(",")]


def _multipart(media_type: str, parts: Iterable[tuple[str, Iterable[bytes]]]) -> Response:
    boundary = new_boundary()
    content_type = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return Response(write_parts(boundary, parts), content_type=content_type)


def _instances(paths: list[Path], *, single: bool) -> Response:
    chosen, _ = choose([(DICOM, _common_transfer_syntax(paths))], single=single)
    if single and not chosen.is_multipart:
        return Response(_file(paths[0]), content_type=DICOM)
    return _multipart(DICOM, ((DICOM, _file(path)) for path in paths))


def _common_transfer_syntax(paths: list[Path]) -> str:
    syntaxes = {str(read_file_meta_info(path).TransferSyntaxUID) for path in paths}
    return syntaxes.pop() if len(syntaxes) == 1 else ""


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        # Not the path's size: another version may stand there by now.
        yield from read_range(file, 0, os.fstat(file.fileno()).st_size)


def _metadata(storage: Storage, keys: list[InstanceKey]) -> Response:
    # URLs depend on the request, which is gone when the body is made.
    urls = [f"{instance_url(key)}/bulk" for key in keys]

    def body() -> Iterator[str]:
        for number, (key, url) in enumerate(zip(keys, urls, strict=True)):
            with open_instance(storage.path(key)) as opened:
                dataset = json_dataset(opened.dataset, url)
            yield ("," if number else "[") + json.dumps(dataset, ensure_ascii=False, separators=(",", ":"))
        yield "]"

    return Response(body(), content_type=DICOM_JSON)


def _of_open_instance(path: Path, answer: Callable[[OpenInstance], Response]) -> Response:
    """An answer whose body is read from an open file, which is closed after the last byte."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_instance(path))
        except FileNotFoundError:
            raise RequestError(404, "no such instance") from None
        response = answer(opened)
        response.call_on_close(stack.pop_all().close)
    return response


def _frames(opened: OpenInstance, numbers: list[int]) -> Response:
    pixels = PixelData(opened)
    native = media_type_of(pixels.transfer_syntax)
    offers = [(native, pixels.transfer_syntax), (OCTETS, pixels.transfer_syntax)]
    chosen, media_type = choose(offers, single=len(numbers) == 1)
    frames = pixels.frames(numbers)
    content_type = f"{media_type}; transfer-syntax={pixels.transfer_syntax}"
    if not chosen.is_multipart:
        return Response(frames[0], content_type=content_type)
    return _multipart(media_type, ((content_type, frame) for frame in frames))


def _bulk(opened: OpenInstance, tags: str) -> Response:
    parts = bulk_parts(opened, tags)
    offers = [(OCTETS, opened.transfer_syntax)]
    if tags == _ENCAPSULATED_DOCUMENT and opened.dataset.get("MIMETypeOfEncapsulatedDocument") == _PDF:
        # First, so that a browser that takes anything shows it.
        offers.insert(0, (_PDF, ""))
    chosen, media_type = choose(offers, single=len(parts) == 1)
    if len(parts) == 1 and (not chosen.is_multipart or chosen.media_type == ANYTHING):
        return Response(parts[0], content_type=media_type)
    return _multipart(media_type, ((media_type, part) for part in parts))
