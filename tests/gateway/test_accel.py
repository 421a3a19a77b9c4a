"""What is handed over to nginx, and under which address it may be kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.gateway import CLIP, MINE, THEIRS, UNOWNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog import Catalog
    from support.gateway import SampleArchive, World

SAFE = re.compile(
    r"/_archive/[0-9]+/(multipart|single),[a-z0-9]+,[a-z0-9+.-]+(,(any|default|[0-9.]+))?"
    r"/studies/[0-9a-z./,]+(\?[a-z0-9=&,.-]+)?"
)


@pytest.fixture
def behind_nginx(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> World:
    return make_world(sqlite_catalog, embedded_archive, accel_prefix="/_archive")


HANDED_OVER = [
    (f"{MINE.path()}/frames/1", "", "multipart,application,octet-stream,any", f"{MINE.path()}/frames/1"),
    (
        f"{CLIP.path()}/frames/1%2C2",
        "multipart/related; type=image/jls; transfer-syntax=1.2.3",
        "multipart,image,jls,1.2.3",
        f"{CLIP.path()}/frames/1,2",
    ),
    (MINE.path(), "multipart/related; type=application/dicom", "multipart,application,dicom,default",
     MINE.path()),
    (f"/studies/{MINE.study}", "*/*", "multipart,application,dicom,any", f"/studies/{MINE.study}"),
    (f"{MINE.path()}/rendered?quality=50&x=1&viewport=9,9", "", "single,image,jpeg",
     f"{MINE.path()}/rendered?viewport=9,9&quality=50"),
    (f"{MINE.path()}/thumbnail", "image/png", "single,image,png", f"{MINE.path()}/rendered?viewport=128,128"),
    (f"{MINE.path()}/bulk/7FE00010", "", "multipart,application,octet-stream,any",
     f"{MINE.path()}/bulk/7fe00010"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "accept", "key", "path"), HANDED_OVER)
def test_bulk_is_handed_over_under_revision_form_and_path(
    asked: str, accept: str, key: str, path: str, behind_nginx: World
) -> None:
    behind_nginx.set_study(MINE, revision=7)
    behind_nginx.set_study(CLIP, revision=7)
    answer = behind_nginx.get(asked, Accept=accept)
    location = answer.headers["X-Accel-Redirect"]
    assert location == f"/_archive/7/{key}{path}"
    assert SAFE.fullmatch(location)
    assert (answer.status_code, answer.data) == (200, b"")
    assert "Content-Type" not in answer.headers
    assert behind_nginx.audited()[0]["allowed"]


def test_metadata_is_handed_over_only_when_it_has_settled(behind_nginx: World) -> None:
    path = f"/studies/{MINE.study}/metadata"
    behind_nginx.set_study(MINE, settled=False, revision=3)
    answer = behind_nginx.get(path)
    assert "X-Accel-Redirect" not in answer.headers
    assert len(answer.get_json(force=True)) == 4
    behind_nginx.set_study(MINE, settled=True, revision=4)
    location = behind_nginx.get(path).headers["X-Accel-Redirect"]
    assert location == f"/_archive/4/single,application,dicom+json{path}"
    assert SAFE.fullmatch(location)


def test_searches_single_parts_and_unowned_studies_are_not_handed_over(behind_nginx: World) -> None:
    for answer in (
        behind_nginx.get("/studies"),
        behind_nginx.get(f"/studies/{MINE.study}/series"),
        behind_nginx.get(f"{MINE.path()}/frames/1", Accept="application/octet-stream; transfer-syntax=*"),
        behind_nginx.get(f"{UNOWNED.path()}/frames/1", behind_nginx.rita),
    ):
        assert answer.status_code == 200
        assert "X-Accel-Redirect" not in answer.headers


def test_what_the_archive_refused_to_nginx_is_answered_here(behind_nginx: World) -> None:
    accept = "multipart/related; type=image/jxl, */*; q=0.1"
    assert (
        "image,jxl" in behind_nginx.get(f"{MINE.path()}/frames/1", Accept=accept).headers["X-Accel-Redirect"]
    )
    again = behind_nginx.get(f"{MINE.path()}/frames/1", Accept=accept, X_Accel_Refused="1")
    assert "X-Accel-Redirect" not in again.headers
    assert (again.status_code, len(again.data) > 100) == (200, True)
    assert behind_nginx.get(f"{THEIRS.path()}/frames/1", X_Accel_Refused="1").status_code == 404


def test_what_is_not_yours_is_not_handed_over(behind_nginx: World) -> None:
    mixed = f"/studies/{MINE.study}/series/{THEIRS.series()}"
    for path in (
        f"{THEIRS.path()}/frames/1",
        f"/studies/{THEIRS.study}/metadata",
        "/studies/1.2.3",
        mixed,
        f"{mixed}/metadata",
        f"{mixed}/instances/{THEIRS.instance()}/frames/1",
        f"/studies/{MINE.study}/series/{CLIP.series()}/instances/{CLIP.instance()}/frames/1",
        f"/studies/{MINE.study}/series/1.2.3/instances/{MINE.instance()}/frames/1",
    ):
        answer = behind_nginx.get(path)
        assert answer.status_code == 404
        assert "X-Accel-Redirect" not in answer.headers
