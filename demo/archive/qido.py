"""QIDO-RS: search for studies, series and instances (PS3.18 section 10.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from demo.archive.answers import accepts_json, dicom_json, element, instance_url, series_url, study_url
from demo.archive.attributes import CHARACTER_SET, RETRIEVE_URL, Level
from demo.archive.errors import RequestError, UnreadableInstanceError
from demo.archive.json_model import json_element
from demo.archive.part10 import read_header
from demo.archive.query import Query, parse_query
from demo.archive.search import Found, search

if TYPE_CHECKING:
    from demo.archive.json_model import JsonDataset
    from demo.archive.storage import Storage
    from pacs.ids import Uid


def qido_blueprint(storage: Storage) -> Blueprint:
    """The six search resources."""
    blueprint = Blueprint("qido", __name__)

    @blueprint.get("/studies")
    def find_studies() -> Response:
        return _answer(storage, parse_query(Level.STUDY, request.args))

    @blueprint.get("/series")
    @blueprint.get("/studies/<uid:study>/series")
    def find_series(study: Uid | None = None) -> Response:
        return _answer(storage, parse_query(Level.SERIES, request.args, study))

    @blueprint.get("/instances")
    @blueprint.get("/studies/<uid:study>/instances")
    @blueprint.get("/studies/<uid:study>/series/<uid:series>/instances")
    def find_instances(study: Uid | None = None, series: Uid | None = None) -> Response:
        return _answer(storage, parse_query(Level.INSTANCE, request.args, study, series))

    return blueprint


def _answer(storage: Storage, query: Query) -> Response:
    if not accepts_json():
        raise RequestError(406, "searches are answered in application/dicom+json only")
    answer = dicom_json([_dataset(storage, query, found) for found in search(storage.index.engine, query)])
    if request.args.get("fuzzymatching", "false").casefold() == "true":
        # The very text of PS3.18 section 8.3.4.2.
        answer.headers["Warning"] = (
            '299 archive: "The fuzzymatching parameter is not supported. '
            'Only literal matching has been performed."'
        )
    return answer


def _dataset(storage: Storage, query: Query, found: Found) -> JsonDataset:
    dataset = found.dataset() | _from_file(storage, found)
    dataset[CHARACTER_SET] = element("CS", "ISO_IR 192")
    dataset[RETRIEVE_URL] = element("UR", _url(query.level, found))
    return dict(sorted(dataset.items()))


def _from_file(storage: Storage, found: Found) -> JsonDataset:
    """Attributes that were asked for and are not indexed, from the file that speaks for the result."""
    if not found.missing:
        return {}
    tags = sorted(found.missing)
    try:
        header = read_header(storage.path(found.source), [int(tag, 16) for tag in tags])
    except (FileNotFoundError, UnreadableInstanceError):
        return {}
    read = {tag: json_element(header, int(tag, 16)) for tag in tags}
    return {tag: value for tag, value in read.items() if value is not None}


def _url(level: Level, found: Found) -> str:
    key = found.source
    if level == Level.STUDY:
        return study_url(key.study)
    return series_url(key.study, key.series) if level == Level.SERIES else instance_url(key)
