"""What a backup holds: `manifest.json`, and its own digest in `manifest.sha256`.

ManifestError: the manifest is damaged, or of a newer version.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime  # noqa: TC003 - pydantic needs it when the class is made
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Of an encrypted backup; of one that is not it is 1, which older versions can read."""
_DIGEST = "manifest.sha256"
_LIMIT = 64 << 20

Rows = dict[str, int]
"""Rows by table, named as PostgreSQL writes them: `public.studies`."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Never out of the backup's folder.
InnerPath = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)?$")]


class ManifestError(Exception):
    """A manifest that is damaged, missing, or of a newer version."""


@dataclass(frozen=True)
class StoredFile:
    """One file of the backup; `path` is relative to it."""

    path: InnerPath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


@dataclass(frozen=True)
class Images:
    """The archive's files, listed with their digests in `dicom/<two digits>.sha256`.

    Attributes:
        files: how many.
        bytes: of all of them.
        missing: files that the archive's index names and its folder did not have when it was backed up.
    """

    files: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    missing: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Manifest:
    """A backup's contents.

    Attributes:
        format: of this file.
        clinicpacs: version that made it.
        begun_at: when, and
        finished_at: until when.
        paused_at: importing was stopped from then on until the dumps were made, by the clock of the file
            system that files are filed in; what was filed before is in the backup, what was after is not.
        catalog_revision: the schema's.
        postgres: version of the server, as in `server_version_num`.
        services: image of each service.
        databases: rows of every table, counted in the dumps.
        resources: the archive's patients, studies, series and instances.
        images: None when they are not inside.
        files: everything inside but the images, this file and its digest.
        secret: what of it must be kept from others.
        absent: what is not inside.
        keys: age public keys that everything inside but this file and the lists is encrypted to.
    """

    NAME: ClassVar[str] = "manifest.json"

    clinicpacs: str
    begun_at: datetime
    finished_at: datetime
    paused_at: datetime
    catalog_revision: str
    postgres: int
    services: dict[str, str]
    databases: dict[str, Rows]
    resources: Rows
    files: list[StoredFile]
    images: Images | None = None
    secret: list[str] = Field(default_factory=list)
    absent: list[str] = Field(default_factory=list)
    keys: list[str] = Field(default_factory=list)
    format: int = 1

    def write(self, folder: Path) -> None:
        """Write it and its digest; `sha256sum -c manifest.sha256` checks it without us."""
        text = TypeAdapter(dict).dump_json(asdict(self), indent=2) + b"\n"
        (folder / self.NAME).write_bytes(text)
        (folder / _DIGEST).write_text(f"{hashlib.sha256(text).hexdigest()}  {self.NAME}\n", encoding="ascii")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it, checked against its digest.

        Raises:
            ManifestError: it is damaged, missing, or of a newer version.
        """
        try:
            with (folder / cls.NAME).open("rb") as file:
                text = file.read(_LIMIT)
            digest = (folder / _DIGEST).read_bytes()[:200]
        except OSError as error:
            raise ManifestError(f"the manifest cannot be read: {error.strerror}") from error
        if digest.split(maxsplit=1)[:1] != [hashlib.sha256(text).hexdigest().encode()]:
            raise ManifestError(f"the manifest is damaged: it is not the one of {_DIGEST}")
        try:
            if TypeAdapter(_Format).validate_json(text).format > FORMAT:
                raise ManifestError("the backup was made by a newer version of clinicpacs: install that one")
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ManifestError(f"the manifest is damaged: {error.error_count()} faults") from error


@dataclass(frozen=True)
class _Format:
    format: int


def digest_of(path: Path) -> StoredFile:
    """Size and SHA-256 of a file; its name alone is the path."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return StoredFile(path.name, file.tell(), digest.hexdigest())
