"""The real Orthanc as the demo's archive, with the configuration that production mounts."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from demo.processes import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.installation import Installation

CONFIGURATION = Path(__file__).parent.parent / "orthanc" / "orthanc.json"
_PLUGIN = "libOrthancDicomWeb.so"
_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")


def program() -> str:
    """The installed server.

    Raises:
        StartError: there is none.
    """
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StartError(
            "ARCHIVE=orthanc needs Orthanc (on Debian and Ubuntu: apt install orthanc orthanc-dicomweb); "
            "without it, start the demo with ARCHIVE=embedded"
        )
    return found


def plugin() -> str:
    """The DICOMweb plugin's library.

    Raises:
        StartError: it is not where packages put it.
    """
    for folder in _PLUGIN_FOLDERS:
        for path in sorted(Path(folder).glob(f"{_PLUGIN}*")):
            return str(path)
    raise StartError(
        "Orthanc's DICOMweb plugin is missing (on Debian and Ubuntu: apt install orthanc-dicomweb)"
    )


USERS = ("importer", "gateway", "admin", "monitor")
"""Orthanc's users; orthanc/filter.lua says what each may do."""


def environment(
    storage: Path, port: int, passwords: Mapping[str, str], stable_age_seconds: int
) -> dict[str, str]:
    """The variables that orthanc.json expands.

    A user for whom no password is given gets one that nobody knows.
    """
    return {
        "DICOM_STORAGE_PATH": str(storage),
        "ORTHANC_HTTP_PORT": str(port),
        "ORTHANC_REMOTE_ACCESS": "false",
        "ORTHANC_PLUGINS": json.dumps([plugin()]),
        "ORTHANC_STABLE_AGE": str(stable_age_seconds),
        "ORTHANC_HTTPS_OUTSIDE": "false",
    } | {
        f"ARCHIVE_{user.upper()}_PASSWORD": passwords.get(user) or secrets.token_urlsafe(24) for user in USERS
    }


def start_command(installation: Installation) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the demo's Orthanc."""
    storage = installation.dicom_path
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    stable_age = int(installation.environment()["ARCHIVE_STABLE_AGE_SECONDS"])
    # Gateway and commands read as the importer's user, too: all of them run under the same account here.
    passwords = {
        installation.environment()["ARCHIVE_USERNAME"]: installation.archive_password,
        "admin": installation.archive_admin_password,
    }
    return [program(), str(CONFIGURATION)], environment(
        storage, installation.archive_port, passwords, stable_age
    )
