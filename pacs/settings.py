"""Settings: environment variables over a ``.env`` file over ``DATA_PATH/clinicpacs.env``.

One class a service, composed from the groups below. ``load`` reports every fault at once, by the
variable's name. A secret may be given as ``<NAME>_FILE``, the path of a file that holds it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Self, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.fields import FieldInfo

INSTALLATION_FILE = "clinicpacs.env"
"""Written under DATA_PATH by `make demo`, so that commands on the same machine find the running parts."""

EXIT_USAGE = 2


@dataclass(frozen=True)
class _Unreadable:
    """Stands for a secret whose file could not be read; fails the field's validation under its name."""

    text: str


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads ``<NAME>_FILE`` for every secret field, as one source of variables names it."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = {name.lower(): value for name, value in variables.items() if value}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name, path = field_name.upper(), self._variables.get(f"{field_name}_file")
        if path is None or SecretStr not in (field.annotation, *getattr(field.annotation, "__args__", ())):
            return None, field_name, False
        if field_name in self._variables:
            return _Unreadable(f"set it or {name}_FILE, not both"), field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            return _Unreadable(f"{name}_FILE={path}: {reason}"), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def _installation_file(dot_env: DotEnvSettingsSource) -> Path:
    data_path = os.environ.get("DATA_PATH") or dot_env.env_vars.get("data_path") or "data"
    return Path(data_path) / INSTALLATION_FILE


class Settings(BaseSettings):
    """Base of every service's settings."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, validate_default=True, env_ignore_empty=True
    )

    log_level: Annotated[
        str,
        Field(
            pattern="^(debug|info|warning|error)$",
            description="How much is logged: `debug`, `info`, `warning` or `error`.",
        ),
    ] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, the strongest first."""
        del file_secret_settings
        dot_env = DotEnvSettingsSource(settings_cls)
        installation = DotEnvSettingsSource(settings_cls, env_file=_installation_file(dot_env))
        return (
            init_settings,
            _SecretFiles(settings_cls, os.environ),
            env_settings,
            _SecretFiles(settings_cls, dot_env.env_vars),
            dotenv_settings,
            _SecretFiles(settings_cls, installation.env_vars),
            installation,
        )


def _under_data_path(name: str) -> Callable[[dict[str, Any]], Path]:
    # A faulty DATA_PATH is reported by its own name; its dependants then take any value.
    return lambda data: data.get("data_path", Path("data")) / name


def with_password(field: str) -> Callable[[SecretStr, ValidationInfo], SecretStr]:
    """Puts the password of the settings' earlier `field` into a database's URL that has none.

    Raises:
        ValueError: the URL has a password of its own, names no user, or is none.
    """

    def complete(url: SecretStr, info: ValidationInfo) -> SecretStr:
        password = info.data.get(field, SecretStr("")).get_secret_value()
        if not password or not url.get_secret_value():
            return url
        try:
            parsed = make_url(url.get_secret_value())
        except ArgumentError:
            raise ValueError("is no database's URL") from None
        if parsed.password is not None or parsed.username is None:
            raise ValueError(f"must name a user and no password where {field.upper()} is set")
        return SecretStr(parsed.set(password=password).render_as_string(hide_password=False))

    return complete


class DataSettings(Settings):
    """Where the folders and the catalog are."""

    data_path: Annotated[
        Path, Field(description="Folder under which everything lies that is not set apart.")
    ] = Path("data")
    inbox_path: Annotated[
        Path,
        Field(
            default_factory=_under_data_path("inbox"),
            description="Folder with one folder per clinic: what waits to be imported.",
        ),
    ]
    processed_path: Annotated[
        Path,
        Field(default_factory=_under_data_path("processed"), description="Where stored files are filed."),
    ]
    failed_path: Annotated[
        Path,
        Field(
            default_factory=_under_data_path("failed"),
            description="Where refused files are filed, each with its `.error.json`.",
        ),
    ]
    database_password: Annotated[
        SecretStr, Field(description="Password for DATABASE_URL, where that has none.")
    ] = SecretStr("")
    database_url: Annotated[
        SecretStr,
        AfterValidator(with_password("database_password")),
        Field(
            default_factory=lambda data: SecretStr(
                f"sqlite:///{_under_data_path('catalog.db')(data).absolute()}"
            ),
            description="The catalog: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.",
        ),
    ]

    @model_validator(mode="after")
    def _folders_apart(self) -> Self:
        folders = {
            "INBOX_PATH": self.inbox_path.absolute(),
            "PROCESSED_PATH": self.processed_path.absolute(),
            "FAILED_PATH": self.failed_path.absolute(),
        }
        for (name, one), (other_name, other) in combinations(folders.items(), 2):
            if one == other or one in other.parents or other in one.parents:
                raise ValueError(
                    f"{name} and {other_name} must be separate folders, neither inside the other"
                )
        return self


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""An http(s) URL without a trailing slash."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 takes a free one."""


class ArchiveSettings(Settings):
    """Where the archive is and who we are to it."""

    archive_url: Annotated[HttpUrl, Field(description="The archive's DICOMweb root.")] = (
        "http://localhost:8042/dicom-web"
    )
    archive_username: Annotated[str, Field(description="User for the archive; empty sends none.")] = ""
    archive_password: Annotated[SecretStr, Field(description="Password for the archive.")] = SecretStr("")
    archive_timeout_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="How long the archive may stay silent before a request is given up; a second more "
            "for each 10 MB that are stored.",
        ),
    ] = 60
    archive_stable_age_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="The archive's own StableAge: until it has passed since the last store, the archive "
            "may serve old metadata.",
        ),
    ] = 60


SettingsT = TypeVar("SettingsT", bound=Settings)


def _fault(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper() or "settings"
    value = error["input"]
    text = value.text if isinstance(value, _Unreadable) else error["msg"].removeprefix("Value error, ")
    return f"{name}: {text}"


def faults(error: ValidationError) -> list[str]:
    """One line a fault, `NAME: what is wrong`, without the offending value (it may be a secret)."""
    return [
        _fault(each)
        for each in error.errors(include_url=False, include_context=False)
        # What pydantic says of a default that follows from other settings while one of those is at fault.
        if each["type"] != "default_factory_not_called"
    ]


def load(cls: type[SettingsT], **overrides: Any) -> SettingsT:
    """The settings of one service; on any fault, all of them on stderr and exit 2."""
    try:
        return cls(**overrides)
    except ValidationError as error:
        refuse(*faults(error))


def refuse(*sentences: str) -> NoReturn:
    """End a command that cannot start: the sentences on stderr, exit 2."""
    for sentence in sentences:
        print(f"clinicpacs: {sentence}", file=sys.stderr)  # noqa: T201 - logs may not be set up yet
    sys.exit(EXIT_USAGE)
