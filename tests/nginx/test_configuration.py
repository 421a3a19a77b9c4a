"""The files themselves: how the image fills them in, and how it takes up a new certificate."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.problems import BadGateway, NotFound, UriTooLong, problem_body
from support.gateway import MINE
from support.nginx import PASSWORD, SOURCE, fill_in, make_certificate, program
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.nginx import Nginx
    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
SCRIPTS = SOURCE / "docker-entrypoint.d"
GIVEN = {
    "PUBLIC_URL": "https://pacs.example.org",
    "ARCHIVE_GATEWAY_PASSWORD": PASSWORD,
    "NGINX_RESOLVER": "127.0.0.11",
}


def filled(folder: Path, **environment: str) -> str:
    result = fill_in(folder, GIVEN | environment)
    assert result.returncode == 0, result.stderr
    return "".join(path.read_text() for path in sorted(folder.iterdir()))


def test_nginx_finds_no_fault_in_the_files(site: Site) -> None:
    command = site.nginx.command("-t")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr
    assert "[warn]" not in site.nginx.log.read_text()


def test_problems_have_the_gateways_titles_and_sentences() -> None:
    text = (SOURCE / "snippets" / "problems.conf").read_text()
    told = [(int(status), document) for status, document in re.findall(r"return (\d+) '(.*)';", text)]
    details = [json.loads(document)["detail"] for _, document in told]
    assert [document for _, document in told] == [
        problem_body(status, detail) for (status, _), detail in zip(told, details, strict=True)
    ]
    assert {NotFound().detail, UriTooLong().detail, BadGateway().detail} <= set(details)


def test_only_our_variables_are_filled_in(tmp_path: Path) -> None:
    text = filled(tmp_path, request_uri="filled in", HOME="/filled/in")
    assert "${" not in text
    assert "$request_uri" in text
    assert "filled in" not in text
    login = base64.b64encode(f"gateway:{PASSWORD}".encode()).decode()
    assert f'"Basic {login}"' in text


def test_every_variable_of_the_templates_is_made(tmp_path: Path) -> None:
    used = set()
    for template in (SOURCE / "templates").iterdir():
        used |= set(re.findall(r"\$\{([A-Z_0-9]+)\}", template.read_text()))
    script = (SCRIPTS / "16-settings.envsh").read_text()
    made = set(re.findall(r"\b(CLINICPACS_[A-Z_0-9]+)=", script))
    exported = set(re.findall(r"CLINICPACS_[A-Z_0-9]+", script[script.index("export ") :]))
    assert used == made == exported
    for path in (*(SOURCE / "snippets").iterdir(), SOURCE / "nginx.conf"):
        assert "${" not in path.read_text(), f"{path.name} is no template"


def test_the_filled_in_files_are_for_their_owner_only(tmp_path: Path) -> None:
    filled(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("url", "host", "port", "name"),
    [
        ("https://pacs.example.org", "pacs.example.org", "443", "pacs.example.org"),
        ("https://PACS.example.org:443/", "pacs.example.org", "443", "pacs.example.org"),
        ("https://localhost:8443", "localhost:8443", "8443", "localhost"),
        ("https://10.0.0.5", "10.0.0.5", "443", "10.0.0.5"),
    ],
)
def test_the_public_url_is_taken_apart(url: str, host: str, port: str, name: str, tmp_path: Path) -> None:
    text = filled(tmp_path, PUBLIC_URL=url)
    assert f'$public_host {{ default "{host}"; }}' in text
    assert f'$public_port {{ default "{port}"; }}' in text
    assert f"server_name {name} nginx;" in text
    assert f"return 301 https://{host}$request_uri;" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://pacs.example.org"),
        ("PUBLIC_URL", "https://pacs.example.org/path"),
        ("PUBLIC_URL", "https://x; return 200"),
        ("PUBLIC_URL", "https://x\nhttps://y"),
        ("ARCHIVE_GATEWAY_PASSWORD", ""),
        ("FRAME_CACHE_SIZE", "1g; include /etc/passwd"),
        ("FRAME_CACHE_SIZE", "512k"),
        ("FRAME_CACHE_INACTIVE", "soon"),
        ("NGINX_RESOLVER", "name.example"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_the_start(name: str, value: str, tmp_path: Path) -> None:
    result = fill_in(tmp_path, {**GIVEN, name: value})
    assert result.returncode != 0
    assert name in result.stderr
    assert not list(tmp_path.iterdir())


def test_frames_take_less_room_than_there_is_and_never_more_than_the_memory(tmp_path: Path) -> None:
    assert " max_size=1024m " in filled(tmp_path / "whole", FRAME_CACHE_SIZE="2g")
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    settings = scripts / "16-settings.envsh"
    settings.write_text(settings.read_text().replace("/sys/fs/cgroup/", f"{tmp_path}/"))
    limit = tmp_path / "memory.max"
    for given, taken in (("max", True), (str(2304 << 20), True), (str(2303 << 20), False)):
        limit.write_text(f"{given}\n")
        environment = GIVEN | {"FRAME_CACHE_SIZE": "2048m", "SCRIPTS": str(scripts)}
        result = fill_in(tmp_path / "conf.d", environment)
        assert (result.returncode == 0) == taken, result.stderr
    assert "NGINX_MEMORY must be" in result.stderr


def test_a_long_password_stays_on_one_line(tmp_path: Path) -> None:
    text = filled(tmp_path, ARCHIVE_GATEWAY_PASSWORD="x" * 200)
    login = base64.b64encode(b"gateway:" + b"x" * 200).decode()
    assert login in text


def test_the_image_runs_our_scripts() -> None:
    """It ignores those that are not executable, and sources what makes variables before 20-envsubst."""
    found = sorted(path.name for path in SCRIPTS.iterdir())
    assert found == ["16-settings.envsh", "40-reload-on-new-certificate.sh", "50-room-for-frames.sh"]
    assert all(os.access(path, os.X_OK) for path in SCRIPTS.iterdir())


def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    nginx = make_site().nginx
    first = served(nginx)
    with watching(nginx, tmp_path) as log:
        key = nginx.certificates / "privkey.pem"
        whole = key.read_bytes()
        key.write_bytes(b"half a key")
        wait_until(lambda: "is not taken up" in log.read_text(), 60, "it is told", every=0.01)
        assert served(nginx) == first
        key.write_bytes(whole)
        make_certificate(nginx.certificates)
        deadline = time.monotonic() + 60
        while served(nginx) == first:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        told = next(line for line in log.read_text().splitlines() if "is not taken up" in line)
        assert "cannot load certificate key" in told
    assert nginx.get("/healthz").status == 200


def test_frames_are_kept_while_there_is_room(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    said, frame = tmp_path / "percent", f"{MINE.path()}/frames/1"
    fullness = f"#!/bin/sh\nprintf 'of\\nfs 1 1 1 %s%% /\\n' \"$(cat {said})\"\n"

    def look_at(percent: int) -> list[int]:
        """What the archive is asked of two that read the same."""
        said.write_text(str(percent))
        wait_until(lambda: flag.exists() == (percent > 60), 60, "the script has looked", every=0.01)
        site.world.set_study(MINE, revision=100 + percent)
        asked = []
        for _ in range(2):
            before = len(site.archive.asked)
            assert site.dicom(frame).status == 200
            asked.append(len(site.archive.asked) - before)
        return asked

    said.write_text("0")
    flag = site.nginx.folder / "tmp" / "frames-are-full"
    with watching(site.nginx, tmp_path, "50-room-for-frames.sh", "seconds=0.5", df=fullness):
        assert look_at(10) == [1, 0]
        assert look_at(61) == [1, 1]
        assert look_at(60) == [1, 0]


def test_what_is_too_large_is_passed_on_and_not_kept(make_site: Callable[..., Site]) -> None:
    site = make_site({"[0-9]{9}": "[0-9]{3}"})
    for asked in (1, 2):
        assert site.dicom(f"{MINE.path()}/frames/1").status == 200
        assert len(site.archive.asked) == asked


@contextmanager
def watching(
    nginx: Nginx,
    folder: Path,
    name: str = "40-reload-on-new-certificate.sh",
    pause: str = "seconds=60",
    **programs: str,
) -> Iterator[Path]:
    """A script that runs beside nginx in its container, moved as nginx is, with programs of the test's."""
    found = program()
    assert found
    (folder / "bin").mkdir()
    (folder / "bin" / "nginx").symlink_to(found)
    for each, text in programs.items():
        (folder / "bin" / each).write_text(text)
        (folder / "bin" / each).chmod(0o755)
    script = nginx.moved((SCRIPTS / name).read_text())
    waiting = {pause: "seconds=0.05", "watch </dev/null &": "watch </dev/null"}
    for old, new in waiting.items():
        assert old in script
        script = script.replace(old, new)
    log = folder / "script.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", script],
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        )
    deadline = time.monotonic() + 60
    while not log.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.01)
    yield log
    process.terminate()
    process.wait(60)


def served(nginx: Nginx) -> bytes:
    """The certificate that nginx shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with nginx.connect(context) as connection:
        return connection.getpeercert(binary_form=True) or b""
