"""Our platform and bare Orthanc side by side, with the same CT study in both."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3

from bench.servers import bare, load, orthanc, site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.servers.ct import CtStudy
    from bench.servers.site import Site
    from support.orthanc import Orthanc

FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
JSON = "application/dicom+json"
"""As OHIF asks, by our app-config.js."""
PEER = "bare Orthanc"

Stages = list[list[tuple[str, str]]]
"""Addresses below the DICOMweb root and their Accept; see `load.Load`."""


@dataclass(frozen=True)
class Scene:
    """Both, and one who asks them the same."""

    ours: Site
    peer: Orthanc
    study: CtStudy

    def ask_ours(
        self, stages: Stages, *, token: str, tls: bool = False, connections: int = 16, seconds: float = 0
    ) -> load.Report:
        """Through nginx and gateway."""
        nginx = self.ours.nginx
        return load.run(
            load.Load(
                port=nginx.https_port if tls else self.ours.plain_port,
                headers={
                    "Host": f"localhost:{nginx.https_port}",
                    "Authorization": f"Bearer {token}",
                    "Accept-Encoding": "gzip",
                },
                stages=_below_root(stages),
                connections=connections,
                authority=str(nginx.certificates / "fullchain.pem") if tls else "",
                seconds=seconds,
            )
        )

    def ask_gateway(self, stages: Stages, *, token: str, seconds: float) -> load.Report:
        """The gateway itself, as nginx does over connections that it keeps; no picture is sent."""
        port = urlsplit(self.ours.gateway_url).port
        assert port is not None
        headers = {"Host": f"localhost:{port}", "Authorization": f"Bearer {token}"}
        return load.run(load.Load(port, headers, _below_root(stages), seconds=seconds))

    def ask_peer(self, stages: Stages, *, connections: int = 16, seconds: float = 0) -> load.Report:
        """Bare Orthanc on its own port, nobody checking anything."""
        port = urlsplit(self.peer.url).port
        assert port is not None
        headers = {"Host": f"localhost:{port}", "Accept-Encoding": "gzip"}
        return load.run(load.Load(port, headers, _below_root(stages), connections, seconds=seconds))

    def frames(self, first: int, count: int) -> Stages:
        """One stage: the frames of so many slices."""
        return [[(self.study.frame_path(number), FRAME) for number in range(first, first + count)]]

    def renew(self) -> None:
        """Have nothing of before found in nginx's cache."""
        self.ours.renew(self.study.uid)

    def check(self) -> None:
        """Both send the same pixels; or nothing that is measured counts."""
        path = self.study.frame_path(1)
        token = self.ours.token()
        mine = self.ours.nginx.get(f"/dicom-web{path}", Authorization=f"Bearer {token}", Accept=FRAME).data
        theirs = urllib3.request("GET", f"{self.peer.dicomweb_url}{path}", headers={"Accept": FRAME}).data
        pixels = [max(each.split(b"\r\n"), key=len) for each in (mine, theirs)]
        if pixels[0] != pixels[1]:
            raise SystemExit("the two answer with different frames")


@contextmanager
def playing(folder: Path, study: CtStudy, *, database_url: str = "") -> Iterator[Scene]:
    """Start both, and file the study in both."""
    with ExitStack() as stack:
        archive = stack.enter_context(orthanc.running(folder / "orthanc"))
        ours = stack.enter_context(site.running(folder / "site", archive, database_url=database_url))
        peer = stack.enter_context(bare.running(folder / "bare"))
        study.store(archive)
        study.store(peer)
        ours.own(study.uid)
        scene = Scene(ours, peer, study)
        scene.check()
        yield scene


def _below_root(stages: Stages) -> Stages:
    return [[(f"/dicom-web{path}", accept) for path, accept in stage] for stage in stages]
