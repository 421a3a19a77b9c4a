"""A CT study as a scanner makes it: slices of 512 x 512 x 16 bit, 0.5 MB each, with a scanner's noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import SecretStr

from pacs.archive import Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.ids import Uid
from pacs.settings import ArchiveSettings
from support.corpus import make_instance, sample_uid, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.orthanc import Orthanc

CACHE = Path(__file__).parents[2] / ".cache" / "bench"
_BATCH = 20
_SIZE = 512
_NOISE_HU = 12
_NOISES = 16


@dataclass(frozen=True)
class CtStudy:
    """One study of one series; its files are made once and kept under `CACHE`."""

    slices: int
    seed: str = "opening"

    @property
    def uid(self) -> Uid:
        return Uid(sample_uid(self.seed, "study"))

    @property
    def series(self) -> Uid:
        return Uid(sample_uid(self.seed, "series"))

    def instance(self, number: int) -> Uid:
        return Uid(sample_uid(self.seed, "instance", number))

    def frame_path(self, number: int) -> str:
        """Below the DICOMweb root; slices count from 1."""
        return f"/studies/{self.uid}/series/{self.series}/instances/{self.instance(number)}/frames/1"

    def store(self, archive: Orthanc) -> None:
        """Put all of it into an archive that has none of it yet."""
        client = DicomWebArchive(
            ArchiveSettings(
                archive_url=archive.dicomweb_url,
                archive_username=archive.username,
                archive_password=SecretStr(archive.password),
            )
        )
        files = list(self._files())
        for start in range(0, len(files), _BATCH):
            contents = [path.read_bytes() for path in files[start : start + _BATCH]]
            answer = client.store([Part([content], len(content)) for content in contents])
            assert len(answer.stored) == len(contents)
        client.close()

    def _files(self) -> Iterator[Path]:
        folder = CACHE / f"ct-{self.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        chance = np.random.default_rng(1)
        noises = chance.normal(0, _NOISE_HU, (_NOISES, _SIZE, _SIZE)).astype(np.int16)
        for number in range(1, self.slices + 1):
            path = folder / f"{number:04d}.dcm"
            if not path.exists():
                made = path.with_suffix(".part")
                made.write_bytes(self._file(number, noises[number % _NOISES]))
                made.replace(path)
            yield path

    def _file(self, number: int, noise: np.ndarray) -> bytes:
        ds = make_instance(
            "CT",
            study_uid=self.uid,
            series_uid=self.series,
            sop_instance_uid=self.instance(number),
            instance_number=number,
        )
        y, x = np.mgrid[-1 : 1 : _SIZE * 1j, -1 : 1 : _SIZE * 1j]
        # Air, a body, a spine that wanders from slice to slice; nothing of it is random but the noise.
        body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
        spine = (x - 0.1 * np.sin(number / 50)) ** 2 + (y - 0.35) ** 2 < 0.01
        hounsfield = np.where(body, 40 + 30 * x, -1000) + spine * 600 + noise * (body | (noise % 2 == 0))
        ds.Rows = ds.Columns = _SIZE
        ds.PixelData = np.clip(hounsfield + 1024, 0, 4095).astype("<u2").tobytes()
        return to_bytes(ds)
