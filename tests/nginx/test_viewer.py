"""OHIF's files, as demo/viewer.py serves them."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

import pytest

from demo.viewer import APP_CONFIG, MEDIA_TYPES, SECURITY_HEADERS, create_viewer
from support.nginx import SOURCE

if TYPE_CHECKING:
    from pathlib import Path

    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
PATHS = [
    "/",
    "/viewer",
    "/viewer?StudyInstanceUIDs=1.2.3",
    "/callback",
    "/viewer/x",
    "/anything",
    "/assets",
    "/assets/",
    "/index.html",
    "/app-config.js",
    "/app.bundle.0f6159c501addfe9.js",
    "/0ddf166f7a343eda.wasm",
    "/app.bundle.css",
    "/manifest.json",
    "/assets/icon.png",
    "/assets/missing.png",
    "/missing.0f6159c501addfe9.js",
    "/no-access.html",
    "/signed-out.html",
    "/sw.js",
    "/google.js",
    "/silent-refresh.html",
    "/serve.json",
    "/_headers",
    "/_redirects",
    "/viewer/x.js",
    "/%2e%2e/secret.txt",
    "/assets/..%2f..%2fsecret.txt",
]
COMPARED = ("Content-Type", "Cache-Control", "Location", *SECURITY_HEADERS)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_answered_as_the_demo_does(path: str, site: Site, viewer: Path) -> None:
    asked = create_viewer(viewer).test_client().get(path)
    got = site.nginx.get(path)
    if asked.status_code == 404 and got.status == 400:
        return  # a path that leaves the root is no path
    assert got.status == asked.status_code
    expected = {name: asked.headers.get(name) for name in COMPARED}
    if got.status != 200:
        expected.pop("Content-Type")
    assert {name: got.headers.get(name) for name in expected} == expected
    if got.status == 200:
        assert got.data == asked.data


def test_our_configuration_replaces_the_packages(site: Site) -> None:
    assert site.nginx.get("/app-config.js").data == APP_CONFIG.read_bytes()


def test_without_our_configuration_there_is_none(site: Site, tmp_path: Path) -> None:
    text = (SOURCE / "snippets" / "viewer.conf").read_text()
    place = text[text.index("location = /app-config.js") :]
    assert "root /usr/share/nginx/clinicpacs;" in place[: place.index("}")]


def test_media_types_are_those_of_the_demo() -> None:
    text = (SOURCE / "snippets" / "media-types.conf").read_text()
    found = {
        f".{suffix}": media_type
        for media_type, suffixes in re.findall(r"^    (\S+/\S+) ([a-z0-9 ]+);$", text, re.MULTILINE)
        for suffix in suffixes.split()
    }
    assert found == {suffix: each.partition(";")[0] for suffix, each in MEDIA_TYPES.items()}


def test_large_files_are_compressed(site: Site) -> None:
    plain = site.nginx.get("/app.bundle.0f6159c501addfe9.js", Accept_Encoding="identity")
    packed = site.nginx.request("GET", "/app.bundle.0f6159c501addfe9.js", {"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert packed.data in {plain.data, gzip.compress(plain.data)}


def test_a_known_file_is_not_sent_again(site: Site) -> None:
    first = site.nginx.get("/app.bundle.css")
    assert site.nginx.get("/app.bundle.css", If_None_Match=first.headers["ETag"]).status == 304


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_files_are_only_read(method: str, site: Site) -> None:
    assert site.nginx.request(method, "/app.bundle.css").status == 405


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/nginx_status", "/metrics/", "/%6detrics", "//metrics"]
)
def test_what_services_tell_monitoring_is_not_published(path: str, site: Site) -> None:
    assert site.nginx.get(path).status == 404
