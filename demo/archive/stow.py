"""STOW-RS: store instances (PS3.18 section 10.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from demo.archive.answers import dicom_json, element, instance_url, sequence, study_url
from demo.archive.errors import RequestError, StorageFullError, UnreadableInstanceError
from demo.archive.media import parse_media_type
from demo.archive.multipart import MultipartReader

if TYPE_CHECKING:
    from demo.archive.index import InstanceEntry
    from demo.archive.storage import ReceivedFile, Storage
    from pacs.ids import Uid

PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
_MAX_PARTS = 10_000


@dataclass
class _Outcome:
    """What became of the parts of a request; an unreadable one has no UIDs that could be listed."""

    received: list[ReceivedFile] = field(default_factory=list)
    stored: list[InstanceEntry] = field(default_factory=list)
    failed: list[tuple[InstanceEntry, int]] = field(default_factory=list)
    unreadable: int = 0
    nameless_out_of_room: bool = False

    def out_of_room(self, entry: InstanceEntry | None) -> None:
        """Note an instance that found no room, by its UIDs if they arrived."""
        if entry is None:
            self.nameless_out_of_room = True
        else:
            self.failed.append((entry, OUT_OF_RESOURCES))


def stow_blueprint(storage: Storage) -> Blueprint:
    """The store transaction, with and without the study in its URL."""
    blueprint = Blueprint("stow", __name__)

    @blueprint.post("/studies")
    @blueprint.post("/studies/<uid:study>")
    def store(study: Uid | None = None) -> Response:
        reader = MultipartReader(request.stream, _boundary())
        outcome = _Outcome()
        try:
            _receive(storage, reader, outcome, study)
            _commit(storage, outcome)
        finally:
            storage.discard(outcome.received)
        return _answer(outcome)

    return blueprint


def _boundary() -> str:
    media_type, options = parse_media_type(request.headers.get("Content-Type", ""))
    if media_type != "multipart/related" or options.get("type", "application/dicom") != "application/dicom":
        raise RequestError(415, 'only multipart/related; type="application/dicom" is stored')
    return options.get("boundary", "")


def _receive(storage: Storage, reader: MultipartReader, outcome: _Outcome, study: Uid | None) -> None:
    for number, (headers, chunks) in enumerate(reader.parts(), 1):
        if number > _MAX_PARTS:
            raise RequestError(413, f"at most {_MAX_PARTS} parts are taken in one request")
        if headers.get("Content-Type") is not None and headers.get_content_type() != "application/dicom":
            outcome.unreadable += 1
            continue
        try:
            file = storage.receive(chunks)
        except UnreadableInstanceError:
            outcome.unreadable += 1
        except StorageFullError as error:
            outcome.out_of_room(error.entry)
        else:
            if study is None or file.entry.key.study == study:
                outcome.received.append(file)
            else:
                storage.discard([file])
                outcome.failed.append((file.entry, PROCESSING_FAILURE))


def _commit(storage: Storage, outcome: _Outcome) -> None:
    try:
        storage.commit(outcome.received)
    except StorageFullError:
        for file in outcome.received:
            outcome.out_of_room(file.entry)
    else:
        outcome.stored = [file.entry for file in outcome.received]


def _answer(outcome: _Outcome) -> Response:
    """The Store Instances Response (PS3.18 table 10.5.3-1 and annex I.2)."""
    if outcome.nameless_out_of_room:
        raise RequestError(507, "no room is left, and the data set names no instance to say so of")
    content: dict[str, Any] = {
        "00081198": sequence([_reference(entry, reason) for entry, reason in outcome.failed]),
        "00081199": sequence([_reference(entry) for entry in outcome.stored]),
    }
    studies = {entry.key.study for entry in outcome.stored}
    if len(studies) == 1:
        content["00081190"] = element("UR", study_url(studies.pop()))
    return dicom_json(content, _status(outcome))


def _status(outcome: _Outcome) -> int:
    if outcome.stored:
        return 202 if outcome.failed or outcome.unreadable else 200
    if outcome.failed:
        return 409
    return 400 if outcome.unreadable else 200


def _reference(entry: InstanceEntry, failure: int | None = None) -> dict[str, Any]:
    reference = {
        "00081150": element("UI", entry.sop_class),
        "00081155": element("UI", entry.key.sop),
    }
    if failure is None:
        return reference | {"00081190": element("UR", instance_url(entry.key))}
    return reference | {"00081197": element("US", failure)}
