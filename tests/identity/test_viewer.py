"""The viewer's static files and their headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

from demo.ohif_install import CACHE_DIR, INTEGRITY, VERSION, OhifInstallError, ensure_ohif
from demo.viewer import APP_CONFIG, CONTENT_SECURITY_POLICY, ViewerError, create_viewer, inline_script_hashes
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "http://127.0.0.1:8800"
INSTALLED = CACHE_DIR / f"ohif-{VERSION}"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>viewer</title>")
    (folder / "app-config.js").write_text("window.config = 'of the package'")
    (folder / "app.bundle.0f6159c501addfe9.js").write_text("0")
    (folder / "0ddf166f7a343eda.wasm").write_bytes(b"\0asm")
    (folder / "app.bundle.css").write_text("*{}")
    (folder / "sw.js").write_text("importScripts('https://elsewhere.example/x.js')")
    (folder / "assets" / "icon.png").write_bytes(b"png")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.fixture
def client(dist: Path) -> Client:
    return Client(create_viewer(dist, ORIGIN))


@pytest.mark.parametrize("path", ["/", "/index.html", "/viewer", "/callback", "/viewer/x", "/anything"])
def test_pages_of_the_application_are_the_index(client: Client, path: str) -> None:
    response = client.get(path, base_url=ORIGIN)
    if path == "/index.html":
        assert response.status_code == 404  # one address for one page
        return
    assert response.status_code == 200
    assert "<title>viewer" in response.get_data(as_text=True)
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("path", "media_type", "cache"),
    [
        ("/app.bundle.0f6159c501addfe9.js", "text/javascript; charset=utf-8", "immutable"),
        ("/0ddf166f7a343eda.wasm", "application/wasm", "immutable"),
        ("/app.bundle.css", "text/css; charset=utf-8", "no-cache"),
        ("/assets/icon.png", "image/png", "no-cache"),
        ("/app-config.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/no-access.html", "text/html; charset=utf-8", "no-cache"),
    ],
)
def test_files_have_their_types_and_lifetimes(client: Client, path: str, media_type: str, cache: str) -> None:
    response = client.get(path, base_url=ORIGIN)
    assert response.headers["Content-Type"] == media_type
    assert cache in response.headers["Cache-Control"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get(path, base_url=ORIGIN, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


def test_our_configuration_replaces_the_packages(client: Client) -> None:
    assert client.get("/app-config.js", base_url=ORIGIN).data == APP_CONFIG.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd.txt",
        "/link.txt",
        "/sw.js",
        "/missing.js",
        "/icon%00.png",
    ],
)
def test_nothing_but_the_packages_files_is_served(client: Client, path: str) -> None:
    response = client.get(path, base_url=ORIGIN)
    assert response.status_code in {404, 308}
    assert b"secret" not in response.data
    assert b"elsewhere" not in response.data


def test_the_other_name_of_this_machine_leads_to_the_issuers(client: Client) -> None:
    response = client.get("/viewer?StudyInstanceUIDs=1.2", base_url="http://localhost:8800")
    assert response.status_code == 307
    assert response.location == f"{ORIGIN}/viewer?StudyInstanceUIDs=1.2"


def test_signing_out_ends_at_the_study_list(client: Client) -> None:
    assert client.get("/signed-out.html", base_url=ORIGIN).location == "/"


def test_a_package_with_other_inline_scripts_is_refused(dist: Path) -> None:
    (dist / "index.html").write_text("<script>alert(1)</script>")
    with pytest.raises(ViewerError, match="sha256-"):
        create_viewer(dist)


def test_a_missing_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ViewerError, match=r"index\.html is missing"):
        create_viewer(tmp_path)


def test_the_configuration_names_no_other_host() -> None:
    text = re.sub(r"//.*", "", APP_CONFIG.read_text(encoding="utf-8"))
    assert "http" not in text.replace("httpErrorHandler", "")
    assert "thumbnailDirect" not in text
    assert "dicomjson" not in text
    assert "dicomwebproxy" not in text


def test_the_list_holds_all_that_a_search_answers() -> None:
    most = GatewaySettings.model_fields["qido_max_results"].default
    assert f"queryLimit: {most}," in APP_CONFIG.read_text(encoding="utf-8")


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="OHIF was not fetched yet (python -m demo.ohif_install)")
def test_the_real_package_is_served_under_this_policy() -> None:
    hashes = inline_script_hashes((INSTALLED / "index.html").read_text(encoding="utf-8"))
    assert len(hashes) == 2
    assert all(each in CONTENT_SECURITY_POLICY for each in hashes)
    assert ensure_ohif() == INSTALLED
    client = Client(create_viewer(INSTALLED, ORIGIN))
    assert client.get("/", base_url=ORIGIN).status_code == 200


def _fake_npm(folder: Path, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no network >&2; exit 1", "no network"),
        ("exit 0", "no package"),
        ("echo other > ohif-app.tgz", "pinned"),
    ],
)
def test_a_fetch_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    _fake_npm(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cache = tmp_path / "cache"
    with pytest.raises(OhifInstallError, match=reason):
        ensure_ohif(cache)
    assert list(cache.iterdir()) == []


def test_the_package_is_pinned_by_its_digest() -> None:
    assert INTEGRITY.startswith("sha512-")
