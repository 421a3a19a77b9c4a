"""The archive is not made to decode what is too large, and everything can be had as it is stored."""

from __future__ import annotations

from contextlib import nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread

from gateway.access.studies import OpenStudy
from gateway.archive.sizes import FRAME_MAX, INSTANCE_MAX, Sizes, TooLargeError
from gateway.media import Representation
from gateway.paths import Kind, Target
from pacs.ids import Uid
from support.corpus import to_bytes
from support.gateway import NORTH, Sample

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

    from support.gateway import World

UIDS = Uid("1.2"), Uid("1.3"), Uid("1.4")
PICTURE = Target(Kind.RENDERED, *UIDS)
FILE = Target(Kind.RETRIEVE, *UIDS)
FRAME = Target(Kind.FRAMES, *UIDS, frames=(1,))
JPEG, CONVERTED = Representation("image/jpeg"), Representation("application/dicom", multipart=True)
FINE, REFUSED = nullcontext(), pytest.raises(TooLargeError)
AS_STORED = Representation("application/dicom", multipart=True, transfer_syntax="*")


def opened(study: str = "1.2", revision: int = 1, owner: Any = NORTH, *, settled: bool = True) -> OpenStudy:
    return OpenStudy(Uid(study), owner, revision, settled=settled)


class Listed:
    """What an archive lists of one instance, and how often it was asked."""

    def __init__(
        self, rows: Any = 512, columns: Any = 512, bits: Any = 16, samples: Any = 1, frames: Any = 1
    ) -> None:
        tags = {
            "00280010": rows,
            "00280011": columns,
            "00280100": bits,
            "00280002": samples,
            "00280008": frames,
        }
        self.found = [
            {tag: {"vr": "US", "Value": [value]} for tag, value in tags.items() if value is not None}
        ]
        self.asked: list[tuple[Target, str]] = []

    def __call__(self, target: Target, query: str) -> Generator[dict[str, Any]]:
        self.asked.append((target, query))
        return (each for each in self.found)


@pytest.mark.parametrize(
    ("listed", "target", "form", "outcome"),
    [
        (Listed(), PICTURE, JPEG, FINE),
        (Listed(8192, 8192), PICTURE, JPEG, FINE),
        (Listed(8192, 8193), PICTURE, JPEG, REFUSED),
        (Listed(8192, 8192, samples=3), PICTURE, JPEG, REFUSED),
        (Listed(8192, 8192, bits=32), PICTURE, JPEG, REFUSED),
        (Listed("65500", "65500"), PICTURE, JPEG, REFUSED),
        (Listed(65500, 65500, bits=1), PICTURE, JPEG, REFUSED),
        (Listed(2048, 2048, frames="1000"), PICTURE, JPEG, FINE),
        (Listed(2048, 2048, frames="1000"), FILE, CONVERTED, REFUSED),
        (Listed(2048, 2048, frames="1000"), FRAME, CONVERTED, REFUSED),
        (Listed(2048, 2048, frames="128"), FILE, CONVERTED, FINE),
        (Listed(65500, 65500), FILE, AS_STORED, FINE),
        (Listed(65500, 65500), FRAME, AS_STORED, FINE),
        (Listed(65500, 65500), Target(Kind.BULK, *UIDS, bulk="7fe00010"), CONVERTED, FINE),
        (Listed(None, None, None, None, None), FILE, CONVERTED, FINE),
        (Listed("x", "-1"), FILE, CONVERTED, FINE),
    ],
)  # fmt: skip
def test_what_would_be_decoded_has_a_limit(
    listed: Listed, target: Target, form: Representation, outcome: AbstractContextManager[Any]
) -> None:
    with outcome:
        Sizes(listed).check(target, opened(), form)
    is_decoded = form is not AS_STORED and target.kind is not Kind.BULK
    assert bool(listed.asked) is is_decoded


def test_the_largest_of_a_series_counts() -> None:
    listed = Listed()
    listed.found += Listed(40_000, 40_000).found
    with pytest.raises(TooLargeError):
        Sizes(listed).check(Target(Kind.RETRIEVE, *UIDS[:2]), opened(), CONVERTED)
    assert FRAME_MAX < INSTANCE_MAX


def test_a_size_is_looked_up_once_for_each_address_and_revision() -> None:
    listed = Listed()
    sizes = Sizes(listed)
    for _ in range(3):
        sizes.check(PICTURE, opened(), JPEG)
    sizes.check(Target(Kind.FRAMES, *UIDS, frames=(2,)), opened(), CONVERTED)
    assert len(listed.asked) == 1
    # Another clinic's study with an instance of the same UID, and the same study since.
    sizes.check(Target(Kind.RENDERED, Uid("9.2"), Uid("9.3"), UIDS[2]), opened("9.2"), JPEG)
    sizes.check(PICTURE, opened(revision=2), JPEG)
    assert len(listed.asked) == 3


def test_of_a_study_without_an_owner_nothing_is_remembered() -> None:
    listed = Listed()
    sizes = Sizes(listed)
    for _ in range(2):
        sizes.check(PICTURE, opened(revision=0, owner=None), JPEG)
    assert len(listed.asked) == 2


def test_of_a_study_that_changes_what_was_known_counts_for_nothing() -> None:
    """Its revision is raised when it has settled; until then an image may be replaced at any time."""
    listed = Listed()
    sizes = Sizes(listed)
    sizes.check(PICTURE, opened(), JPEG)
    listed.found = Listed(40_000, 40_000).found
    with pytest.raises(TooLargeError):
        sizes.check(PICTURE, opened(settled=False), JPEG)
    # Nor is what was seen meanwhile known afterwards.
    listed.found = Listed().found
    sizes.check(PICTURE, opened(settled=False), JPEG)
    listed.found = Listed(40_000, 40_000).found
    with pytest.raises(TooLargeError):
        sizes.check(PICTURE, opened(revision=2), JPEG)


class Large(Sample):
    """Claims to be larger than any image is."""

    def file(self, modality: str, number: int = 1) -> bytes:
        ds = dcmread(BytesIO(super().file(modality, number)))
        ds.Rows = ds.Columns = 65_500
        return to_bytes(ds)


def test_a_picture_that_is_too_large_is_a_406_that_says_what_helps(any_archive_world: World) -> None:
    large = Large("large", NORTH, ("US",), 1)
    any_archive_world.file(large)
    for tail, accept in (("/rendered", ""), ("/thumbnail", ""), ("/frames/1", "application/octet-stream")):
        answer = any_archive_world.get(f"{large.path()}{tail}", Accept=accept)
        assert answer.status_code == 406
        assert "transfer-syntax=*" in answer.get_json(force=True)["detail"]
    as_stored = any_archive_world.get(large.path(), Accept="application/dicom; transfer-syntax=*")
    assert as_stored.status_code == 200
