"""Fuzzes what reads a dropped file, with atheris: `make fuzz`.

Whatever the bytes are, the importer refuses them with a reason, or makes an instance of them that it reads
back itself as the same one, all of it but what it tags untouched. Anything else is a finding.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["importer.dicom"]):
    from importer.dicom import part10, tag, transcode, walk  # noqa: F401

from importer.dicom.refusal import UnstorableFileError  # noqa: E402 - the path first
from importer.dicom.source import Limits  # noqa: E402
from support.damaged import DAMAGES, behind_the_history, damaged, samples  # noqa: E402
from support.dicom_files import NOON, NORTHSIDE, identifiers, joined, opened, read_bytes  # noqa: E402

_LIMITS = Limits(elements=10_000, inflated_bytes=1 << 20)


def check(content: bytes) -> None:
    """One file.

    Raises:
        AssertionError: it was tagged into something else.
        Exception: any other: a file must not surprise the reader.
    """
    with opened(content) as descriptor:
        try:
            header = part10.read_instance(descriptor, _LIMITS)
        except UnstorableFileError:
            return
        folder = Path("/tmp")
        with tag.tag(header, descriptor, NORTHSIDE, modified_at=NOON, temporary_folder=folder) as made:
            tagged = joined(made)
    again = read_bytes(tagged)
    assert identifiers(again) == identifiers(header)
    assert again.institution_name.rstrip() == NORTHSIDE.encode()
    assert behind_the_history(tagged, again) == behind_the_history(content, header)


def make_corpus(folder: Path) -> None:
    """Whole files and damaged ones to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(samples()):
        (folder / f"sample-{number}").write_bytes(sample.content)
    for number in range(1, 40 * len(DAMAGES)):
        (folder / f"damaged-{number}").write_bytes(damaged(number)[1])


if __name__ == "__main__":
    make_corpus(Path(sys.argv[-1]))
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
