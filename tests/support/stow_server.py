"""A small DICOMweb archive on a real socket that can be told to misbehave, for tests of the importer.

It keeps the bytes of what it is sent by SOPInstanceUID. `rule` is asked before each STOW-RS request and
may answer with one of the faults below; `None` stores as a good archive does.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pydicom

if TYPE_CHECKING:
    from collections.abc import Callable

DICOM_JSON = "application/dicom+json"
_READ = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "PatientID", "PatientName"]
_READ += ["StudyDate", "StudyTime", "Modality", "InstitutionName", "AccessionNumber"]


@dataclass(frozen=True)
class Answers:
    """An HTTP answer; nothing is stored."""

    status: int
    body: bytes = b"<html>an error</html>"
    content_type: str = "text/html"
    location: str = ""
    read_body: bool = True


@dataclass(frozen=True)
class Resets:
    """The connection is reset after this many bytes of the body were read."""

    after: int = 1000


@dataclass(frozen=True)
class CutAfterStoring:
    """Everything is stored, and the connection is cut before the answer."""


@dataclass(frozen=True)
class Hangs:
    """Nothing is answered until the event is set, and then the connection is cut."""

    until: threading.Event


@dataclass(frozen=True)
class Refuses:
    """These instances (None: all) are listed as failed with this code, the others are stored."""

    code: int
    uids: frozenset[str] | None = None


@dataclass(frozen=True)
class CannotName:
    """These instances (None: all) are refused in OtherFailuresSequence only, the others are stored."""

    code: int
    uids: frozenset[str] | None = None


@dataclass(frozen=True)
class Warns:
    """All is stored, and listed with this warning."""

    code: int


@dataclass(frozen=True)
class Omits:
    """These instances (None: all) are neither stored nor listed."""

    uids: frozenset[str] | None = None
    status: int = 200


@dataclass(frozen=True)
class Swallows:
    """The body is read piece by piece and dropped; this instance is listed as stored. Only from `peek`."""

    uid: str


Fault = Swallows | Answers | Resets | CutAfterStoring | Hangs | Refuses | CannotName | Warns | Omits


@dataclass(frozen=True)
class Sent:
    """One STOW-RS request: the instances' UIDs and the size of the body."""

    uids: tuple[str, ...]
    size: int
    number: int
    at: float


@dataclass
class Stored:
    """One instance."""

    content: bytes
    header: pydicom.Dataset


@dataclass
class StowServer:
    """Start it, tell its `url` to a client, look at what arrived."""

    rule: Callable[[Sent], Fault | None] = lambda _sent: None
    stored: dict[str, Stored] = field(default_factory=dict)
    requests: list[Sent] = field(default_factory=list)
    times_stored: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    overwrites: bool = True
    searches_fail: bool = False
    search_rule: Callable[[str], Answers | Hangs | None] = lambda _path: None
    """Asked before each search with its path and query."""
    searches: list[str] = field(default_factory=list)
    most_together: int = 0
    port: int = 0
    _together: int = 0
    _together_uids: list[str] = field(default_factory=list)
    overlaps: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        handler = type("Handler", (_Handler,), {"archive": self})
        server = _Server(("127.0.0.1", self.port), handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Refuse connections from now on, and cut those there are."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            server.cut()

    def begin(self, uids: tuple[str, ...], size: int) -> Sent:
        with self.lock:
            self._together += 1
            self.most_together = max(self.most_together, self._together)
            self.overlaps += bool(set(uids) & set(self._together_uids)) or len(set(uids)) < len(uids)
            self._together_uids += uids
            sent = Sent(uids, size, len(self.requests), time.monotonic())
            self.requests.append(sent)
            return sent

    def end(self, sent: Sent) -> None:
        with self.lock:
            self._together -= 1
            for uid in sent.uids:
                self._together_uids.remove(uid)

    def keep(self, parts: dict[str, Stored]) -> None:
        with self.lock:
            for uid, part in parts.items():
                if self.overwrites or uid not in self.stored:
                    self.stored[uid] = part
                self.times_stored[uid] += 1

    def find(self, **wanted: str) -> list[pydicom.Dataset]:
        with self.lock:
            return [
                each.header
                for each in self.stored.values()
                if all(str(each.header.get(key)) == value for key, value in wanted.items())
            ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        for each in list(self.open):
            _reset(each)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is part of the game."""


def _reset(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


class _Handler(BaseHTTPRequestHandler):
    archive: StowServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, content_type: str, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if status == HTTPStatus.BAD_REQUEST and content_type == DICOM_JSON:
            self.send_header("Content-Type", "text/plain")  # Orthanc sends both (measured, 1.12)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode(), DICOM_JSON)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        parts = url.path.strip("/").split("/")
        if parts == ["system"]:
            self._json(200, {"OverwriteInstances": self.archive.overwrites})
        elif self.archive.searches_fail:
            self._answer(503, b"", "text/plain")
        elif fault := self._search_fault():
            self._fail_search(fault)
        elif parts[1:] == ["studies"]:
            self._json(200, self._studies(query.get("StudyInstanceUID")))
        elif len(parts) == 4 and parts[3] == "series":
            self._json(200, self._series(parts[2]))
        elif len(parts) == 4 and parts[3] == "instances":
            self._instances(query, StudyInstanceUID=parts[2])
        elif len(parts) == 6 and parts[5] == "instances":
            self._instances(query, StudyInstanceUID=parts[2], SeriesInstanceUID=parts[4])
        elif len(parts) == 8 and parts[7] == "metadata":
            self._metadata(parts[6])
        else:
            self._json(404, {})

    def _search_fault(self) -> Answers | Hangs | None:
        with self.archive.lock:
            self.archive.searches.append(self.path)
        return self.archive.search_rule(self.path)

    def _fail_search(self, fault: Answers | Hangs) -> None:
        if isinstance(fault, Answers):
            self._answer(fault.status, fault.body, fault.content_type, fault.location)
        else:
            fault.until.wait(60)
            self._cut()

    def _instances(self, query: dict[str, list[str]], **wanted: str) -> None:
        wanted |= {key: query[key][0] for key in ("SOPInstanceUID",) if key in query}
        found = self.archive.find(**wanted)[int(query.get("offset", ["0"])[0]) :]
        self._json(200, [{"00080018": {"vr": "UI", "Value": [each.SOPInstanceUID]}} for each in found])

    def _metadata(self, sop_instance_uid: str) -> None:
        content = self.archive.stored[sop_instance_uid].content
        header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        self._json(200, [header.to_json_dict(suppress_invalid_tags=True)])

    def _studies(self, wanted: list[str] | None) -> list[Any]:
        found = {}
        for header in self.archive.find(**({"StudyInstanceUID": wanted[0]} if wanted else {})):
            found[header.StudyInstanceUID] = {
                "0020000D": {"vr": "UI", "Value": [header.StudyInstanceUID]},
                "00100020": {"vr": "LO", "Value": [str(header.get("PatientID", ""))]},
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": str(header.get("PatientName", ""))}]},
                "00080080": {"vr": "LO", "Value": [str(header.get("InstitutionName", ""))]},
            }
        return list(found.values())

    def _series(self, study_uid: str) -> list[Any]:
        by_series: dict[str, list[pydicom.Dataset]] = defaultdict(list)
        for header in self.archive.find(StudyInstanceUID=study_uid):
            by_series[header.SeriesInstanceUID].append(header)
        return [
            {
                "0020000E": {"vr": "UI", "Value": [uid]},
                "00080060": {"vr": "CS", "Value": [str(headers[0].get("Modality", "OT"))]},
                "00201209": {"vr": "IS", "Value": [len(headers)]},
            }
            for uid, headers in by_series.items()
        ]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        peek = getattr(self.archive.rule, "peek", None)
        early = peek(length) if peek else None
        if isinstance(early, Resets):
            self.rfile.read(min(length, early.after))
            self._cut()
            return
        if isinstance(early, Swallows):
            left = length
            while left and (piece := self.rfile.read(min(left, 1 << 20))):
                left -= len(piece)
            self.archive.times_stored[early.uid] += not left
            self._json(200, _told([early.uid], {}))
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self._cut()
            return
        parts = _parts(body, self.headers["Content-Type"])
        sent = self.archive.begin(tuple(uid for uid, _ in parts), length)
        try:
            self._act(self.archive.rule(sent), parts)
        finally:
            self.archive.end(sent)

    def _act(self, fault: Fault | None, parts: list[tuple[str, Stored]]) -> None:
        known = dict(parts)
        match fault:
            case None:
                self.archive.keep(known)
                self._json(200, _told(list(known), {}))
            case Answers():
                self._answer(fault.status, fault.body, fault.content_type, fault.location)
            case Resets():
                self._cut()
            case CutAfterStoring():
                self.archive.keep(known)
                self._cut()
            case Hangs(until):
                until.wait(60)
                self._cut()
            case Refuses(code, uids):
                refused = set(known) if uids is None else set(known) & uids
                self.archive.keep({uid: part for uid, part in known.items() if uid not in refused})
                status = 409 if len(refused) == len(known) else 202 if refused else 200
                self._json(
                    status, _told([uid for uid in known if uid not in refused], dict.fromkeys(refused, code))
                )
            case CannotName():
                self._refuse_unnamed(fault, known)
            case Warns(code):
                self.archive.keep(known)
                self._json(202, _told(list(known), {}, code))
            case Omits(uids, status):
                omitted = set(known) if uids is None else set(known) & uids
                self.archive.keep({uid: part for uid, part in known.items() if uid not in omitted})
                self._json(
                    status if omitted else 200, _told([uid for uid in known if uid not in omitted], {})
                )

    def _refuse_unnamed(self, fault: CannotName, known: dict[str, Stored]) -> None:
        kept = {uid: part for uid, part in known.items() if fault.uids is not None and uid not in fault.uids}
        self.archive.keep(kept)
        told = _told(list(kept), {}) if kept else {}
        if others := [{"00081197": {"vr": "US", "Value": [fault.code]}}] * (len(known) - len(kept)):
            told["0008119A"] = {"vr": "SQ", "Value": others}
        self._json(200 if not others else 202 if kept else 409, told)

    def _cut(self) -> None:
        self.close_connection = True
        _reset(self.connection)


def _told(stored: list[str], failed: dict[str, int], warning: int | None = None) -> dict[str, Any]:
    def item(uid: str, tag: str, code: int | None) -> dict[str, Any]:
        told: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
        return told | ({tag: {"vr": "US", "Value": [code]}} if code is not None else {})

    return {
        "00081190": {"vr": "UR", "Value": ["http://localhost/studies"]},
        "00081199": {"vr": "SQ", "Value": [item(uid, "00081196", warning) for uid in stored]},
        "00081198": {"vr": "SQ", "Value": [item(uid, "00081197", code) for uid, code in failed.items()]},
    }


def _parts(body: bytes, content_type: str) -> list[tuple[str, Stored]]:
    found = re.search(r"boundary=([^;]+)", content_type)
    assert found, content_type
    delimiter = b"--" + found[1].encode()
    parts = []
    for piece in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:-1]:
        content = piece.partition(b"\r\n\r\n")[2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=_READ)
        parts.append((str(header.SOPInstanceUID), Stored(content, header)))
    return parts
