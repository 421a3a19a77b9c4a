"""The last step of a backup: its manifest, its name, and the end of those that are too old."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as parsed

from admin.backup import crypt, images
from admin.backup.manifest import FORMAT, Images, Manifest, Rows, StoredFile, digest_of
from pacs import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from admin.backup.dump import Counted
    from admin.backup.shelf import BackupName, Shelf

WORK = ".work"
"""Folder of a backup that is being made: what its steps tell each other."""

DATABASES = ("catalog", "orthanc", "keycloak")
METRICS = "metrics/clinicpacs_backup.prom"

_SECRET = [
    "configuration.tar: every password of .env, and the key of the certificate",
    "keycloak.dump: password hashes, secrets of the clients",
    "catalog.dump and orthanc.dump: patients' names and ids, who opened which study",
]
_ENCRYPTED = "everything, but only for holders of BACKUP_KEY's private key"
_ABSENT_ALWAYS = [
    "the clinics' folders: what waits in inbox, what is in processed and failed",
    "logs, metrics and Grafana's own database",
]
_ABSENT_IMAGES = (
    "THE IMAGES: the archive's files, without which the databases name studies that nobody can open"
)


@dataclass(frozen=True)
class Account:
    """What the script knows of the backup that it has made.

    Attributes:
        begun_at: when it began.
        paused_at: when importing was stopped, by the clock of the file system that files are filed in.
        postgres: version of the server.
        services: image of each service.
        with_images: whether the archive's files were to be inside.
        keys: public keys that it is encrypted to; none for a plain one.
    """

    begun_at: datetime
    paused_at: datetime
    postgres: int
    services: dict[str, str]
    with_images: bool
    keys: tuple[str, ...] = ()


@parsed(frozen=True)
class _Noted:
    rows: Rows
    resources: Rows
    revision: str


def note_rows(work: Path, database: str, counted: Counted) -> None:
    """Remember what a dump holds."""
    work.mkdir(mode=0o700, exist_ok=True)
    (work / f"{database}.json").write_text(json.dumps(counted._asdict()), encoding="utf-8")


def note_images(work: Path, copied: Images) -> None:
    """Remember what the backup holds of the archive's files."""
    (work / "images.json").write_text(json.dumps(asdict(copied)), encoding="utf-8")


def seal(shelf: Shelf, name: BackupName, account: Account) -> Manifest:
    """Write the manifest, and give the backup its name once all of it is on disk.

    Raises:
        OSError: something cannot be written, or a step was left out.
    """
    partial = shelf.partial(name)
    work = partial / WORK
    noted = {
        database: TypeAdapter(_Noted).validate_json((work / f"{database}.json").read_bytes())
        for database in DATABASES
    }
    copied = None
    if account.with_images:
        copied = TypeAdapter(Images).validate_json((work / "images.json").read_bytes())
    shutil.rmtree(work)
    for path in [path for path in partial.iterdir() if account.keys and path.is_file()]:
        crypt.encrypt_in_place(path, account.keys)
    manifest = Manifest(
        clinicpacs=__version__,
        begun_at=account.begun_at,
        finished_at=datetime.now(UTC),
        paused_at=account.paused_at,
        catalog_revision=noted["catalog"].revision,
        postgres=account.postgres,
        services=account.services,
        databases={database: each.rows for database, each in noted.items()},
        resources=noted["orthanc"].resources,
        files=sorted(_digests(partial), key=lambda file: file.path),
        images=copied,
        secret=[_ENCRYPTED] if account.keys else _SECRET,
        absent=[*([] if copied else [_ABSENT_IMAGES]), *_ABSENT_ALWAYS],
        keys=list(account.keys),
        format=FORMAT if account.keys else 1,
    )
    manifest.write(partial)
    shelf.finish(name)
    return manifest


def _digests(partial: Path) -> list[StoredFile]:
    found = [digest_of(path) for path in partial.iterdir() if path.is_file()]
    for path in (partial / images.FOLDER).glob("*"):
        if path.is_file():
            file = digest_of(path)
            found.append(StoredFile(f"{images.FOLDER}/{file.path}", file.size, file.sha256))
    return found


def total_bytes(manifest: Manifest) -> int:
    """Of all that is inside."""
    return sum(file.size for file in manifest.files) + (manifest.images.bytes if manifest.images else 0)


def write_metrics(shelf: Shelf, manifest: Manifest) -> None:
    """For node-exporter's textfile collector; replaced whole, so that it never reads half of it.

    Raises:
        OSError: the file cannot be written.
    """
    values = {
        "last_success_timestamp_seconds": ("When the last backup was complete.", _seconds(manifest)[1]),
        "bytes": ("Size of the last backup.", total_bytes(manifest)),
        "seconds": ("How long the last backup took.", _seconds(manifest)[1] - _seconds(manifest)[0]),
        "includes_dicom": ("Whether the last backup holds the images.", manifest.images is not None),
        **_of_images(shelf),
    }
    registry = CollectorRegistry()
    for metric, (text, value) in values.items():
        Gauge(f"clinicpacs_backup_{metric}", text, registry=registry).set(value)
    path = shelf.root / METRICS
    path.parent.mkdir(mode=0o755, exist_ok=True)
    write_to_textfile(str(path), registry)
    # It holds figures only, and node-exporter runs under a number of its own.
    path.chmod(0o644)


def _of_images(shelf: Shelf) -> dict[str, tuple[str, float]]:
    """Of the newest backup with images, which a later one without does not stand for; nothing without any."""
    name = shelf.newest_with_images()
    newest = Manifest.read(shelf.place(name)) if name else None
    if newest is None or newest.images is None:
        return {}
    return {
        "last_success_with_images_timestamp_seconds": (
            "When the last backup with images was complete.",
            _seconds(newest)[1],
        ),
        "missing_files": (
            "Files that the archive's index names and its folder lacked at the last backup with images.",
            newest.images.missing,
        ),
    }


def _seconds(manifest: Manifest) -> tuple[float, float]:
    return manifest.begun_at.timestamp(), manifest.finished_at.timestamp()
