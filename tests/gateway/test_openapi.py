"""The description at /dicom-web/openapi.json, and requests made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from schemathesis import GenerationMode

from gateway.openapi import PATH, description
from gateway.paths import Kind, parse
from support import described
from support.gateway import CLIP, DOCUMENT, MINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.gateway import Sample, World


def place(sample: Sample) -> dict[str, str]:
    return {
        "study": str(sample.study),
        "series": str(sample.series()),
        "instance": str(sample.instance()),
        "frames": "1",
        "frame": "1",
        "bulk": "00420011" if sample is DOCUMENT else "7fe00010",
        "StudyInstanceUID": str(sample.study),
    }


KNOWN = [place(each) for each in (MINE, CLIP, DOCUMENT)]
OPERATIONS = described.operations(description())
of_each = pytest.mark.parametrize("operation", OPERATIONS, ids=described.name)


def test_it_is_published_without_a_token(still_world: World) -> None:
    answer = still_world.get(PATH.removeprefix("/dicom-web"), token="")
    assert answer.status_code == 200
    assert answer.get_json() == description()


def test_it_names_every_resource_and_no_other() -> None:
    kinds = {
        parse(path.removeprefix("/dicom-web/").format(**place(MINE))).kind for path in description()["paths"]
    }
    assert kinds == set(Kind)


def checked(operation: Any, world: World) -> Callable[[described.Asked], None]:
    def check(asked: described.Asked) -> None:
        headers = {} if asked.accept is None else {"Accept": asked.accept}
        answer = world.get(asked.target.removeprefix("/dicom-web"), method=asked.method, **headers)
        described.check(operation, answer.status_code, answer.headers["Content-Type"])

    return check


@of_each
def test_requests_made_from_it_are_answered_as_it_says(operation: Any, still_world: World) -> None:
    made = described.requests(operation, KNOWN, [GenerationMode.POSITIVE])
    described.thorough(4)(given(made)(checked(operation, still_world)))()


@pytest.mark.long
@of_each
def test_and_so_are_requests_against_it_by_the_hundred(operation: Any, still_world: World) -> None:
    check = checked(operation, still_world)
    for asked in described.offered(operation, KNOWN):
        check(asked)
    described.thorough(100)(given(described.requests(operation, KNOWN))(check))()
