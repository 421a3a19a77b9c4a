"""From a stable file to an instance that can be reserved and sent, or to what else it is."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.filing import NotWritableError
from importer.instances import Instance
from importer.moving import GoneError, MoveError
from importer.names import is_litter
from importer.work import End, Settlement
from pacs import logs

if TYPE_CHECKING:
    from importer.filing import Filer
    from importer.work import WaitingFile

_log = logs.get(__name__)

_DESCRIPTORS_USED_UP = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True)
class Blocked:
    """The file cannot be handled now; says nothing about what it holds."""

    reason: str


def open_instance(filer: Filer, file: WaitingFile) -> Instance | Settlement | Blocked | End:
    """Open a file and read its header; the caller closes an instance."""
    if is_litter(file.path.rpartition("/")[2]):
        return Settlement("skipped", "litter", "A file system's own file.")
    opened = _open(filer, file)
    return _read(file, opened) if isinstance(opened, int) else opened


def _open(filer: Filer, file: WaitingFile) -> int | Blocked | End:
    try:
        return filer.open(file)
    except GoneError:
        return End.GONE
    except MoveError:
        return End.CHANGED
    except NotWritableError:
        return Blocked("source-not-writable")
    except OSError as error:
        return _unreadable(file, error)


def _read(file: WaitingFile, descriptor: int) -> Instance | Settlement | Blocked:
    try:
        found = Instance.read(descriptor)
    except OSError as error:
        os.close(descriptor)
        return _unreadable(file, error)
    except BaseException:
        os.close(descriptor)
        raise
    if isinstance(found, Settlement):
        os.close(descriptor)
    return found


def _unreadable(file: WaitingFile, error: OSError) -> Blocked:
    _log.warning("a file could not be read", clinic=file.clinic_id, errno=error.errno)
    return Blocked("out-of-descriptors" if error.errno in _DESCRIPTORS_USED_UP else "unreadable")
