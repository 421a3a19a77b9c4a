"""Settings of the `clinicpacs` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from pacs.settings import ArchiveSettings, DataSettings, HttpUrl, with_password


class IdentitySettings(DataSettings):
    """Which identity provider the commands speak to: Keycloak, the embedded issuer, or none."""

    keycloak_url: Annotated[
        HttpUrl | None,
        Field(
            description="Keycloak's root for `add-user` and `add-clinic`, such as `https://HOST/auth`; "
            "empty: there is none."
        ),
    ] = None
    keycloak_realm: Annotated[str, Field(min_length=1, description="The realm of clinics and users.")] = (
        "clinicpacs"
    )
    keycloak_client_id: Annotated[
        str, Field(min_length=1, description="The client with a service account that may manage users.")
    ] = "clinicpacs-admin"
    keycloak_client_secret: Annotated[SecretStr, Field(description="That client's secret.")] = SecretStr("")
    keycloak_ca_bundle: Annotated[
        Path | None,
        Field(description="PEM file of CAs to check Keycloak by, instead of the usual ones."),
    ] = None
    identity_path: Annotated[
        Path | None,
        Field(description="The embedded issuer's users, a file; set by the demo. Not with KEYCLOAK_URL."),
    ] = None

    @model_validator(mode="after")
    def _one_provider(self) -> Self:
        if self.keycloak_url is not None and self.identity_path is not None:
            raise ValueError("KEYCLOAK_URL and IDENTITY_PATH are both set: choose one identity provider")
        if self.keycloak_url is not None and not self.keycloak_client_secret.get_secret_value():
            raise ValueError("KEYCLOAK_URL is set: KEYCLOAK_CLIENT_SECRET is needed, too")
        return self


class AdminSettings(IdentitySettings, ArchiveSettings):
    """All that `clinicpacs` reads."""

    archive_admin_username: Annotated[
        str, Field(min_length=1, description="The archive's user who may delete, for `delete`.")
    ] = "admin"
    archive_admin_password: Annotated[
        SecretStr, Field(description="That user's password; empty: `delete` goes as ARCHIVE_USERNAME, too.")
    ] = SecretStr("")
    keycloak_admin_password: Annotated[
        SecretStr, Field(description="Password of Keycloak's own user `admin`, for `apply-realm`.")
    ] = SecretStr("")
    keycloak_realm_file: Annotated[
        Path, Field(description="The realm as Keycloak imports it, for `apply-realm`.")
    ] = Path("keycloak/clinicpacs-realm.json")
    audit_keep_days: Annotated[
        int,
        Field(ge=0, le=36_500, description="`audit prune` deletes older audit rows; 0 keeps all for ever."),
    ] = 3650
    audit_prune_database_password: Annotated[
        SecretStr, Field(description="Password for AUDIT_PRUNE_DATABASE_URL, where that has none.")
    ] = SecretStr("")
    audit_prune_database_url: Annotated[
        SecretStr,
        AfterValidator(with_password("audit_prune_database_password")),
        Field(
            description="The catalog as the role that may delete old audit rows; empty: DATABASE_URL, whose "
            "role may do so on SQLite and where PostgreSQL has but one role."
        ),
    ] = SecretStr("")
