"""The demo's clinics and users. Every one of them is made up."""

from __future__ import annotations

from dataclasses import dataclass

from demo.issuer.config import SampleUser

PASSWORD = "demo"  # noqa: S105 - it is printed on the sign-in page

CLINICS = {"northside": "Northside Clinic", "southside": "Southside Clinic"}


@dataclass(frozen=True)
class DemoUser:
    """One login."""

    username: str
    name: str
    clinics: tuple[str, ...]
    roles: tuple[str, ...]
    sees: str

    @property
    def email(self) -> str:
        """An address that cannot exist (RFC 2606)."""
        return f"{self.username}@clinicpacs.example"

    def as_sample(self) -> SampleUser:
        """For the sign-in page."""
        return SampleUser(self.username, PASSWORD, self.sees)


USERS = (
    DemoUser("nora", "Nora North", ("northside",), (), "physician of northside"),
    DemoUser("sam", "Sam South", ("southside",), (), "physician of southside"),
    DemoUser("rita", "Rita Reader", (), ("radiologist",), "radiologist, reads all clinics"),
    DemoUser("ada", "Ada Admin", (), ("pacs-admin",), "administrator, sees all clinics"),
)
