"""An archive as its clients see it, and small studies to put into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote
from uuid import uuid4

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.uid import generate_uid

from support.corpus import instance_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from demo.archive.server import ArchiveProcess

DICOM = "application/dicom"


@dataclass
class Web:
    """An archive as its clients see it."""

    kind: str
    url: str
    auth: tuple[str, str]
    root: Path | None = None
    process: ArchiveProcess | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.auth = self.auth
        self.session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A server that stops waits for connections that are kept open.
        self.session.close()

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(self.url, session=self.session)

    def store(self, *parts: bytes, path: str = "/studies", part_type: str = DICOM) -> requests.Response:
        boundary = uuid4().hex
        return self.session.post(
            self.url + path,
            data=multipart(boundary, parts, part_type),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
            timeout=60,
        )

    def get(self, path: str, accept: str | None = None, /, **parameters: str) -> requests.Response:
        headers = {} if accept is None else {"Accept": accept}
        # Orthanc 1.10 does not find what is asked for with an encoded asterisk.
        query = "&".join(f"{name}={quote(value, safe='*?^,')}" for name, value in parameters.items())
        return self.session.get(f"{self.url}{path}?{query}", headers=headers, timeout=60)

    def found(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        answer = self.get(path, "application/dicom+json", **parameters)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


def multipart(boundary: str, parts: Iterable[bytes], part_type: str = DICOM) -> bytes:
    head = f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def stored_uids(answer: requests.Response) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.json()["00081199"].get("Value", [])]


def failures(answer: requests.Response) -> dict[str, int]:
    items = answer.json()["00081198"].get("Value", [])
    return {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in items}


def values(dataset: dict[str, Any], tag: str) -> list[Any]:
    return list(dataset.get(tag, {}).get("Value", []))


class Study:
    """UIDs of a study of the test's own, and files of it."""

    def __init__(self) -> None:
        self.uid, self.series = generate_uid(), generate_uid()

    def file(self, modality: str = "CT", *, number: int = 1, **options: Any) -> bytes:
        chosen = {"study_uid": self.uid, "series_uid": self.series, "sop_instance_uid": self.sop(number)}
        return instance_bytes(modality, instance_number=number, **chosen | options)

    def sop(self, number: int = 1) -> str:
        return f"{self.uid[:52]}.{number}"

    def path(self, number: int | None = None) -> str:
        series = f"/studies/{self.uid}/series/{self.series}"
        return series if number is None else f"{series}/instances/{self.sop(number)}"
