"""Studies that bear a mark of their owner in all that they hold, and the search for a mark in an answer.

UIDs begin with the mark's arc, every text holds its word, and each image has a pattern and two values of its
own: so also a rendered picture, a frame in another transfer syntax or a part of a file tells whose it is.
"""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom.uid import ExplicitVRLittleEndian

from pacs.ids import ClinicId, Uid
from support.corpus import make_instance, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from pydicom.dataset import Dataset

SIDE = 32
_STEP = 4
_NOISE, _ALIKE = 5, 0.7
_TEXTS = frozenset({"LO", "SH", "PN", "ST", "LT", "UT", "UC"})
_MAGIC = re.compile(rb"\xff\xd8\xff[\xe0\xdb\xee]|\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class Mark:
    """What is in all of a study, and in nobody else's.

    Args:
        word: in its texts; a made-up one of up to 16 letters.
        arc: its UIDs begin so.
        values: the two of its pattern.
        pattern: how the bands of rows and of columns count, and how wide they are: stripes or a chessboard.
    """

    word: str
    arc: str
    values: tuple[int, int]
    pattern: tuple[int, int, int]

    @cached_property
    def image(self) -> npt.NDArray[np.uint8]:
        """What its images show."""
        return np.where(self._bands, *self.values).astype(np.uint8)

    @property
    def _bands(self) -> npt.NDArray[np.int64]:
        rows, columns, width = self.pattern
        y, x = np.indices((SIDE, SIDE)) // width
        bands: npt.NDArray[np.int64] = (rows * y + columns * x) % 2
        return bands

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """What betrays it in bytes: texts, UIDs, pixels of 8 and 16 bits, these also in base64."""
        eight, sixteen = (self.image.astype(kind).tobytes()[:512] for kind in (np.uint8, np.uint16))
        pixels = [each[start : start + 192] for each in (eight, sixteen) for start in range(0, 256, _STEP)]
        encoded = [base64.b64encode(each) for each in pixels]
        texts = [self.word.encode(), self.word.encode("utf-16-le"), f"{self.arc}.".encode()]
        return tuple(dict.fromkeys([*texts, *pixels, *encoded]))

    def is_picture(self, picture: Image.Image) -> bool:
        """Whether a rendered picture, of whatever size and window, shows its pattern."""
        pixels = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float)
        if pixels.std() < _NOISE:
            return False
        return bool(abs(np.corrcoef(pixels.ravel(), self._bands.ravel())[0, 1]) > _ALIKE)


NORTH = Mark("Quillnorth", "2.25.61100", (37, 211), (1, 0, 4))
SOUTH = Mark("Emberlysouth", "2.25.72200", (53, 229), (0, 1, 4))
STRAY = Mark("Driftwoodstray", "2.25.83300", (71, 189), (1, 1, 4))
LENT = Mark("Lanternshared", "2.25.94400", (90, 170), (1, 1, 8))
MARKS = (NORTH, SOUTH, STRAY, LENT)


@dataclass(frozen=True)
class MarkedStudy:
    """A study of one CT, one US of two frames, one SR and one PDF, each a series of one or two instances."""

    mark: Mark
    owner: ClinicId | None
    number: int = 1
    modalities: tuple[str, ...] = ("CT", "US", "SR", "PDF")

    @property
    def study(self) -> Uid:
        return Uid(f"{self.mark.arc}.{self.number}")

    def series(self, modality: str = "US") -> Uid:
        return Uid(f"{self.study}.{self.modalities.index(modality) + 1}")

    def instance(self, modality: str = "US", number: int = 1) -> Uid:
        return Uid(f"{self.series(modality)}.{number}")

    def path(self, modality: str = "US", number: int = 1) -> str:
        series = f"/studies/{self.study}/series/{self.series(modality)}"
        return f"{series}/instances/{self.instance(modality, number)}"

    def files(self) -> dict[str, bytes]:
        """Its Part 10 files by their names."""
        return {
            f"{modality}-{number}.dcm": self.file(modality, number)
            for modality in self.modalities
            for number in ((1, 2) if modality == "CT" else (1,))
        }

    def file(self, modality: str = "US", number: int = 1, **attributes: Any) -> bytes:
        """One instance; `attributes` are set by their keywords at last."""
        ds = make_instance(
            modality, seed=self.mark.word, instance_number=number, size=SIDE, frames=2,
            study_uid=self.study, series_uid=self.series(modality),
            sop_instance_uid=self.instance(modality, number), transfer_syntax=ExplicitVRLittleEndian,
        )  # fmt: skip
        _mark_texts(ds, self.mark.word)
        ds.PatientName, ds.PatientID = f"Sample^{self.mark.word}", self.mark.word
        if "FrameOfReferenceUID" in ds:
            ds.FrameOfReferenceUID = f"{self.mark.arc}.9"
        if "PixelData" in ds:
            ds.WindowCenter, ds.WindowWidth = 128, 256
            ds.pop("RescaleIntercept", None), ds.pop("RescaleSlope", None)
            frames = int(ds.get("NumberOfFrames", 1))
            ds.PixelData = self.mark.image.astype(f"<u{ds.BitsAllocated // 8}").tobytes() * frames
        if modality == "PDF":
            ds.EncapsulatedDocument = document(self.mark.word)
            ds.EncapsulatedDocumentLength = len(ds.EncapsulatedDocument)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        return to_bytes(ds)


def document(word: str) -> bytes:
    """A PDF, long enough for every archive to serve it apart from the metadata."""
    text = b"%PDF-1.4\n% " + f"{word} ".encode() * 900 + b"\n%%EOF\n"
    return text + b"\n" * (len(text) % 2)


def _mark_texts(ds: Dataset, word: str) -> None:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _mark_texts(item, word)
        elif element.VR in _TEXTS and element.keyword not in {"CodingSchemeDesignator", "CodeValue"}:
            element.value = word


def marks_in(content: bytes, headers: Iterable[tuple[str, str]] = ()) -> set[Mark]:
    """All marks that an answer bears, packed or not."""
    texts = "\n".join(f"{name}: {value}" for name, value in headers).encode("latin-1", "replace")
    forms = [content, texts, *_unpacked(content)]
    found = {mark for mark in MARKS if any(needle in form for needle in mark.needles for form in forms)}
    return found | {mark for picture in _pictures(forms) for mark in MARKS if mark.is_picture(picture)}


def _unpacked(content: bytes) -> list[bytes]:
    unpacked = []
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            unpacked.append(unpack(content))
        except (OSError, EOFError, zlib.error):
            continue
    return unpacked


def _pictures(forms: Iterable[bytes]) -> list[Image.Image]:
    found = []
    for form in forms:
        for start in _MAGIC.finditer(form):
            try:
                picture = Image.open(BytesIO(form[start.start() :]))
                picture.load()
            except (UnidentifiedImageError, OSError):
                continue
            found.append(picture)
    return found
