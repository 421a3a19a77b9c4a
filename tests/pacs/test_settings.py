"""Settings: every fault at once and by name; where values come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import make_url

from pacs.settings import ArchiveSettings, DataSettings, load


class Service(DataSettings, ArchiveSettings):
    """A service that needs both groups."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Service.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_four_folders_and_the_catalog_lie_under_data_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PATH", "/srv/pacs")
    settings = load(Service)
    assert settings.inbox_path == Path("/srv/pacs/inbox")
    assert settings.failed_path == Path("/srv/pacs/failed")
    assert settings.database_url.get_secret_value() == "sqlite:////srv/pacs/catalog.db"


def test_all_faults_are_told_at_once_by_name_without_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "ftp://user:geheim@archive")
    monkeypatch.setenv("ARCHIVE_TIMEOUT_SECONDS", "soon")
    monkeypatch.setenv("LOG_LEVEL", "verbose")
    with pytest.raises(SystemExit) as ended:
        load(Service)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "ARCHIVE_URL: must start with http:// or https://" in told
    assert "ARCHIVE_TIMEOUT_SECONDS: " in told
    assert "LOG_LEVEL: " in told
    assert "geheim" not in told
    assert "Traceback" not in told


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("swordfish\n")
    monkeypatch.setenv("ARCHIVE_PASSWORD_FILE", str(tmp_path / "secret"))
    assert load(Service).archive_password.get_secret_value() == "swordfish"


def test_a_secrets_file_may_be_named_in_dot_env(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("swordfish\n")
    (tmp_path / ".env").write_text(f"ARCHIVE_PASSWORD_FILE={tmp_path}/secret\n")
    assert load(Service).archive_password.get_secret_value() == "swordfish"


def test_the_databases_password_may_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nora@db:5432/catalog")
    monkeypatch.setenv("DATABASE_PASSWORD", "p@ss/word")
    url = make_url(load(Service).database_url.get_secret_value())
    assert (url.username, url.password, url.host) == ("nora", "p@ss/word", "db")


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://nora:other@db/catalog", "sqlite:////srv/catalog.db", "swordfish"]
)
def test_a_password_that_fits_no_database_is_a_fault_that_shows_none(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_PASSWORD", "swordfish")
    with pytest.raises(SystemExit):
        load(Service)
    said = capsys.readouterr().err
    assert said.startswith("clinicpacs: DATABASE_URL: ")
    assert not re.search("swordfish|other@", said)


def test_a_secret_file_that_is_not_there_is_a_fault_of_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVE_PASSWORD_FILE", "/nowhere/secret")
    with pytest.raises(SystemExit):
        load(Service)
    assert "ARCHIVE_PASSWORD: ARCHIVE_PASSWORD_FILE=/nowhere/secret: No such file" in capsys.readouterr().err


def test_a_secret_given_twice_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("swordfish")
    monkeypatch.setenv("ARCHIVE_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ARCHIVE_PASSWORD", "other")
    with pytest.raises(SystemExit):
        load(Service)
    assert "set it or ARCHIVE_PASSWORD_FILE, not both" in capsys.readouterr().err


def test_environment_over_dot_env_over_the_installations_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "elsewhere"
    data.mkdir()
    (tmp_path / ".env").write_text(
        f"DATA_PATH={data}\nARCHIVE_USERNAME=dot-env\nARCHIVE_URL=http://dot-env\n"
    )
    (data / "clinicpacs.env").write_text(
        "ARCHIVE_USERNAME=installation\nARCHIVE_URL=http://installation\nARCHIVE_PASSWORD=installation\n"
    )
    monkeypatch.setenv("ARCHIVE_USERNAME", "environment")
    settings = load(Service)
    assert settings.archive_username == "environment"
    assert settings.archive_url == "http://dot-env"
    assert settings.archive_password.get_secret_value() == "installation"


@pytest.mark.parametrize(
    ("name", "path"),
    [("PROCESSED_PATH", "in/northside/done"), ("FAILED_PATH", "in"), ("INBOX_PATH", "data/processed/x")],
)
def test_folders_inside_of_each_other_are_a_fault(
    name: str, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INBOX_PATH", "in")
    monkeypatch.setenv(name, path)
    with pytest.raises(SystemExit):
        load(Service)
    assert "must be separate folders" in capsys.readouterr().err


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "")
    assert load(Service).archive_url == "http://localhost:8042/dicom-web"


def test_a_secret_does_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_PASSWORD", "swordfish")
    assert "swordfish" not in repr(load(Service))
