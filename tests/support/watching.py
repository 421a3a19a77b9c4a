"""What a browser is answered while somebody's access is taken away, by the browser's own clock."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error

from support.viewer import kept_token, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Response

_OF_A_STUDY = re.compile(r"/dicom-web/studies/[0-9.]+/|/orthanc/(?!callback)")
_TOKEN = "/protocol/openid-connect/token"
CLOSED_SECONDS = 60
"""Access tokens of 30 s, counted from a whole second, and 30 s that the gateway allows for clocks."""
QUIET_SECONDS = 10


@dataclass(frozen=True)
class Answered:
    """One answer: when the browser asked, in seconds since the epoch."""

    at: float
    status: int
    path: str


@dataclass
class Watch:
    """What a page was answered about studies, and when it renewed its token.

    Requests that a test makes beside the page are added by `note`.
    """

    page: Page
    studies: list[Answered] = field(default_factory=list)
    renewals: list[Answered] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("response", self._keep)

    def _keep(self, got: Response) -> None:
        path = got.url.partition("//")[2].partition("/")[2].partition("?")[0]
        answered = Answered(got.request.timing["startTime"] / 1000, got.status, f"/{path}")
        if answered.path.endswith(_TOKEN):
            self.renewals.append(answered)
        elif _OF_A_STUDY.match(answered.path):
            self.studies.append(answered)

    def note(self, at: float, status: int, path: str) -> None:
        """An answer to a request that was not the page's."""
        self.studies.append(Answered(at, status, path))

    def given(self, since: float = 0) -> list[Answered]:
        """What of studies was handed out that was asked for since then."""
        return [each for each in self.studies if each.status in {200, 206, 304} and each.at >= since]

    def frames(self, since: float = 0) -> list[Answered]:
        """Pictures among these."""
        return [each for each in self.given(since) if "/frames/" in each.path]

    def refused(self, since: float) -> list[Answered]:
        """What was refused for who asked."""
        return [each for each in self.studies if each.status in {401, 403} and each.at >= since]

    def renewed(self, since: float) -> list[Answered]:
        """Renewals that began since then."""
        return [each for each in self.renewals if each.at >= since]

    def until_closed(self, since: float, go_on: Callable[[], None]) -> float:
        """Have the page `go_on` until nothing was given for QUIET_SECONDS; seconds from `since` to the last.

        Fails if something is given that was asked for later than CLOSED_SECONDS after `since`.
        """
        while True:
            go_on()
            self.page.wait_for_timeout(250)
            last = max((each.at for each in self.given(since)), default=since)
            if last - since > CLOSED_SECONDS:
                pytest.fail(f"open after {last - since:.1f} s: {self.given(since)[-3:]}")
            if time.time() - last > QUIET_SECONDS:
                return last - since


class Scroller:
    """A physician who scrolls in an open study, and whoever else may have had the viewer's tokens.

    Args:
        page: with the mouse over the study's pictures.
        ask: gives the status for a path with a token, asked beside the page.
    """

    def __init__(self, page: Page, ask: Callable[[str, str], int]) -> None:
        self.page = page
        self.watch = Watch(page)
        self._address = page.url
        study = page.url.partition("StudyInstanceUIDs=")[2].partition("&")[0]
        self._beside = f"/dicom-web/studies/{study}/series"
        self._ask = ask
        self._tokens: list[str] = []

    def scroll(self) -> None:
        """Through pictures that the viewer has to fetch anew; where it has given up, nothing happens."""
        with suppress(Error):  # of a page that is being left
            self.page.evaluate("window.cornerstone?.cache.purgeCache()")
            self.page.mouse.wheel(0, 120 if int(time.time() * 2) % 20 < 10 else -120)
            token = kept_token(self.page)
            if token and token not in self._tokens:
                self._tokens.append(token)
        # One after the other: searches are limited to 20 a second.
        token = self._tokens.pop(0)
        self._tokens.append(token)
        at = time.time()
        self.watch.note(at, self._ask(self._beside, token), self._beside)

    def scroll_past_a_renewal(self) -> None:
        """Until pictures have come by a renewed token."""
        wait_until(self._has_scrolled_on, "no picture came with a renewed token")

    def _has_scrolled_on(self) -> bool:
        self.scroll()
        self.page.wait_for_timeout(200)
        renewals = self.watch.renewals
        return bool(renewals) and len(self.watch.frames(since=renewals[-1].at)) > 3

    def _is_at(self, pattern: str) -> bool:
        # `wait_for_url` fails when the viewer leaves a page for another before it is loaded.
        self.page.wait_for_timeout(200)
        return fnmatch(self.page.url, pattern)

    def until_shut_out(self, *, renewals_answer: int, led_to: str) -> float:
        """Scroll on; the seconds until nothing is given any more.

        It must not only have stopped asking: the viewer has renewed its token, to no avail, its own requests
        were refused, and to come again does not help.

        Args:
            renewals_answer: what the issuer says to each renewal from now on.
            led_to: the pattern of the address where it ends.
        """
        taken = time.time()
        seconds = self.watch.until_closed(taken, self.scroll)
        assert {each.status for each in self.watch.renewed(since=taken)} == {renewals_answer}
        assert {each.path for each in self.watch.refused(since=taken)} > {self._beside}
        again = time.time()
        self.page.goto(self._address)
        wait_until(lambda: self._is_at(led_to), f"it does not end at {led_to}")
        self.scroll()
        assert self.watch.given(since=again) == []
        return seconds


class Asker:
    """An open page of Explorer that asks for the studies again and again, and the cookies that it had."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.watch = Watch(page)
        self.cookies: list[str] = []

    def ask(self) -> None:
        """Once, as Explorer's own scripts do."""
        self.page.evaluate("fetch('/orthanc/studies').then((got) => got.status)")
        kept = [each["value"] for each in self.page.context.cookies() if each["path"] == "/orthanc"]
        self.cookies += [value for value in kept if value not in self.cookies]

    def ask_past_a_renewal(self) -> None:
        """Until the session was renewed, and not once refused."""
        wait_until(self._has_been_renewed, "the session is not renewed", 90)
        assert {each.status for each in self.watch.studies if each.path == "/orthanc/studies"} == {200}

    def _has_been_renewed(self) -> bool:
        self.ask()
        return len(self.cookies) > 1

    def until_shut_out(self, *, status: int) -> float:
        """Ask on; the seconds until nothing is given any more, but this answer."""
        taken = time.time()
        seconds = self.watch.until_closed(taken, self.ask)
        assert {each.status for each in self.watch.refused(since=taken)} == {status}
        return seconds
