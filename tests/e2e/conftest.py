"""The production stack, set up and brought up once for the whole run; see run.sh."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import browser as chromium
from support.people import Physician
from support.stack import Stack, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

_HERE = Path(__file__).parent
CLINICS = {"denscan-almaty": "Denscan Almaty", "northside": "Northside Clinic"}
USERS = {
    "dr.smith": ("denscan-almaty", ""),
    "nora": ("northside", ""),
    "rita": ("", "radiologist"),
    "ada": ("", "pacs-admin"),
    "stray": ("", ""),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker("e2e")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The running platform, with nothing in it."""
    root = Path(os.environ["E2E_WORK"])
    ready = root / ".ready"
    if ready.exists():
        running = Stack(root)
        running.wait_until_healthy()
    else:
        running = prepare(root, os.environ["E2E_COMPOSE_FILE"])
        ready.touch()
    yield running
    logs = root.parent / "logs"
    logs.mkdir(exist_ok=True)
    for service in running.containers():
        (logs / f"{service}.log").write_text(running.logs(service), encoding="utf-8")
    stages = [f"{stage}: {seconds:.0f} s\n" for stage, seconds in running.seconds.items()]
    (logs / "stages.txt").write_text("".join(stages), encoding="utf-8")


@pytest.fixture(scope="session")
def clinics(stack: Stack) -> Stack:
    """The platform with two clinics, added as an administrator does."""
    for clinic, name in CLINICS.items():
        stack.make("add-clinic", CLINIC_ID=clinic, CLINIC_NAME=name)
    return stack


@pytest.fixture(scope="session")
def people(clinics: Stack) -> dict[str, Physician]:
    """Users of these clinics and of none, each with a password of their own, chosen at the first sign-in."""
    return {
        name: Physician.added(clinics, name, clinic=clinic, role=role)
        for name, (clinic, role) in USERS.items()
    }


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium.running() as running:
        yield running


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[[], BrowserContext]]:
    """Browsers that know nothing of each other."""
    contexts = []

    def new() -> BrowserContext:
        # The certificate is the installation's own: browsers warn of it once, and so it is here.
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 900})
        context.set_default_timeout(60_000)
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def sign_in(people: dict[str, Physician], new_context: Callable[[], BrowserContext]) -> Callable[[str], Page]:
    """Opens the platform in a browser of its own and signs in as a person would."""
    return lambda name: people[name].sign_in(new_context().new_page())
