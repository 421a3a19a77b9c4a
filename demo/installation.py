"""Where the running demo's parts are: what its processes, and `clinicpacs` beside them, are told."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.processes import free_port
from pacs.settings import INSTALLATION_FILE

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from demo.settings import DemoSettings

_LOCK_FILE = ".demo.lock"
IDENTITY_FILE = "identity.db"
ARCHIVE_USER = "importer"


@dataclass(frozen=True)
class Installation:
    """One start of the demo: its settings, and what was chosen for this start."""

    settings: DemoSettings
    port: int
    archive_port: int
    importer_port: int
    archive_password: str
    archive_admin_password: str

    @classmethod
    def choose(cls, settings: DemoSettings) -> Installation:
        """Ports and passwords for this start."""
        return cls(
            settings=settings,
            port=settings.demo_port or free_port(),
            archive_port=free_port(),
            importer_port=free_port(),
            archive_password=secrets.token_urlsafe(24),
            archive_admin_password=secrets.token_urlsafe(24),
        )

    @property
    def origin(self) -> str:
        """The one URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_path(self) -> Path:
        """DATA_PATH, absolute."""
        return self.settings.data_path.absolute()

    @property
    def identity_path(self) -> Path:
        """The embedded issuer's users."""
        return self.data_path / IDENTITY_FILE

    @property
    def dicom_path(self) -> Path:
        """Where the archive keeps its files; each kind of archive its own."""
        return self.data_path / ("dicom" if self.settings.demo_archive == "embedded" else "dicom-orthanc")

    @property
    def command(self) -> str:
        """`clinicpacs` as it is typed in the repository's folder to find this demo."""
        path = self.settings.data_path
        default = type(self.settings).model_fields["data_path"].default
        return ("" if path == default else f"DATA_PATH={shlex.quote(str(path))} ") + ".venv/bin/clinicpacs"

    def claim(self) -> IO[bytes]:
        """Make this process the only demo on DATA_PATH; the claim dies with the returned file.

        Raises:
            BlockingIOError: when another demo has it.
            OSError: when the folder cannot be made or written to.
        """
        self.data_path.mkdir(parents=True, exist_ok=True)
        file = (self.data_path / _LOCK_FILE).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    def environment(self) -> dict[str, str]:
        """Settings for every process of the demo."""
        settings = self.settings
        return {
            "DATA_PATH": str(self.data_path),
            "INBOX_PATH": str(settings.inbox_path.absolute()),
            "PROCESSED_PATH": str(settings.processed_path.absolute()),
            "FAILED_PATH": str(settings.failed_path.absolute()),
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "ARCHIVE_URL": f"http://127.0.0.1:{self.archive_port}/dicom-web",
            "ARCHIVE_USERNAME": ARCHIVE_USER,
            "ARCHIVE_PASSWORD": self.archive_password,
            "ARCHIVE_STABLE_AGE_SECONDS": "0" if settings.demo_archive == "embedded" else "5",
            "IDENTITY_PATH": str(self.identity_path),
            "OIDC_ISSUER": f"{self.origin}/auth/realms/clinicpacs",
            "PUBLIC_URL": self.origin,
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_WORKERS": "1",
            "IMPORTER_HOST": "127.0.0.1",
            "IMPORTER_PORT": str(self.importer_port),
            "COOLDOWN_SECONDS": f"{settings.cooldown_seconds:g}",
            "RESCAN_SECONDS": "2",
        }

    def write(self) -> None:
        """Leave the settings where `clinicpacs` on this machine finds them; readable by its owner only."""
        path = self.data_path / INSTALLATION_FILE
        temporary = path.with_suffix(".tmp")
        lines = ["# Written by `make demo` at each start: where its parts are. Changes here are lost.\n"]
        settings = self.environment()
        if self.settings.demo_archive == "orthanc":
            # For `clinicpacs delete` alone; no service may delete.
            settings["ARCHIVE_ADMIN_PASSWORD"] = self.archive_admin_password
        lines += [f"{name}='{value}'\n" for name, value in settings.items()]
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(lines)
        temporary.replace(path)
