"""Requests made from the published description of the gateway, and what it says of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from requests import Request
from schemathesis import GenerationMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemathesis import APIOperation, Case

BOTH = tuple(GenerationMode)
"""As the description has it, and against it."""
_ROOT = "http://described"


@dataclass(frozen=True)
class Asked:
    """One request; `target` is its path and query as they go over the wire."""

    method: str
    target: str
    accept: str | None


def operations(document: dict[str, Any]) -> list[APIOperation[Any, Any, Any]]:
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def name(operation: APIOperation[Any, Any, Any]) -> str:
    return str(operation.definition.raw["summary"]).replace(" ", "-")


def thorough(examples: int) -> settings:
    """Without shrinking: over a network that takes minutes, and a request is read as it is."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=(Phase.generate,),
    )


@st.composite
def requests(
    draw: st.DrawFn,
    operation: APIOperation[Any, Any, Any],
    known: Sequence[Mapping[str, str]],
    modes: Sequence[GenerationMode] = BOTH,
) -> Asked:
    """Half of them at the address of something that is `known`, so that they reach the archive."""
    case = draw(st.sampled_from(modes).flatmap(operation.as_strategy))
    if draw(st.booleans()):
        _put(case, draw(st.sampled_from(known)))
    return _as_sent(case, draw(st.sampled_from(("GET", "GET", "GET", "HEAD"))))


def offered(operation: APIOperation[Any, Any, Any], known: Sequence[Mapping[str, str]]) -> Iterator[Asked]:
    """Each of the forms that it offers, of each of them."""
    accept = next(each for each in operation.headers if each.name == "Accept")
    for place in known:
        for form in accept.definition["schema"]["examples"]:
            case = operation.Case(headers={"Accept": form})
            _put(case, place)
            yield _as_sent(case, "GET")


def _put(case: Case, place: Mapping[str, str]) -> None:
    needed = {each.name for each in case.operation.query if each.is_required}
    case.path_parameters = {each.name: place[each.name] for each in case.operation.path_parameters}
    case.query = (case.query or {}) | {name: place[name] for name in needed}


def _as_sent(case: Case, method: str) -> Asked:
    given = case.as_transport_kwargs(base_url=_ROOT)
    prepared = Request(method, given["url"], params=given.get("params")).prepare()
    return Asked(method, str(prepared.url).removeprefix(_ROOT), (case.headers or {}).get("Accept"))


def check(operation: APIOperation[Any, Any, Any], status: int, content_type: str) -> None:
    """The operation is said to have such an answer."""
    told = operation.definition.raw["responses"]
    assert status < 500
    assert str(status) in told, status
    content = told["200"]["content"] if status == 200 else {"application/problem+json"}
    assert content_type.partition(";")[0] in content, (status, content_type)
