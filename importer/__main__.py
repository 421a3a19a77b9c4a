"""`python -m importer`: the importer as a daemon, or once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from importer.daemon import Importer
from importer.health_server import HealthServer
from importer.inbox.advisory import LEASE_SECONDS, AdvisoryLocks
from importer.inbox.locks import InboxLock, InboxLockedError
from importer.settings import ImporterSettings
from pacs import __version__, logs
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, CatalogError, CatalogUnavailableError
from pacs.settings import load, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.inbox.locks import ClinicLocks

_log = logs.get(__name__)

_CATALOG_SECONDS = 2.0

_USAGE = """\
Import DICOM files from each clinic's inbox folder into the archive.

Files that did not change for COOLDOWN_SECONDS are read, their study is reserved for the clinic, and they
are sent to ARCHIVE_URL. What the archive confirms goes to PROCESSED_PATH, what it can never take to
FAILED_PATH, with the reason beside it in `<name>.error.json`. While the archive or the catalog is away
files wait where they are. Stopping or killing it at any moment loses nothing.

Settings are environment variables (docs/SETTINGS.md), also in a file `.env`; `clinicpacs check importer`
checks them. Metrics and health: http://HOST:IMPORTER_PORT/metrics, /healthz, /readyz.
"""
_ONCE = """\
import what is in the inbox now, and end. Waits for files to be stable as the daemon does. Exit code 0 when
nothing waits any more, 1 when a file failed, or when stable files still wait and nothing got through for
PATIENCE seconds (the archive is away, say): they stay in the inbox for the next time
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = _options(arguments)
    settings = load(ImporterSettings)
    logs.configure("importer", settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.once:
        settings = settings.model_copy(update={"rescan_seconds": min(settings.rescan_seconds, 2.0)})
    catalog = _open_catalog(settings, stop)
    locks = _take_locks(settings, catalog)
    archive = DicomWebArchive(settings, connections=settings.upload_workers + 1)
    importer = Importer(settings, catalog, archive, locks)
    server = None if options.once else _serve(settings, importer)
    importer.start()
    _log.info("started", version=__version__, pid=os.getpid(), port=server.port if server else None)
    code = _drain(importer, stop, options.patience) if options.once else _watch(importer, stop)
    _log.info("stopping", files=importer.in_hand)
    if not importer.stop():
        # Files in a request that hangs are in the inbox still: the next start sends them again.
        _log.warning("stopped with a request under way")
        sys.stderr.flush()
        os._exit(code)
    if server:
        server.stop()
    archive.close()
    catalog.close()
    _log.info("stopped")
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m importer",
        description=_USAGE,
        epilog="examples:\n  python -m importer\n  COOLDOWN_SECONDS=5 python -m importer --once",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help=_ONCE)
    parser.add_argument("--patience", type=float, default=60.0, metavar="PATIENCE", help="see --once (60)")
    return parser.parse_args(arguments)


def _open_catalog(settings: ImporterSettings, stop: threading.Event) -> Catalog:
    """Open the catalog; a server that is not there yet is waited for, since files are, too."""
    waiting = False
    while True:
        try:
            return Catalog.open(settings.database_url)
        except CatalogUnavailableError as error:
            if settings.database_url.get_secret_value().startswith("sqlite"):
                refuse(str(error))
            if not waiting:
                _log.warning("waiting for the catalog")
            waiting = True
        except CatalogError as error:
            refuse(str(error))
        if stop.wait(_CATALOG_SECONDS):
            sys.exit(0)


def _take_locks(settings: ImporterSettings, catalog: Catalog) -> ClinicLocks:
    inbox = settings.inbox_path
    try:
        inbox.mkdir(parents=True, exist_ok=True)
        if not os.access(inbox, os.R_OK | os.W_OK | os.X_OK):
            refuse(f"the inbox {inbox} is not readable and writable")
        if catalog.is_sqlite:
            return InboxLock(inbox)
        return AdvisoryLocks(catalog, inbox, lease_seconds=LEASE_SECONDS)
    except InboxLockedError as error:
        refuse(f"{error}: {inbox}")
    except OSError as error:
        refuse(f"the inbox {inbox}: {error.strerror}")


def _serve(settings: ImporterSettings, importer: Importer) -> HealthServer:
    host, port = settings.importer_host, settings.importer_port
    try:
        server = HealthServer(
            host, port, importer.metrics.registry, alive=importer.alive, ready=importer.ready
        )
    except OSError as error:
        refuse(f"IMPORTER_PORT: {host}:{port}: {error.strerror}")
    server.start()
    return server


def _watch(importer: Importer, stop: threading.Event) -> int:
    while not stop.wait(1.0):
        if not importer.supervise():
            _log.error("a part of the importer died; exiting to be restarted")
            return 1
    return 0


def _drain(importer: Importer, stop: threading.Event, patience: float) -> int:
    """Until nothing waits at two full looks in a row, or nothing moved for too long."""
    seen, finished, moved_at = None, -1, time.monotonic()
    while not stop.wait(0.1):
        if not importer.supervise():
            return 1
        if not importer.is_drained:
            seen = None
        elif seen is None:
            seen = importer.full_looks
        elif importer.full_looks > seen:
            return 1 if importer.outcomes.get("failed") else 0
        if sum(importer.outcomes.values()) != finished or importer.only_cools:
            finished, moved_at = sum(importer.outcomes.values()), time.monotonic()
        elif time.monotonic() - moved_at > patience:
            _log.error("files still wait: they stay in the inbox", files=importer.in_hand)
            return 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
