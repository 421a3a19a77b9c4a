"""nginx by its production files, in front of the real gateway and a real archive."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from pacs.catalog import Catalog
from support import nginx_services as services
from support.gateway import STORED, SampleArchive, TurnedClock, World, add_clinics, own, running_issuer
from support.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import urllib3

INDEX = "<!doctype html><title>viewer</title>"


@dataclass
class Site:
    """nginx and all that stands behind it."""

    nginx: Nginx
    world: World
    gateway: services.Watched
    archive: services.Recorder
    keycloak: services.Recorder
    names: services.Names

    def dicom(
        self, path: str, token: str | None = None, method: str = "GET", **headers: str
    ) -> urllib3.BaseHTTPResponse:
        """Ask for a path below /dicom-web; by nora of northside unless told otherwise."""
        bearer = self.world.issuer.token() if token is None else token
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            named["Authorization"] = f"Bearer {bearer}"
        return self.nginx.request(method, f"/dicom-web{path}", named)


@contextmanager
def running_site(
    folder: Path, template: Path, archive: SampleArchive, viewer: Path, changes: Mapping[str, str]
) -> Iterator[Site]:
    with ExitStack() as stack:
        store = stack.enter_context(services.relay(archive.settings))
        keycloak = stack.enter_context(services.echo())
        names = services.Names(dict.fromkeys(("gateway", "keycloak", "orthanc"), "127.0.0.1"))
        stack.callback(names.close)
        shutil.copyfile(template, folder / "catalog.db")
        catalog = Catalog.open(SecretStr(f"sqlite:///{folder / 'catalog.db'}"))
        stack.callback(catalog.close)
        issuer = stack.enter_context(running_issuer(TurnedClock()))
        watched = services.Watched(None)
        stack.enter_context(watched.running())
        upstreams = {
            "gateway": watched.port,
            "keycloak": keycloak.port,
            "orthanc": store.port,
            "grafana": keycloak.port,
        }
        nginx = Nginx(folder, upstreams, names.address, viewer, changes)
        world = World(catalog, issuer, archive, accel_prefix="/_archive", public_url=nginx.public_url)
        stack.callback(world.close)
        watched.application = world.app
        add_clinics(catalog)
        for sample in STORED:
            if sample.owner:
                own(catalog, sample, archive.said[sample.name])
        stack.callback(nginx.stop)
        yield Site(nginx.start(), world, watched, store, keycloak, names)
