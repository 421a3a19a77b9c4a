"""What every command does at its edges: settings, logs, errors as sentences, exit codes, tables.

click.ClickException
├── FailedError     exit 1: something did not work, or not all of it
└── UnusableError   exit 2: settings, usage, or a part that cannot be reached
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, Concatenate, ParamSpec

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from admin.directory import DirectoryError
from admin.platform import Platform
from admin.settings import AdminSettings
from admin.studies import StudyError
from pacs import logs
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import CatalogError
from pacs.ids import ClinicId, InvalidClinicIdError, InvalidUidError, Uid
from pacs.settings import EXIT_USAGE, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")

_WIDTH_OF_A_FILE = 200


class FailedError(click.ClickException):
    """The command could not do what it was asked, or not all of it."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """One sentence on stderr."""
        click.echo(f"clinicpacs: {self.format_message()}", file=file or sys.stderr)


class UnusableError(FailedError):
    """The command could not begin: wrong usage, wrong settings, or a part that cannot be reached."""

    exit_code = EXIT_USAGE


class ClinicIdType(click.ParamType[ClinicId]):
    """A clinic id on the command line."""

    name = "clinic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ClinicId:
        """Parse it; usage error when it is none."""
        try:
            return ClinicId(value)
        except InvalidClinicIdError as error:
            self.fail(str(error), param, ctx)


CLINIC = ClinicIdType()


class UidType(click.ParamType[Uid]):
    """A DICOM UID on the command line."""

    name = "uid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Uid:
        """Parse it; usage error when it is none."""
        try:
            return Uid(value)
        except InvalidUidError as error:
            self.fail(f"{value!r} is {error}", param, ctx)


class DayType(click.ParamType[date]):
    """A day on the command line."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Parse it; usage error when it is none."""
        try:
            return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).date()
        except ValueError:
            self.fail(f"{value!r} is not a day: write it as 2026-12-31", param, ctx)


class TimeType(click.ParamType[datetime]):
    """A moment on the command line."""

    name = "time"
    needed = "a time with its zone is needed, such as 2026-01-02T03:04:05+00:00"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it; usage error when it is none, or has no zone."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(self.needed, param, ctx)
        return moment


UID = UidType()
DAY = DayType()
TIME = TimeType()


JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def with_platform(function: Callable[Concatenate[Platform, P], None]) -> Callable[P, None]:
    """Give a command its `Platform`, and turn what it raises into a sentence and an exit code."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        settings = load(AdminSettings)
        _set_up_logs(settings.log_level)
        with closing(Platform(settings)) as platform, sentences(platform):
            function(platform, *args, **kwargs)

    return command


def _set_up_logs(level: str) -> None:
    logs.configure("admin", level)
    if level == "info":
        # At the terminal the command's own answer counts; the libraries' notes would drown it.
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.ERROR)


@contextmanager
def sentences(platform: Platform) -> Iterator[None]:
    """Errors that a person can do something about, each as one sentence."""
    try:
        yield
    except (CatalogError, DirectoryError, InvalidClinicIdError, InvalidUidError, StudyError) as error:
        raise UnusableError(shown(str(error))) from error
    except ArchiveUnavailableError as error:
        raise UnusableError(
            f"the archive at {platform.settings.archive_url} is not available: {error.reason}"
        ) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnusableError(shown(f"{error.filename or 'a file'}: {error.strerror}")) from error


def shown(text: str) -> str:
    """A text from outside, fit for a terminal: a file's name may hold its control sequences."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return printable.encode("utf-8", "backslashreplace").decode("utf-8")


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes no markup from data; wide where nobody looks at a screen."""
    screen = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, width=None if screen else _WIDTH_OF_A_FILE
    )


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def progress_bar(*, redirect_stdout: bool = True) -> Progress:
    """What is done, of how many, and how long the rest takes: on stderr, gone when it is done."""
    screen = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=screen,
        transient=True,
        redirect_stdout=redirect_stdout,
        # Where nobody looks, it would leave an empty line behind.
        disable=not screen.is_terminal,
    )


def megabytes(size: int) -> str:
    """`1.5 MB`."""
    return f"{size / 1e6:.1f} MB"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2 files`, `2 studies`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
