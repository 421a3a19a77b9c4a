"""No search finds a study that is not one's own, and none reaches out of the study that it is asked of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.marked import marks_in
from support.platform import LENT, MINE, SOUTH, STRAY, THEIRS

if TYPE_CHECKING:
    from support.marked import MarkedStudy
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
M, T, S = MINE.study, THEIRS.study, STRAY.study
WORD = THEIRS.mark.word
OVER_ALL = [
    "", "limit=1000", "offset=0&limit=99999", "includefield=all", "PatientName=*",
    "PatientName=*&fuzzymatching=true", f"PatientName={WORD}", f"PatientName=*{WORD}*",
    f"PatientName=Sample%5E{WORD}", f"PatientName={WORD}&fuzzymatching=true",
    f"PatientName={WORD.lower()}*&fuzzymatching=true", f"00100010=*{WORD}", f"0010,0010=*{WORD}",
    f"(0010,0010)=*{WORD}", f"PatientID={WORD}", f"PatientID={WORD[:4]}*",
    f"PatientID={WORD}%5C{MINE.mark.word}&multiplevaluematching=true", f"AccessionNumber={WORD}",
    f"AccessionNumber=*&PatientID={WORD}", f"StudyDescription={WORD}", f"StudyID={WORD}",
    f"ReferringPhysicianName=*{WORD}*", "PatientID=%25", "PatientID=_%25", "PatientID=!%25",
    f"StudyInstanceUID={T}", f"StudyInstanceUID={T},{S}", f"StudyInstanceUID={M},{T}",
    f"StudyInstanceUID={M}%5C{T}", f"StudyInstanceUID={M}&StudyInstanceUID={T}", f"0020000D={T}",
    f"0020000d={T}", f"0020,000d={T}", f"%30%30%32%30000D={T}", f"StudyInstanceUID={T}&0020000D={M}",
    f"StudyInstanceUID=&0020000D={T}", "StudyInstanceUID=*", "StudyInstanceUID=2.25.7*",
    f"StudyInstanceUID={T.replace('2', '%32')}", f"InstitutionName={SOUTH}", "InstitutionName=*",
    "InstitutionName=", f"InstitutionName=northside%5C{SOUTH}", f"InstitutionName=northside,{SOUTH}",
    f"InstitutionName=northside&00080080={SOUTH}", "InstitutionName=south*",
    f"InstitutionName=northside%5C{SOUTH}&multiplevaluematching=true",
    "InstitutionName=%22%22&emptyvaluematching=true", f"clinic={SOUTH}", f"clinic_id={SOUTH}",
    f"groups=/clinics/{SOUTH}", "ModalitiesInStudy=US", "ModalitiesInStudy=*",
    "ModalitiesInStudy=CT,US,SR,DOC,MR", "ModalitiesInStudy=CT%5CUS", "StudyDate=19000101-",
    "StudyDate=-20991231", "StudyDate=20240102", "StudyDate=20240101-20240103&StudyTime=000000-235959",
    "StudyTime=000000-235959", "PatientSex=F", "PatientBirthDate=19700101",
    "PatientBirthDate=19000101-20991231", "PatientName='%20OR%201=1%20--",
    "PatientID=%27)%20OR%20(%27%27=%27", "PatientID=x%27%20UNION%20SELECT%201--",
    "PatientName=*%22%20OR%20study_terms:*", "StudyDescription=%22%20OR%20%22", "PatientName=%2A%2F%2A",
    f"SeriesInstanceUID={THEIRS.series()}", f"SOPInstanceUID={THEIRS.instance()}", "00080018=*",
    f"RequestAttributesSequence.ScheduledProcedureStepID={WORD}", f"0040A730.0040A160={WORD}",
    "includefield=00081190", f"_method=GET&StudyInstanceUID={T}",
    f"X-Forwarded-Host=x&StudyInstanceUID={T}", f"StudyInstanceUID={T}%00", f"StudyInstanceUID%00={T}",
    f"StudyInstanceUID[]={T}", f"StudyInstanceUID={T};{M}", f";StudyInstanceUID={T}",
    f"StudyInstanceUID={M}%0aStudyInstanceUID={T}", f"?StudyInstanceUID={T}", f"#StudyInstanceUID={T}",
]  # fmt: skip


@pytest.mark.parametrize("query", OVER_ALL)
def test_a_search_finds_ones_own_at_most(query: str, any_platform: Platform) -> None:
    answer = any_platform.dicom(f"/studies?{query}")
    assert not any_platform.leaked(answer, "nora")
    assert answer.status in {200, 400, 404}
    if answer.status == 200:
        found = {each["0020000D"]["Value"][0] for each in json.loads(answer.body)}
        assert all(each.startswith((f"{MINE.mark.arc}.", f"{LENT.mark.arc}.")) for each in found)


@pytest.mark.parametrize("query", OVER_ALL)
def test_nobody_without_a_clinic_searches(query: str, platform: Platform) -> None:
    answer = platform.dicom(f"/studies?{query}", "noel")
    assert answer.status in {400, 403, 404}
    assert not platform.leaked(answer, "noel")


@pytest.mark.parametrize(("who", "own"), [("nora", MINE), ("sam", THEIRS)])
def test_what_matches_in_both_clinics_is_found_in_ones_own(
    who: str, own: MarkedStudy, any_platform: Platform
) -> None:
    answer = any_platform.dicom("/studies?StudyDate=20240102&PatientName=Sample*&ModalitiesInStudy=CT", who)
    assert marks_in(answer.body) == {own.mark}


WITHIN = [
    "/series", "/instances", "/series?limit=1000", "/instances?limit=1000&includefield=all",
    "/series?StudyInstanceUID=", "/series?StudyInstanceUID=*", f"/series?StudyInstanceUID={M},{T}",
    f"/series?StudyInstanceUID={M}%5C{T}", f"/series?StudyInstanceUID={M}&StudyInstanceUID={T}",
    f"/series?StudyInstanceUID={M}&0020000D={T}", f"/series?0020,000D={T}&StudyInstanceUID={M}",
    f"/series?StudyInstanceUID={M}&%30020000D={T}", f"/instances?StudyInstanceUID={M},{T}&limit=9",
    f"/instances?SOPInstanceUID={THEIRS.instance()}", f"/series?SeriesInstanceUID={THEIRS.series()}",
    f"/series?PatientID={WORD}", f"/instances?PatientName=*{WORD}*",
    f"/instances?StudyInstanceUID={T}&studyinstanceuid={M}", f"/studies/{M}/series?StudyInstanceUID={T}",
    f"/studies/{M}/series?0020000D={T}", f"/studies/{M}/series?0020,000d={T}",
    f"/studies/{M}/series?(0020,000d)={T}", f"/studies/{M}/instances?StudyInstanceUID={T}",
    f"/studies/{M}/series?StudyInstanceUID={T}&limit=1",
    f"/studies/{M}/series/{MINE.series()}/instances?SeriesInstanceUID={THEIRS.series()}",
    f"/studies/{M}/series/{MINE.series()}/instances?StudyInstanceUID={T}&SeriesInstanceUID={THEIRS.series()}",
]  # fmt: skip


@pytest.mark.parametrize("path", WITHIN)
def test_a_search_that_names_another_study_is_refused(path: str, any_platform: Platform) -> None:
    answer = any_platform.dicom(path)
    assert answer.status in {400, 404}
    assert not any_platform.leaked(answer, "nora")


REACHING_OUT = [
    f"SeriesInstanceUID={THEIRS.series()}", f"0020000E={THEIRS.series()}", f"0020,000e={THEIRS.series()}",
    f"SeriesInstanceUID={MINE.series()}%5C{THEIRS.series()}",
    f"SeriesInstanceUID={MINE.series()},{THEIRS.series()}", f"SOPInstanceUID={THEIRS.instance()}",
    f"00080018={THEIRS.instance()},{MINE.instance()}", f"PatientID={WORD}", f"PatientName=*{WORD}*",
    f"InstitutionName={SOUTH}", "InstitutionName=*", "Modality=*", f"SeriesDescription={WORD}",
    "SeriesDescription=*", "includefield=all", "includefield=00100010,00080080,00081190", "_method=DELETE",
    f"Modality=US%26StudyInstanceUID={T}", f"Modality=US%23{T}", f"Modality=*%26StudyInstanceUID={T}%26x=",
    f"SeriesDescription=%26StudyInstanceUID%3D{T}", f"SeriesNumber=1%2F..%2F..%2F{T}", "limit=5&offset=0",
    "offset=1", f"SeriesDescription=x%0d%0aHost:%20{SOUTH}", "fuzzymatching=true&SeriesDescription=e*",
]  # fmt: skip


@pytest.mark.parametrize("query", REACHING_OUT)
@pytest.mark.parametrize("level", ["/series", "/instances", f"/series/{MINE.series()}/instances"])
def test_a_search_in_ones_own_study_stays_in_it(level: str, query: str, any_platform: Platform) -> None:
    answer = any_platform.dicom(f"/studies/{M}{level}?{query}")
    assert answer.status in {200, 400, 404}
    assert marks_in(answer.body) <= {MINE.mark}
