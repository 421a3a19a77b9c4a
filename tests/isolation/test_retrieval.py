"""No address leads to a study that is not one's own, however it is put together or spelled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.platform import CLOSED, ENTITLED, LENT, MINE, MINE_TOO, NOWHERE, PEOPLE, STRAY, THEIRS

if TYPE_CHECKING:
    from support.marked import MarkedStudy
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
M, T, S = MINE.study, THEIRS.study, STRAY.study
ADDRESSES = [
    "/studies/{study}",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    "/studies/{study}/metadata",
    "/studies/{study}/rendered",
    "/studies/{study}/thumbnail",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/series/{series}/rendered",
    "/studies/{study}/series/{series}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1,2",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1%2C2",
    "/studies/{study}/series/{series}/instances/{instance}/frames/2/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/7fe00010",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/7FE00010",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/00420011",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/00100010",
    "/series?StudyInstanceUID={study}",
    "/series?0020000D={study}",
    "/instances?StudyInstanceUID={study}",
    "/instances?0020000d={study}&SeriesInstanceUID={series}",
]
SHAPE = (404, b'"detail": "There is no such study, series, instance or resource."')


def at(template: str, study: MarkedStudy, series: MarkedStudy | None = None) -> str:
    """An address in a study; `series` is a study whose series and instance are put there instead."""
    within = series or study
    return template.format(study=study.study, series=within.series(), instance=within.instance())


@pytest.mark.parametrize("study", [THEIRS, STRAY, NOWHERE], ids=lambda study: study.mark.word)
@pytest.mark.parametrize("template", ADDRESSES)
def test_another_clinics_study_a_stray_one_and_none_at_all_are_the_same_404(
    template: str, study: MarkedStudy, any_platform: Platform
) -> None:
    answer = any_platform.dicom(at(template, study))
    assert answer.status == 404
    assert SHAPE[1] in answer.body
    assert not any_platform.leaked(answer, "nora")


@pytest.mark.parametrize("who", [*PEOPLE, ""])
def test_each_person_opens_what_they_may_and_nothing_else(who: str, any_platform: Platform) -> None:
    for study in (MINE, THEIRS, LENT, STRAY):
        for tail in ("/metadata", f"/series/{study.series()}", f"/series/{study.series()}/metadata"):
            answer = any_platform.dicom(f"/studies/{study.study}{tail}", who)
            is_mine = study.mark in ENTITLED[who]
            refused = {401} if who in {"", "gwen"} else {403} if who in {"noel", "cleo"} else {404}
            assert answer.status in ({200} if is_mine else refused), (who, study.mark.word)
            assert not any_platform.leaked(answer, who)


MIXED = {
    "my study, their series and instance": (M, THEIRS.series(), THEIRS.instance()),
    "my study and series, their instance": (M, MINE.series(), THEIRS.instance()),
    "my study, their series, my instance": (M, THEIRS.series(), MINE.instance()),
    "my study, a stray series": (M, STRAY.series(), STRAY.instance()),
    "my study, the series of another of mine": (M, MINE_TOO.series(), MINE_TOO.instance()),
    "my study and series, an instance of another of mine": (M, MINE.series(), MINE_TOO.instance()),
    "my study, the series of one that is lent to me": (M, LENT.series(), LENT.instance()),
    "a study lent to me, another series of its owner": (LENT.study, THEIRS.series(), THEIRS.instance()),
    "their study, my series": (T, MINE.series(), MINE.instance()),
    "a stray study, my series": (S, MINE.series(), MINE.instance()),
}


@pytest.mark.parametrize("case", MIXED)
def test_an_address_that_mixes_studies_is_a_404(case: str, any_platform: Platform) -> None:
    study, series, instance = MIXED[case]
    for template in (each for each in ADDRESSES if "{instance}" in each):
        answer = any_platform.dicom(template.format(study=study, series=series, instance=instance))
        assert answer.status == 404, template
        assert not any_platform.leaked(answer, "nora")


@pytest.mark.parametrize("study", [THEIRS, MINE], ids=["theirs", "mine"])
def test_a_radiologist_cannot_reach_an_owned_series_by_a_stray_study(
    study: MarkedStudy, any_platform: Platform
) -> None:
    for template in (each for each in ADDRESSES if "/series/{series}" in each):
        assert any_platform.dicom(at(template, STRAY, study), "rita").status == 404, template


SPELLED = [
    f"/studies/{M}%5C{T}/series", f"/studies/{M}\\{T}/series", f"/studies/{M},{T}/series",
    f"/studies/{M}%2C{T}/series", f"/studies/{M}%5C..%5C{T}/series", f"/studies/{M}%2F..%2F{T}/series",
    f"/studies/{M}/../{T}/series", f"/studies/{M}/..%2F{T}/series", f"/studies/{M}/..%5C{T}/series",
    f"/studies/{M}/%2e%2e/{T}/series", f"/studies/{M}/.%2e/{T}/series", f"/studies/{M}/..;/{T}/series",
    f"/studies/{M};x/../{T}/series", f"/studies/{M}/./../{T}/series", f"/studies//{T}/series",
    f"//studies/{T}/series", f"/./studies/{T}/series", f"/studies/{T}%00/series",
    f"/studies/{T}%20/series", f"/studies/{T}%0a/series",
    f"/studies/{T}%0d%0aX-Accel-Redirect:%20/_archive/x/series", f"/studies/%20{T}/series",
    f"/studies/{T}./series", f"/studies/.{T}/series", f"/studies/{T.replace('.', '..', 1)}/series",
    f"/studies/0{T}/series", f"/studies/{T.replace('2', '%32', 1)}/series",
    f"/studies/{T.replace('2', '%2532', 1)}/series", f"/studies/{T.replace('2', '%u0032', 1)}/series",
    f"/studies/{T.replace('2', '%EF%BC%92', 1)}/series", f"/studies/{T.replace('2', '%D9%A2', 1)}/series",
    f"/studies/{T.replace('.', '%2e')}/series", f"/studies/{M}%2Fseries", f"/studies/{M}/%73eries",
    f"/STUDIES/{T}/SERIES", f"/studies/{T}/Series", "/studies/*/series", "/studies/%2A/series",
    "/studies/?/series", "/studies/%3F/series", "/studies//series", "/studies/2.25.7*/series",
    "/studies/%5C/series", "/studies/..%5C..%5Cstatistics?", f"/studies/{T}#/series",
    "/studies/..%2F..%2Fsystem", "/../system", "/..%2fsystem", "/%2e%2e/system", "/%252e%252e/system",
    "/../instances", "/%2e%2e/patients", "/..%5Cstudies", "/studies/../../tools/find", "/servers", "/info",
    "/app/client/index.html", f"/wado?requestType=WADO&objectUID={THEIRS.instance()}",
    f"/studies/{M}/series/{THEIRS.series()}%5C{MINE.series()}/metadata",
    f"/studies/{M}/series/{MINE.series()}%5C{THEIRS.series()}/metadata",
    f"/studies/{M}/series/{MINE.series()},{THEIRS.series()}/instances",
    f"/studies/{M}/series/{MINE.series()}/../../../{T}/metadata",
    f"/studies/{M}/series/{MINE.series()}/instances/{MINE.instance()}%5C{THEIRS.instance()}/metadata",
    f"/studies/{M}/series/{MINE.series()}/instances/{MINE.instance()}/../{THEIRS.instance()}",
    f"{MINE.path()}/frames/1%2F..%2F..%2F..%2F{THEIRS.instance()}%2Fframes%2F1",
    f"{MINE.path()}/frames/1,..", f"{MINE.path()}/frames/0", f"{MINE.path()}/frames/-1",
    f"{MINE.path()}/frames/1-2", f"{MINE.path()}/frames/1,1", f"{MINE.path()}/frames/1%5C2",
    f"{MINE.path()}/frames/9999999", f"{MINE.path()}/frames/1%2c..%2c", f"{MINE.path()}/frames/%31",
    f"{MINE.path()}/frames/1?StudyInstanceUID={T}/../x%00",
    f"{MINE.path()}/bulk/..%2F..%2F{THEIRS.instance()}%2Fbulk%2F7fe00010",
    f"{MINE.path()}/bulk/../../{THEIRS.instance()}/bulk/7fe00010",
    f"{MINE.path()}/bulk/7fe00010/../../../{THEIRS.instance()}", f"{MINE.path()}/bulk/7fe00010%5C..",
    f"{MINE.path()}/bulk/PixelData", f"{MINE.path()}/bulk/", f"{MINE.path()}/bulkdata/7fe00010",
    f"/studies/{M}/bulk/7fe00010", f"/studies/{T}/archive", f"/studies/{T}/bulkdata",
    f"/studies/{M}/metadata/../../{T}/metadata", f"/studies/{M}/metadata%2F..%2F..%2F{T}%2Fmetadata",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLED)
def test_no_spelling_of_an_address_leads_to_what_is_not_mine(path: str, any_platform: Platform) -> None:
    answer = any_platform.dicom(path)
    assert not any_platform.leaked(answer, "nora")
    # A frame of one's own whose query holds something strange is still one's own frame.
    mine = path.startswith(f"{MINE.path()}/frames/1?")
    assert answer.status in ({200} if mine else {400, 404}) or b"<title>" in answer.body


def test_an_address_in_metadata_leads_to_the_same_study(platform: Platform) -> None:
    metadata = json.loads(platform.dicom(f"/studies/{M}/metadata").body)
    addresses = [
        element["BulkDataURI"] for each in metadata for element in each.values() if "BulkDataURI" in element
    ]
    assert len(addresses) >= 3
    for each in addresses:
        root, _, path = each.partition("/dicom-web")
        assert root == platform.site.nginx.public_url
        assert path.startswith(f"/studies/{M}/series/")
        assert platform.dicom(path).status == 200
        foreign = path.replace(MINE.mark.arc, THEIRS.mark.arc)
        assert foreign != path
        assert platform.dicom(foreign).status == 404


def test_a_clinic_that_is_not_served_any_more_opens_nothing_that_was_shared_with_it(
    any_platform: Platform,
) -> None:
    assert PEOPLE["cleo"][0] == (CLOSED,)
    assert any_platform.dicom(f"/studies/{LENT.study}/metadata", "cleo").status == 403
