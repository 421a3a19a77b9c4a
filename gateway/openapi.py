"""What the gateway serves below /dicom-web, as an OpenAPI description (version 3.1).

It is published without a token: it says nothing but what stands in PS3.18 and in the documentation.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydicom.datadict import dictionary_VR
from werkzeug import Response

from gateway.media import ACCEPT_MAX, DICOM, DICOM_JSON, JPEG, MULTIPART, OCTETS, PDF, PIXEL_TYPES, PNG
from gateway.paths import FRAMES_MAX
from gateway.problems import PROBLEM_JSON
from gateway.qido.parameters import SWITCHES, name_of
from gateway.qido.relay import MATCHED
from gateway.qido.studies import STUDY_INSTANCE_UID, SUPPORTED
from gateway.rendering import SIDE_MAX
from pacs import __version__

PATH = "/dicom-web/openapi.json"

_STUDY = "/dicom-web/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_FRAMES = f"{_INSTANCE}/frames/{{frames}}"
_FRAME = f"{_INSTANCE}/frames/{{frame}}"

_UID = "[0-9]+([.][0-9]+)*"
_NUMBER = "[1-9][0-9]{0,6}"
_SIDE = "[1-9][0-9]{0,3}"
_TIME = "([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9]([.][0-9]{1,6})?)?)?"
_IN_PATH: dict[str, dict[str, Any]] = {
    "study": {"description": "Study Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "series": {"description": "Series Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "instance": {"description": "SOP Instance UID", "schema": {"$ref": "#/components/schemas/uid"}},
    "frames": {
        "description": f"Up to {FRAMES_MAX} different frame numbers from 1, separated by commas",
        "schema": {"type": "string", "pattern": f"^{_NUMBER}(,{_NUMBER})*$"},
    },
    "frame": {
        "description": "A frame number from 1",
        "schema": {"type": "string", "pattern": f"^{_NUMBER}$"},
    },
    "bulk": {
        "description": "A tag, or tags and item numbers down to one within sequences; slashes as they are",
        "schema": {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(/[1-9][0-9]{0,5}/[0-9A-Fa-f]{8}){0,16}$"},
    },
}


def _range(one: str) -> str:
    return f"^({one}(-({one})?)?|-{one})?$"


# A value of another VR is text, wild cards and all.
_OF_VALUES: dict[str, dict[str, Any]] = {
    "UI": {"type": "string", "pattern": f"^({_UID}(,{_UID})*)?$", "description": "UIDs, separated by commas"},
    "DA": {"type": "string", "pattern": _range("[0-9]{8}"), "description": "YYYYMMDD, or a range of them"},
    "TM": {"type": "string", "pattern": _range(_TIME), "description": "HHMMSS, or a range of them"},
}
_TEXT = {"type": "string", "maxLength": 2048, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}
_OF_SEARCHES: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "offset": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "includefield": {"type": "string", "description": "Tags or keywords, separated by commas, or all"},
    **{each: {"type": "boolean"} for each in sorted(SWITCHES)},
}
_OF_THUMBNAILS: dict[str, dict[str, Any]] = {
    "viewport": {
        "type": "string",
        "pattern": f"^{_SIDE},{_SIDE}$",
        "description": f"WIDTH,HEIGHT, each up to {SIDE_MAX}",
    },
}
_OF_PICTURES: dict[str, dict[str, Any]] = _OF_THUMBNAILS | {
    "window": {"type": "string", "description": "CENTRE,WIDTH,FUNCTION: linear, linear-exact or sigmoid"},
    "quality": {"type": "integer", "minimum": 1, "maximum": 100},
}


class _Forms(NamedTuple):
    """Media types of an answer, and what one may accept to get it."""

    media: tuple[str, ...]
    accepted: tuple[str, ...]


_JSON = _Forms((DICOM_JSON,), (DICOM_JSON, "application/json", "*/*"))
_PICTURE = _Forms((JPEG, PNG), (JPEG, PNG, "image/*"))
_STORED = f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*'
_FILES = _Forms((MULTIPART,), (_STORED, f'{MULTIPART}; type="{DICOM}"', "*/*"))
_FILE = _Forms((MULTIPART, DICOM), (_STORED, DICOM))
_PIXELS = _Forms(
    (MULTIPART, *sorted(PIXEL_TYPES)),
    (f'{MULTIPART}; type="{OCTETS}"; transfer-syntax=*', f'{MULTIPART}; type="{JPEG}"', *sorted(PIXEL_TYPES)),
)
_VALUE = _Forms((MULTIPART, OCTETS, PDF), (f'{MULTIPART}; type="{OCTETS}"', OCTETS, PDF))


class _Resource(NamedTuple):
    path: str
    summary: str
    forms: _Forms
    query: dict[str, dict[str, Any]]
    needs: str = ""


def _searched(*attributes: str) -> dict[str, dict[str, Any]]:
    found = {name_of(each): _OF_VALUES.get(dictionary_VR(int(each, 16)), _TEXT) for each in attributes}
    return _OF_SEARCHES | dict(sorted(found.items()))


def _resources() -> list[_Resource]:
    within, of_any = _searched(*MATCHED), _searched(STUDY_INSTANCE_UID, *MATCHED)
    of_named, uid = "of the study that the query names", name_of(STUDY_INSTANCE_UID)
    found = [
        _Resource("/dicom-web/studies", "Search for studies", _JSON, _searched(*SUPPORTED)),
        _Resource("/dicom-web/series", f"Search for series {of_named}", _JSON, of_any, uid),
        _Resource("/dicom-web/instances", f"Search for instances {of_named}", _JSON, of_any, uid),
        _Resource(f"{_STUDY}/series", "Search for series of a study", _JSON, within),
        _Resource(f"{_STUDY}/instances", "Search for instances of a study", _JSON, within),
        _Resource(f"{_SERIES}/instances", "Search for instances of a series", _JSON, within),
        _Resource(_STUDY, "Retrieve a study", _FILES, {}),
        _Resource(_SERIES, "Retrieve a series", _FILES, {}),
        _Resource(_INSTANCE, "Retrieve an instance", _FILE, {}),
        _Resource(_FRAMES, "Retrieve frames", _PIXELS, {}),
        _Resource(f"{_INSTANCE}/bulk/{{bulk}}", "Retrieve a bulk value", _VALUE, {}),
    ]  # fmt: skip
    for level, name in (
        (_STUDY, "a study"), (_SERIES, "a series"), (_INSTANCE, "an instance"), (_FRAME, "a frame"),
    ):  # fmt: skip
        if level != _FRAME:
            found.append(_Resource(f"{level}/metadata", f"Retrieve the metadata of {name}", _JSON, {}))
        found.append(_Resource(f"{level}/rendered", f"A picture of {name}", _PICTURE, _OF_PICTURES))
        found.append(_Resource(f"{level}/thumbnail", f"A small picture of {name}", _PICTURE, _OF_THUMBNAILS))
    return found


def _operation(resource: _Resource) -> dict[str, Any]:
    named = [each.partition("}")[0] for each in resource.path.split("{")[1:]]
    accept = {"type": "string", "maxLength": ACCEPT_MAX, "examples": list(resource.forms.accepted)}
    problem = {"$ref": "#/components/responses/problem"}
    return {
        "summary": resource.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **_IN_PATH[name]} for name in named),
            *(
                {"name": name, "in": "query", "required": name == resource.needs, "schema": schema}
                for name, schema in resource.query.items()
            ),
            # By PS3.18 section 8.3.3.1 the query goes before the header.
            {"name": "accept", "in": "query", "schema": accept},
            {"name": "Accept", "in": "header", "schema": accept},
        ],
        "responses": {
            "200": {
                "description": "What was asked for",
                "content": {each: {} for each in resource.forms.media},
            },
            **dict.fromkeys(("400", "401", "403", "404", "406", "414", "429", "502", "503"), problem),
        },
    }


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
        "paths": {each.path: {"get": _operation(each)} for each in _resources()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {
                "uid": {"type": "string", "maxLength": 64, "pattern": f"^{_UID}$"},
                "problem": problem,
            },
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
