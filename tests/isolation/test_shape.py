"""Nothing about a 404 tells whether the study is another clinic's or does not exist."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event

from pacs.settings import ArchiveSettings
from support import gateway as gateways
from support.nginx_services import relay
from support.platform import LENT, MINE, NOWHERE, STRAY, THEIRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
TAILS = [
    "", "/metadata", "/series", "/instances", "/rendered", "/thumbnail", "/series/{series}",
    "/series/{series}/metadata", "/series/{series}/instances", "/series/{series}/rendered",
    "/series/{series}/instances/{instance}", "/series/{series}/instances/{instance}/metadata",
    "/series/{series}/instances/{instance}/frames/1", "/series/{series}/instances/{instance}/frames/9999",
    "/series/{series}/instances/{instance}/frames/1/rendered",
    "/series/{series}/instances/{instance}/bulk/7fe00010", "/series/2.25.1",
    "/series/2.25.1/instances/2.25.2/frames/1", "/series?Modality=US", "/series?SeriesInstanceUID=2.25.1",
    "/instances?limit=1&includefield=all",
]  # fmt: skip
MALFORMED = [
    "/series/x", "/series/{series}x/metadata", "/series/{series}/instances/*", "/rendered?viewport=99999,1",
    "/series/{series}/instances/{instance}/frames/0", "/series/{series}/instances/{instance}/frames/x",
    "/series/{series}/instances/{instance}/bulk/x", "/series?SeriesInstanceUID=x", "/nothing",
    "/series?limit=x",
    "/series?Modality=" + "x" * 65, "/instances?InstanceNumber=1*",
]  # fmt: skip
ACCEPTS = ["text/html", "x", "image/png;q=0", "application/dicom+xml", "multipart/related; type=text/html"]


def address(study: Any, tail: str) -> str:
    return f"/studies/{study.study}{tail.format(series=study.series(), instance=study.instance())}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tail", TAILS)
def test_theirs_a_stray_one_and_none_are_answered_alike(
    tail: str, method: str, any_platform: Platform
) -> None:
    platform = any_platform
    shapes = {platform.dicom(address(study, tail), method=method).shape for study in (THEIRS, STRAY, NOWHERE)}
    with platform.unshared(LENT.study):
        shapes.add(platform.dicom(address(LENT, tail), method=method).shape)
    assert len(shapes) == 1
    assert {status for status, _, _ in shapes} == {404}


@pytest.mark.parametrize("tail", MALFORMED)
def test_what_is_malformed_is_told_before_the_study_is_looked_up(tail: str, platform: Platform) -> None:
    shapes = {platform.dicom(address(study, tail)).shape for study in (MINE, THEIRS, STRAY, NOWHERE)}
    assert len(shapes) == 1


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("tail", ["", "/metadata", "/rendered", "/series"])
def test_and_so_is_a_form_that_is_not_offered(tail: str, accept: str, platform: Platform) -> None:
    shapes = {platform.dicom(address(study, tail), accept=accept).shape for study in (MINE, THEIRS, NOWHERE)}
    assert len(shapes) == 1


class Costs:
    """What one request costs: its statements, and what it asks of the archive."""

    def __init__(self, world: gateways.World, archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.archive, self.statements = world, archive, list[str]()
        asked = world.catalog._reading.ask

        def ask(question: Any, given: Any) -> Any:
            self.statements.append(question.sql)
            return asked(question, given)

        monkeypatch.setattr(world.catalog._reading, "ask", ask)

    def count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    def of(self, path: str, token: str) -> tuple[int, tuple[str, ...], int]:
        self.statements.clear()
        self.archive.asked.clear()
        status = self.world.get(path, token).status_code
        return status, tuple(self.statements), len(self.archive.asked)


@pytest.fixture
def costs(any_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """A gateway in this process, over the platform's catalog and archive, whose doings are counted."""
    orthanc, catalog = any_platform.orthanc, any_platform.site.catalog
    login = {"archive_username": orthanc.username, "archive_password": SecretStr(orthanc.password)}
    with ExitStack() as stack:
        archive = stack.enter_context(relay(ArchiveSettings(archive_url=orthanc.dicomweb_url, **login)))
        recorded = ArchiveSettings(archive_url=f"http://127.0.0.1:{archive.port}/dicom-web")
        world = gateways.World(
            catalog, any_platform.site.issuer, gateways.SampleArchive("recorded", recorded)
        )
        stack.callback(world.close)
        counted = Costs(world, archive, monkeypatch)
        event.listen(catalog._engine, "before_cursor_execute", counted.count)
        stack.callback(event.remove, catalog._engine, "before_cursor_execute", counted.count)
        yield counted


def test_theirs_and_none_cost_one_same_statement_and_nothing_of_the_archive(
    costs: Costs, any_platform: Platform
) -> None:
    nora = any_platform.tokens["nora"]
    for tail in TAILS:
        found = {costs.of(address(study, tail), nora) for study in (THEIRS, STRAY, NOWHERE)}
        assert len(found) == 1, tail
        ((status, statements, archive),) = found
        assert (status, len(statements), archive) == (404, 1, 0), tail
    assert costs.of(address(MINE, "/metadata"), nora)[2] == 1
