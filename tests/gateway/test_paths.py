"""What an address names, and what is none; and what is said to the archive of a search."""

from __future__ import annotations

import pytest

from gateway.paths import FRAMES_MAX, Kind, Target, check_raw_uri, parse
from gateway.problems import MAX_URI, BadRequest, NotFound, UriTooLong
from pacs.ids import Uid

IN = "studies/1.2/series/1.3/instances/1.4"
UIDS = Uid("1.2"), Uid("1.3"), Uid("1.4")


def test_an_address_is_parsed_into_what_it_names() -> None:
    assert parse(f"{IN}/frames/1,3") == Target(Kind.FRAMES, *UIDS, frames=(1, 3))
    assert parse(f"{IN}/frames/2/rendered") == Target(Kind.RENDERED, *UIDS, frames=(2,))
    assert parse(f"{IN}/bulk/54000100/1/5400101A").bulk == "54000100/1/5400101a"
    most = ",".join(map(str, range(1, FRAMES_MAX + 1)))
    assert len(parse(f"{IN}/frames/{most}").frames) == FRAMES_MAX


@pytest.mark.parametrize(
    "tail",
    [
        f"{IN}/frames/{','.join(map(str, range(1, FRAMES_MAX + 2)))}",
        f"{IN}/frames/1,2/rendered",
        f"{IN}/frames/1,2/thumbnail",
        f"{IN}/frames/1,1",
        f"{IN}/frames/1\n",
        f"{IN}/frames/\N{ARABIC-INDIC DIGIT ONE}",
        f"{IN}/frames/10000000",
        "studies/1.2\n/series",
        "studies/1.\N{ARABIC-INDIC DIGIT TWO}/series",
        f"studies/{'1' * 65}/series",
    ],
)
def test_what_is_malformed_is_a_400(tail: str) -> None:
    with pytest.raises(BadRequest):
        parse(tail)


@pytest.mark.parametrize(
    "tail", ["", "x", "studies/1.2/x", f"{IN}/bulk/7fe00010/", f"{IN}/bulk/7fe00010\n", f"{IN}/x"]
)
def test_what_names_nothing_is_a_404(tail: str) -> None:
    with pytest.raises(NotFound):
        parse(tail)


def test_the_raw_address_is_short_and_plain() -> None:
    check_raw_uri({"RAW_URI": f"/dicom-web/{IN}/frames/1%2c2?x=%5C"})
    check_raw_uri({"RAW_URI": "/" + "x" * (MAX_URI - 1)})
    with pytest.raises(UriTooLong):
        check_raw_uri({"RAW_URI": "/" + "x" * MAX_URI})
    with pytest.raises(UriTooLong):
        check_raw_uri({"PATH_INFO": "/x", "QUERY_STRING": "x" * MAX_URI})
    for encoded in ("%2e", "%5C", "%31", "%00", "%", "%252F"):
        with pytest.raises(NotFound):
            check_raw_uri({"RAW_URI": f"/dicom-web/studies/{encoded}/series"})


@pytest.mark.parametrize("raw", ["/dicom-web/studies#", "/dicom-web/studies?x=1#y", "//dicom-web/studies"])
def test_what_would_be_cut_off_is_not_there(raw: str) -> None:
    with pytest.raises(NotFound):
        check_raw_uri({"RAW_URI": raw})
