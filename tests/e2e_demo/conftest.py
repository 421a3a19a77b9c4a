"""The whole demo, started by the README's command on free ports, and a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import pytest

from support.browser import keep_picture, running
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
_START_SECONDS = 240


@dataclass
class Demo:
    """A running demo."""

    url: str
    data: Path
    output: Path
    process: subprocess.Popen[bytes]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        pytest.fail(f"the demo did not come up:\n{self.output.read_text()}{self.logs()}")

    def logs(self) -> str:
        found = sorted((self.data / "logs").glob("*.log"))
        return "".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in found)

    def clinicpacs(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """`clinicpacs`, as in another terminal beside the running demo."""
        return subprocess.run(
            [Path(sys.executable).with_name("clinicpacs"), *arguments],
            env={**os.environ, "DATA_PATH": str(self.data)},
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def add_clinic(self, clinic: str, user: str) -> None:
        """A clinic, and a physician of it with the password that all have."""
        done = self.clinicpacs("add-clinic", clinic, f"{clinic.title()} Clinic")
        assert done.returncode == 0, done.stderr
        person = [user, "--email", f"{user}@clinicpacs.example", "--clinic", clinic, "--password-stdin"]
        done = self.clinicpacs("add-user", *person, typed="demo\n")
        assert done.returncode == 0, done.stderr

    def start_another(self, **settings: str) -> subprocess.CompletedProcess[str]:
        """What becomes of a second demo that cannot be."""
        return subprocess.run(
            [sys.executable, "-m", "demo"],
            env={**os.environ, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(data: Path, port: int) -> Demo:
    output = data.with_suffix(".out")
    command = ["make", "demo", f"DEMO_PORT={port}", f"DATA_PATH={data}", "COOLDOWN_SECONDS=2"]
    with output.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    demo = Demo(f"http://127.0.0.1:{port}", data, output, process)
    demo.wait_until_ready()
    return demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = start(tmp_path_factory.mktemp("demo") / "data", free_port())
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running() as chromium:
        yield chromium


@pytest.fixture
def sign_in(browser: Browser, demo: Demo) -> Iterator[Callable[..., Page]]:
    """Opens the demo's URL in a browser of its own, and signs in as a person would."""
    contexts = []

    def as_user(name: str) -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.goto(demo.url)
        page.wait_for_url("**/auth/realms/clinicpacs/**")
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{demo.url}/**")
        page.get_by_text("Study List").first.wait_for()
        page.get_by_text("Confirm and hide").click()
        return page

    yield as_user
    for context in contexts:
        context.close()


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    """Keeps a picture of the page under build/screenshots."""

    return keep_picture


@pytest.fixture
def restart(demo: Demo) -> Callable[[], None]:
    """Starts the demo again on the same folder and port, after it was stopped."""

    def again() -> None:
        demo.process = start(demo.data, int(demo.url.rpartition(":")[2])).process

    return again
