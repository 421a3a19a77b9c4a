"""Orthanc as production runs it: Debian 13's, with our configuration file, on SQLite or PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from demo import orthanc as parts
from support.orthanc import Orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.servers.postgresql import Server

ROOT = Path(os.environ.get("BENCH_DEBIAN", Path(__file__).parents[2] / ".cache" / "bench" / "debian"))
"""Debian 13's files, where this machine is another system: `bench/servers/debian.sh` puts them there."""
_LIBRARIES = ("lib", "usr/lib")
_PLUGINS = "usr/share/orthanc/plugins"


def command() -> list[str]:
    """What starts Debian 13's Orthanc; that of this machine where there is none.

    Its own loader takes its own libraries, so that it runs on another system without a container.
    """
    if not (ROOT / "usr/sbin/Orthanc").exists():
        return [parts.program()]
    machine = os.uname().machine
    paths = ":".join(str(ROOT / each / f"{machine}-linux-gnu") for each in _LIBRARIES)
    loader = next((ROOT / "usr/lib" / f"{machine}-linux-gnu").glob("ld-linux-*"))
    return [str(loader), "--library-path", paths, str(ROOT / "usr/sbin/Orthanc")]


def plugins(*, postgresql: bool) -> list[str]:
    """The plugins' libraries.

    Raises:
        SystemExit: PostgreSQL's is not installed.
    """
    brought = (ROOT / "usr/sbin/Orthanc").exists()
    found = ROOT / _PLUGINS if brought else Path(parts.plugin()).parent
    names = ["libOrthancDicomWeb.so"] + ["libOrthancPostgreSQLIndex.so"] * postgresql
    if missing := [name for name in names if not (found / name).exists()]:
        raise SystemExit(f"{', '.join(missing)} is not in {found}: bench/servers/debian.sh installs it")
    return [str(found / name) for name in names]


def version() -> str:
    """Such as 1.12.7."""
    said = subprocess.run([*command(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Orthanc (\d+(\.\d+)+)", said)
    return found[1] if found else "unknown"


@contextmanager
def running(
    folder: Path,
    index: Server | None = None,
    *,
    changes: Mapping[str, str] | None = None,
    **variables: str,
) -> Iterator[Orthanc]:
    """One with its files in `folder`.

    Args:
        folder: what is there of an earlier one is used.
        index: where its index goes: a PostgreSQL server; SQLite beside the files without one.
        changes: of the text of orthanc.json, where a measurement needs another than production's.
        variables: for orthanc.json, over ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {"ORTHANC_PLUGINS": json.dumps(plugins(postgresql=index is not None))}
    if (ROOT / "etc/orthanc").exists():
        given["DCMDICTPATH"] = str(ROOT / "usr/share/dcmtk/dicom.dic")
    if index is not None:
        given |= index.for_orthanc()
    configuration = _changed(folder, changes) if changes else parts.CONFIGURATION
    server = Orthanc.start(folder, program=command(), configuration=configuration, **(given | variables))
    try:
        yield server
    finally:
        server.stop()


def _changed(folder: Path, changes: Mapping[str, str]) -> Path:
    text = parts.CONFIGURATION.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    shutil.copy(parts.CONFIGURATION.with_name("filter.lua"), folder)
    changed = folder / "orthanc.json"
    changed.write_text(text)
    return changed
