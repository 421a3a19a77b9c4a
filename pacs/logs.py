"""Structured logs, one JSON object a line on stderr, that never carry patient data.

Paths below a clinic's folder, query strings and the texts of exceptions may hold a patient's name.
So only the keys listed here are written with their values; of an exception, its type, its error
number and where it was raised. A library's own message is told by its template, never its arguments.
"""

from __future__ import annotations

import copy
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    EventDict = MutableMapping[str, Any]

SAFE_KEYS = frozenset(
    {
        "event", "level", "timestamp", "logger", "service", "version", "exception",
        "clinic", "clinics", "study_uid", "series_uid", "sop_instance_uid", "import_id",
        "reason", "outcome", "route", "status", "method", "subject", "kid", "client",
        "count", "files", "bytes", "seconds", "attempt", "url", "port", "pid", "signal", "state", "errno",
        "setting", "action", "audit_row", "hash",
    }
)  # fmt: skip
"""`url` is for addresses of our own configuration only."""


def _only_safe_keys(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {key: value if key in SAFE_KEYS else "(withheld)" for key, value in event.items()}


def _exception_without_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def describe(error: BaseException) -> str:
    """An exception without its text: type, error number, and the places it came through."""
    number = getattr(error, "errno", None)
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}{f' errno {number}' if number is not None else ''} at {places}"


class _Handler(logging.Handler):
    """Writes lines; a foreign record by its template alone, for its arguments may be paths or URLs."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream or sys.stderr
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except (OSError, ValueError):
            # The library's own report of a failed write quotes the record's arguments.
            return

    def format(self, record: logging.LogRecord) -> str:
        if not isinstance(record.msg, dict):
            record = copy.copy(record)
            record.msg = record.msg if record.args else _length_only(record.msg)
            record.args = None
        return super().format(record)


def _length_only(message: Any) -> str:
    # Without arguments the text was formatted by the library itself, values and all.
    return f"(a message of {len(str(message))} characters)"


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up the logs of this process; `level` as in LOG_LEVEL; `stream` is stderr if it is not given."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, event: {"service": service, **event},
        _exception_without_values,
        _only_safe_keys,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A warning of pydicom quotes the value that it warns of.
    logging.captureWarnings(capture=True)
    for chatty in ("urllib3", "alembic", "sqlalchemy", "watchdog", "pydicom", "dicomweb_client"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; its keyword arguments are the keys of `SAFE_KEYS`, its event a fixed text."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def always(name: str) -> structlog.stdlib.BoundLogger:
    """The same, for what has to be on record whatever LOG_LEVEL says."""
    logging.getLogger(name).setLevel(logging.INFO)
    return get(name)
