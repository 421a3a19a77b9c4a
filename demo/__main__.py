"""``python -m demo``: the whole platform on this machine, for trying it out. See `make demo`."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

import gateway
from demo import orthanc
from demo.first_start import Samples, add_clinics
from demo.installation import Installation
from demo.ohif_install import OhifInstallError, ensure_ohif
from demo.people import PASSWORD, USERS
from demo.processes import Processes, StartError, answers, port_in_use
from demo.samples import SAMPLES
from demo.settings import DemoSettings
from pacs.catalog import Catalog, CatalogError
from pacs.settings import load, refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import IO

_START_SECONDS = 60
_SAMPLES_SECONDS = 300
# Ctrl-C, a service manager, and the terminal being closed.
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The very file that production's gateway runs with.
GUNICORN_CONFIGURATION = str(Path(gateway.__file__).with_name("gunicorn.conf.py"))

console = Console(highlight=False)


class _StopRequestedError(BaseException):
    """Ctrl-C or SIGTERM: everything that was started is to be stopped."""


def main() -> None:
    """Set up what is missing, start everything, say where it is, and wait."""
    settings = load(DemoSettings)
    if settings.demo_port and port_in_use(settings.demo_port):
        refuse(
            f"DEMO_PORT: port {settings.demo_port} is in use; choose another one: make demo DEMO_PORT=8801"
        )
    installation = Installation.choose(settings)
    _handle_signals()
    with _claim(installation):
        _run(installation)


def _run(installation: Installation) -> None:
    processes = Processes(_prepare_folders(installation))
    try:
        _fetch_viewer()
        catalog = Catalog.open(installation.settings.database_url)
        _start(installation, processes, catalog)
        _say_where(installation)
        _watch(processes)
    except _StopRequestedError:
        console.print("Stopping")
    except (StartError, OhifInstallError, CatalogError) as error:
        _fail(processes, str(error))
    finally:
        processes.stop()


def _fail(processes: Processes, sentence: str) -> NoReturn:
    processes.stop()
    print(f"clinicpacs: {sentence}", file=sys.stderr)
    sys.exit(1)


def _watch(processes: Processes) -> NoReturn:
    while (ended := processes.ended()) is None:
        time.sleep(0.5)
    raise StartError(ended)


def _handle_signals() -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C must not interrupt the orderly stop that the first one began.
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        raise _StopRequestedError

    for each in _STOPPING:
        signal.signal(each, stop)


def _claim(installation: Installation) -> IO[bytes]:
    try:
        return installation.claim()
    except BlockingIOError:
        refuse(
            f"DATA_PATH: another demo runs in {installation.data_path}; stop it or choose another DATA_PATH"
        )
    except OSError as error:
        refuse(f"DATA_PATH: {installation.data_path}: {error.strerror}")


def _prepare_folders(installation: Installation) -> Path:
    settings = installation.settings
    logs = installation.data_path / "logs"
    try:
        for folder in (settings.inbox_path, settings.processed_path, settings.failed_path, logs):
            folder.mkdir(parents=True, exist_ok=True)
        installation.dicom_path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        refuse(f"DATA_PATH: {error.filename}: {error.strerror}")
    return logs


def _start(installation: Installation, processes: Processes, catalog: Catalog) -> None:
    environment = installation.environment()
    installation.write()
    add_clinics(catalog, installation)
    _start_archive(installation, processes)
    processes.start_python("importer", ["-m", "importer"], environment)
    samples = Samples(installation, catalog)
    if not samples.delivered:
        _deliver(samples, processes)
    # Last on a first start: whoever gets an answer from the one URL finds the samples there.
    processes.start_python(
        "web", ["-m", "gunicorn", "-c", GUNICORN_CONFIGURATION, "demo.web:create_origin()"], environment
    )
    importer_url = f"http://127.0.0.1:{installation.importer_port}/readyz"
    _wait(processes, lambda: answers(importer_url), "the importer")
    _wait(processes, lambda: answers(f"{installation.origin}/readyz"), "the gateway")


def _wait(processes: Processes, ready: Callable[[], bool], what: str) -> None:
    processes.wait_until(ready, what, _START_SECONDS)


def _fetch_viewer() -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=console) as progress:
        ensure_ohif(progress=progress)


def _start_archive(installation: Installation, processes: Processes) -> None:
    port = installation.archive_port
    if installation.settings.demo_archive == "orthanc":
        processes.start("archive", *orthanc.start_command(installation))
    else:
        arguments = ["-m", "demo.archive", "--port", str(port), "--root", str(installation.dicom_path)]
        processes.start_python("archive", arguments, installation.environment())
    _wait(processes, lambda: port_in_use(port), "the archive")


def _deliver(samples: Samples, processes: Processes) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        writing = progress.add_task("Making the sample studies", total=None)
        samples.drop(lambda done, total: progress.update(writing, completed=done, total=total))
        importing = progress.add_task("Importing the sample studies", total=len(SAMPLES))

        def all_imported() -> bool:
            imported = samples.imported()
            progress.update(importing, completed=imported)
            return imported == len(SAMPLES)

        processes.wait_until(all_imported, "the import of the samples", _SAMPLES_SECONDS)
    samples.mark_delivered()


def _say_where(installation: Installation) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("Viewer", f"[bold]{installation.origin}[/bold]")
    for number, user in enumerate(USERS):
        title = f"Logins (password [bold]{PASSWORD}[/bold])" if number == 0 else ""
        table.add_row(title, f"[bold]{user.username}[/bold]  {user.sees}")
    inbox = installation.settings.inbox_path
    table.add_row("Inbox", f"{inbox}/northside   {inbox}/southside")
    table.add_row("", "drop a folder of DICOM files there: it shows up in the viewer")
    table.add_row("Commands", escape(f"{installation.command} --help"))
    table.add_row("Logs", str(installation.data_path / "logs"))
    console.print(Panel(table, title="clinicpacs demo", expand=False))
    console.print("This is a demonstration on this machine only: [bold]not for patients' data[/bold].")
    console.print("Ctrl-C stops it.")


if __name__ == "__main__":
    main()
