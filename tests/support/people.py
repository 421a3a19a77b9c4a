"""Users of the production stack: added by the administrator's command, signed in through Keycloak's pages."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
