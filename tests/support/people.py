"""Users of the production stack: added by the administrator's command, signed in through Keycloak's pages."""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from support.keycloak_browser import Browser, answered

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from support.keycloak import Keycloak
    from support.stack import Stack

_TEMPORARY = re.compile(r"temporary password, shown only now: (\S+)")


@dataclass
class Physician:
    """A person with an account.

    Attributes:
        temporary: The password that `add-user` printed, until it was used.
        password: The one that the person chooses at the first sign-in.
    """

    name: str
    url: str
    temporary: str | None
    password: str

    @classmethod
    def added(cls, stack: Stack, name: str, *, clinic: str = "", role: str = "") -> Self:
        """By `make add-user`; one who is there already (a stack that was kept) gets a new password."""
        email = f"{name}@clinicpacs.example"
        wanted = {"USERNAME": name, "EMAIL": email, "CLINIC": clinic, "ROLE": role}
        said = stack.make("add-user", **{key: value for key, value in wanted.items() if value})
        found = _TEMPORARY.search(said)
        if found is None:
            again = stack.clinicpacs("add-user", name, f"--email={email}", "--reset-password")
            found = _TEMPORARY.search(again.stdout)
        assert found, said
        return cls(name, stack.url, found[1], f"Aurora over Almaty {secrets.token_hex(4)}!")

    def enter(self, page: Page) -> None:
        """Fills in Keycloak's sign-in page, and the page for a new password where it comes."""
        page.wait_for_url("**/auth/realms/clinicpacs/**")
        page.locator("#username").fill(self.name)
        page.locator("#password").fill(self.temporary or self.password)
        page.locator("#kc-login").click()
        if self.temporary:
            page.locator("#password-new").fill(self.password)
            page.locator("#password-confirm").fill(self.password)
            page.locator("[type=submit]").click()
            self.temporary = None

    def sign_in(self, page: Page) -> Page:
        """Opens the platform and signs in; ends at the study list."""
        page.goto(self.url)
        self.enter(page)
        page.wait_for_url(f"{self.url}/**")
        page.get_by_text("Study List").first.wait_for()
        page.get_by_text("Confirm and hide").click()
        return page

    def signed_in(self, server: Keycloak) -> SignedIn:
        """The same without a real browser, with a new password at the first time."""
        browser = Browser(server)
        answer = browser.sign_in(self.name, self.temporary or self.password)
        if self.temporary:
            answer = browser.change_password(answer, self.password)
            self.temporary = None
        return SignedIn(browser, answered(browser.redeem(answer)))


@dataclass
class SignedIn:
    """A viewer that stays signed in: it renews its access token in the middle of its life, as OHIF does.

    Attributes:
        browser: Keycloak's client.
        tokens: The token endpoint's last answer (RFC 6749 section 5.1).
    """

    browser: Browser
    tokens: dict[str, Any]
    _renew_at: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._renew_at = self._half_time()

    def token(self) -> str:
        """One that is good for some seconds."""
        with self._lock:
            if time.monotonic() > self._renew_at:
                form = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
                self.tokens = answered(self.browser.token(**form))
                self._renew_at = self._half_time()
            return str(self.tokens["access_token"])

    def _half_time(self) -> float:
        return time.monotonic() + float(self.tokens["expires_in"]) / 2
