"""What of a process's work on files would survive a power cut, told from a trace of its system calls.

The strictest disk that POSIX allows: a file's bytes are on it after fsync of the file, a name in a folder
after fsync of that folder, and nothing else orders anything. What is asked for last is what counts: a call
that another thread makes meanwhile is not covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS = "openat,mkdirat,rename,renameat,renameat2,linkat,unlink,unlinkat,write,pwrite64,fsync,fdatasync,"
CALLS += "sendto,sendmsg"
_UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_AT = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>, "((?:[^"\\]|\\.)*)"')
_FD = re.compile(r"^\d+<(.*?)>(?:, |\)|$)")


def command(trace: Path) -> tuple[str, ...]:
    """What runs a program under strace, as the process that was started."""
    return ("strace", "-D", "-f", "-yy", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", "-e", "signal=none")


@dataclass(frozen=True)
class Call:
    """A system call that succeeded; `began` and `ended` are places in the trace.

    `paths` are those that it names, the folder's for a call that names a file in an open folder included.
    """

    name: str
    paths: tuple[str, ...]
    text: str
    began: int
    ended: int


def calls(trace: Path) -> Iterator[Call]:
    """The calls, in the order in which they ended."""
    open_calls: dict[str, tuple[str, str, int]] = {}
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if found := _UNFINISHED.match(line):
            open_calls[found[1]] = found[2], found[3], number
            continue
        if found := _RESUMED.match(line):
            name, text, began = open_calls.pop(found[1])
            text += found[3]
        elif found := _WHOLE.match(line):
            name, text, began = found[2], found[3], number
        else:
            continue
        if re.search(r"\) += \d", text):
            yield Call(name, tuple(_paths(name, text)), text, began, number)


def _paths(name: str, text: str) -> Iterator[str]:
    if name in {"fsync", "fdatasync", "write", "pwrite64", "sendto", "sendmsg"}:
        if found := _FD.match(text):
            yield found[1]
        return
    for folder, file in _AT.findall(text):
        yield str(PurePosixPath(folder) / file)


@dataclass
class Disk:
    """What is durable so far. Tell it the calls, and ask."""

    named: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    durable_names: set[str] = field(default_factory=set)
    durable_bytes: set[str] = field(default_factory=set)

    def take(self, call: Call) -> None:
        """One more call has ended."""
        match call.name, call.paths:
            case "openat", (path,) if "O_CREAT" in call.text and "O_EXCL" in call.text:
                self._name(path, call)
                self.written[path] = call.ended
            case "mkdirat", (path,):
                self._name(path, call)
            case "write", (path,):
                self.written[path] = call.ended
                self.durable_bytes.discard(path)
            case (("rename" | "renameat" | "renameat2" | "linkat"), (old, new)):
                self._name(new, call)
                self.written[new] = self.written.get(old, -1)
                if old in self.durable_bytes or old not in self.written:
                    self.durable_bytes.add(new)
            case (("fsync" | "fdatasync"), (path,)):
                self._sync(path, call.began)
            case _:
                pass

    def _name(self, path: str, call: Call) -> None:
        self.named[path] = call.ended
        self.durable_names.discard(path)

    def _sync(self, path: str, began: int) -> None:
        if self.written.get(path, -1) < began:
            self.durable_bytes.add(path)
        self.durable_names |= {
            each
            for each, ended in self.named.items()
            if ended < began and str(PurePosixPath(each).parent) == path
        }

    def has(self, path: str) -> bool:
        """Whether the file is there, whole, after a power cut now."""
        return path in self.durable_bytes and self.has_name(path)

    def has_name(self, path: str) -> bool:
        """Whether its name is, and the folders on the way to it."""
        way = [path, *map(str, PurePosixPath(path).parents)]
        return all(each in self.durable_names for each in way if each in self.named)
