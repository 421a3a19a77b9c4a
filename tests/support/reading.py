"""Small studies, handed over and read in the production stack by the physicians of the clinics that may."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from support.corpus import make_instance, sample_uid, write_study
from support.inbox import copy_in
from support.stack import wait_until
from support.viewer import kept_token

if TYPE_CHECKING:
    import requests
    from playwright.sync_api import Page
    from pydicom.dataset import FileDataset

    from support.stack import Stack

INSTANCES = 2
"""Of each study."""
OWNERS, GUESTS = 32, 48
"""Rows and columns: they tell whose image it is where two clinics' have the same UIDs."""
FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
FILE = "application/dicom; transfer-syntax=*"


@dataclass(frozen=True)
class Study:
    """A CT study of one series; all are of one patient. `run` sets those of several runs apart."""

    run: str
    name: str

    @property
    def seed(self) -> str:
        return f"{self.run}-{self.name}"

    @property
    def uid(self) -> str:
        return sample_uid(self.seed, "study")

    @property
    def path(self) -> str:
        return f"/studies/{self.uid}"

    @property
    def series(self) -> str:
        return f"/series/{sample_uid(self.seed, 'series', 'CT')}"

    def instance(self, number: int = 1) -> str:
        series = self.series.rpartition("/")[2]
        return f"{self.series}/instances/{sample_uid(self.seed, 'instance', 'CT', series, number)}"

    def pixels(self, number: int = 1) -> bytes:
        """As the owner handed them over."""
        return bytes(make_instance("CT", seed=self.seed, instance_number=number, size=OWNERS).PixelData)


@dataclass(frozen=True)
class Reader:
    """A clinic's physician, whose viewer renews the token."""

    stack: Stack
    page: Page

    def get(self, path: str, accept: str = "application/dicom+json", agent: str = "") -> requests.Response:
        token = wait_until(lambda: kept_token(self.page), 20, "the viewer has a token")
        headers = {"Accept": accept, "User-Agent": agent or "physician"}
        return self.stack.get(f"/dicom-web{path}", token, headers=headers)

    def json(self, path: str) -> list[dict[str, Any]]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def listed(self) -> set[str]:
        return {str(value(each, "0020000D")) for each in self.json("/studies")}

    def sizes(self, study: str) -> set[object]:
        """Of the images, as their metadata says; empty when the study is none that this reader may see."""
        answer = self.get(f"/studies/{study}/metadata")
        assert answer.status_code in {200, 404}
        return {value(each, "00280010") for each in answer.json()} if answer.ok else set()

    def is_shut_out(self, study: Study) -> bool:
        """Whether nothing of the study is there for this reader: neither list, metadata nor frame."""
        ways = [
            (f"{study.path}/metadata", "application/dicom+json"),
            (f"{study.path}/series", "application/dicom+json"),
            (f"{study.path}{study.instance()}/frames/1", FRAME),
            (f"{study.path}{study.instance()}", FILE),
        ]
        return study.uid not in self.listed() and {self.get(*way).status_code for way in ways} == {404}

    def file(self, study: Study, number: int = 1) -> FileDataset:
        """An image as the archive has it."""
        answer = self.get(f"{study.path}{study.instance(number)}", FILE)
        assert answer.status_code == 200, answer.text
        return dcmread(BytesIO(answer.content))

    def cached(self, path: str, accept: str = "application/dicom+json") -> tuple[int, str]:
        """The status, and what nginx' log says of its cache: HIT, MISS, or nothing if it was not asked."""
        agent = secrets.token_hex(8)
        status = self.get(path, accept, agent).status_code
        line = wait_until(lambda: _logged(self.stack, agent), 20, "nginx logs the request")
        return status, str(json.loads(line[line.index("{") :])["cache"])


def _logged(stack: Stack, agent: str) -> str:
    lines = stack.compose("logs", "--no-color", "--tail", "200", "nginx").splitlines()
    return next((line for line in lines if agent in line), "")


def value(dataset: dict[str, Any], tag: str) -> object:
    """Of an attribute in DICOM JSON, the first."""
    return dataset[tag]["Value"][0]


def hand_over(stack: Stack, clinic: str, batch: str, *studies: Study, side: int = OWNERS) -> None:
    """Copy the studies into the clinic's inbox."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - the host's user reads it
        for study in studies:
            folder = Path(scratch) / batch / study.name
            write_study(folder, "CT", instances=INSTANCES, seed=study.seed, size=side)
        copy_in(stack, clinic, Path(scratch) / batch, batch)
