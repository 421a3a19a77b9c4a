"""A real browser for the tests: Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

# A context's own timeout does not count for these: 5 s, in which a slow machine does not draw OHIF.
expect.set_options(timeout=60_000)


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.fail("no Chromium is installed; scripts/chromium.sh says how to get it")


@contextmanager
def running(*arguments: str) -> Iterator[Browser]:
    """Chromium; `arguments` are more of its command line's."""
    quiet = [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-quic",
        "--disable-sync",
        "--no-first-run",
    ]
    # Without a graphics card WebGL is drawn by the processor.
    drawing = ["--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
    if os.geteuid() == 0:
        quiet.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=[*quiet, *drawing, *arguments])
        yield browser
        browser.close()


def keep_picture(page: Page, name: str) -> None:
    """Saves the page's picture under build/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
