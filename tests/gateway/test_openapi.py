"""The description at /dicom-web/openapi.json, and requests made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.openapi import PATH, description
from gateway.paths import Kind, parse
from support.gateway import MINE

if TYPE_CHECKING:
    from support.gateway import World

IN_PLACE = {
    "study": str(MINE.study),
    "series": str(MINE.series()),
    "instance": str(MINE.instance()),
    "frames": "1",
    "bulk": "7fe00010",
}
SCHEMA = schemathesis.openapi.from_dict(description())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def test_it_is_published_without_a_token(still_world: World) -> None:
    answer = still_world.get(PATH.removeprefix("/dicom-web"), token="")
    assert answer.status_code == 200
    assert answer.get_json() == description()


def test_it_names_every_resource_and_no_other() -> None:
    kinds = {
        parse(path.removeprefix("/dicom-web/").format(**IN_PLACE)).kind for path in description()["paths"]
    }
    assert kinds == set(Kind)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_requests_made_from_it_never_fail_and_answer_as_it_says(operation: Any, still_world: World) -> None:
    """With UIDs of the samples now and then, so that some of them reach the archive."""
    told = operation.definition.raw["responses"]

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(), known=st.booleans())
    def ask(case: schemathesis.Case, known: bool) -> None:  # noqa: FBT001
        if known:
            case.path_parameters = {name: IN_PLACE[name] for name in case.path_parameters or {}}
        query = urlencode(case.query or {}, doseq=True)
        answer = still_world.get(f"{case.formatted_path.removeprefix('/dicom-web')}?{query}")
        assert str(answer.status_code) in told
        assert answer.status_code < 500
        content = told["200"]["content"] if answer.status_code == 200 else {"application/problem+json"}
        assert answer.mimetype in content

    ask()
