"""Sample studies of invented patients, the same on every machine.

All but the brain (see NOTICE.md) is computed here; nothing in it comes from a patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.samples.catalogue import CONTENTS
from demo.samples.study import Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import FileDataset

__all__ = ["SAMPLES", "Sample", "study_uids", "write_samples"]

SAMPLES: tuple[Sample, ...] = tuple(CONTENTS)
"""All sample studies."""


def study_uids(clinic: str | None = None) -> list[str]:
    """The StudyInstanceUIDs of all samples, or of one clinic's."""
    return [sample.study_uid for sample in SAMPLES if clinic in {None, sample.clinic}]


def write_samples(inbox: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the samples as ``INBOX/CLINIC/FOLDER/IM0001.dcm`` and so on.

    A file has its name only once it is whole. Files of an earlier, broken run are replaced.

    Args:
        inbox: the folder of the clinics' folders.
        progress: called with the number of files written and the number of all, after each file.
    """
    total = sum(sample.instances for sample in SAMPLES)
    done = 0
    for sample, make in CONTENTS.items():
        folder = inbox / sample.clinic / sample.folder
        folder.mkdir(parents=True, exist_ok=True)
        for number, dataset in enumerate(make(), 1):
            _write(folder, f"IM{number:04d}.dcm", dataset)
            done += 1
            if progress is not None:
                progress(done, total)


def _write(folder: Path, name: str, dataset: FileDataset) -> None:
    # The importer leaves hidden names and *.part alone.
    unfinished = folder / f".{name}.part"
    dataset.save_as(unfinished, enforce_file_format=True)
    unfinished.replace(folder / name)
