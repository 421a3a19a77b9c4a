"""What the gateway serves below /dicom-web, as an OpenAPI description (version 3.1).

It is published without a token: it says nothing but what stands in PS3.18 and in the documentation.
"""

from __future__ import annotations

import json
from typing import Any

from werkzeug import Response

from gateway.media import DICOM, DICOM_JSON, JPEG, MULTIPART, OCTETS, PDF, PNG
from gateway.problems import PROBLEM_JSON
from gateway.qido.parameters import name_of
from gateway.qido.relay import MATCHED
from gateway.qido.studies import STUDY_INSTANCE_UID, SUPPORTED
from gateway.rendering import SIDE_MAX
from pacs import __version__

PATH = "/dicom-web/openapi.json"

_STUDY = "/dicom-web/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_FRAMES = f"{_INSTANCE}/frames/{{frames}}"

_IN_PATH: dict[str, dict[str, Any]] = {
    "study": {"description": "Study Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "series": {"description": "Series Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "instance": {"description": "SOP Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "frames": {
        "description": "Frame numbers from 1, separated by commas; one where it is rendered",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*$"},
    },
    "bulk": {
        "description": "A tag, or tags and item numbers down to one within sequences",
        "schema": {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(/[1-9][0-9]{0,5}/[0-9A-Fa-f]{8})*$"},
    },
}
_TEXT = {"type": "string", "maxLength": 2048}
_OF_SEARCHES: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "offset": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "includefield": {"type": "string", "description": "Tags or keywords, separated by commas, or all"},
    "fuzzymatching": {"type": "boolean"},
}
_SIDE = "[1-9][0-9]{0,3}"
_OF_PICTURES: dict[str, dict[str, Any]] = {
    "viewport": {
        "type": "string",
        "pattern": f"^{_SIDE},{_SIDE}$",
        "description": f"WIDTH,HEIGHT, each up to {SIDE_MAX}",
    },
    "window": {"type": "string", "description": "CENTRE,WIDTH,FUNCTION: linear, linear-exact or sigmoid"},
    "quality": {"type": "integer", "minimum": 1, "maximum": 100},
}


def _searched(*attributes: str) -> dict[str, dict[str, Any]]:
    return _OF_SEARCHES | dict.fromkeys(sorted(name_of(each) for each in attributes), _TEXT)


def _operation(
    path: str, summary: str, media: tuple[str, ...], query: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    named = [each.partition("}")[0] for each in path.split("{")[1:]]
    problem = {"$ref": "#/components/responses/problem"}
    return {
        "summary": summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **_IN_PATH[name]} for name in named),
            *({"name": name, "in": "query", "schema": schema} for name, schema in query.items()),
        ],
        "responses": {
            "200": {"description": "What was asked for", "content": {each: {} for each in media}},
            **dict.fromkeys(("400", "401", "403", "404", "406", "414", "429", "502", "503"), problem),
        },
    }


def _paths() -> dict[str, Any]:
    json_only, pictures = (DICOM_JSON,), (JPEG, PNG)
    instances, frames = (MULTIPART, DICOM), (MULTIPART, OCTETS)
    within, of_any = _searched(*MATCHED), _searched(STUDY_INSTANCE_UID, *MATCHED)
    table: list[tuple[str, str, tuple[str, ...], dict[str, dict[str, Any]]]] = [
        ("/dicom-web/studies", "Search for studies", json_only, _searched(*SUPPORTED)),
        ("/dicom-web/series", "Search for series of the study that the query names", json_only, of_any),
        ("/dicom-web/instances", "Search for instances of the study that the query names", json_only, of_any),
        (f"{_STUDY}/series", "Search for series of a study", json_only, within),
        (f"{_STUDY}/instances", "Search for instances of a study", json_only, within),
        (f"{_SERIES}/instances", "Search for instances of a series", json_only, within),
        (_STUDY, "Retrieve a study", (MULTIPART,), {}),
        (_SERIES, "Retrieve a series", (MULTIPART,), {}),
        (_INSTANCE, "Retrieve an instance", instances, {}),
        (_FRAMES, "Retrieve frames", frames, {}),
        (f"{_INSTANCE}/bulk/{{bulk}}", "Retrieve a bulk value", (MULTIPART, OCTETS, PDF), {}),
    ]  # fmt: skip
    for level, name in ((_STUDY, "a study"), (_SERIES, "a series"), (_INSTANCE, "an instance")):
        table.append((f"{level}/metadata", f"Retrieve the metadata of {name}", json_only, {}))
    for level, name in (
        (_STUDY, "a study"), (_SERIES, "a series"), (_INSTANCE, "an instance"), (_FRAMES, "a frame"),
    ):  # fmt: skip
        table.append((f"{level}/rendered", f"A picture of {name}", pictures, _OF_PICTURES))
        table.append((f"{level}/thumbnail", f"A small picture of {name}", pictures, {}))
    return {path: {"get": _operation(path, summary, media, query)} for path, summary, media, query in table}


def description() -> dict[str, Any]:
    """The whole of it."""
    problem = {
        "type": "object",
        "required": ["status", "title", "detail"],
        "properties": {
            "status": {"type": "integer"},
            "title": {"type": "string"},
            "detail": {"type": "string"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clinicpacs DICOMweb",
            "version": __version__,
            "description": "QIDO-RS and WADO-RS (DICOM PS3.18) of the studies of the caller's clinics.",
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {"uid": {"type": "string", "pattern": "^[0-9.]{1,64}$"}, "problem": problem},
            "responses": {
                "problem": {
                    "description": "Why not (RFC 9457)",
                    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/problem"}}},
                }
            },
        },
    }


_DOCUMENT = json.dumps(description(), separators=(",", ":")).encode()


def serve() -> Response:
    """The answer at `PATH`."""
    return Response(_DOCUMENT, content_type="application/json")
