"""The documentation of the production stack is under test: what it names exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
ADMIN = ROOT / "docs" / "ADMIN.md"
TROUBLESHOOTING = ROOT / "docs" / "TROUBLESHOOTING.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def text_of(*pages: Path) -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


def settings() -> set[str]:
    """The names of .env.example."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^([A-Z][A-Z0-9_]*)=", example, re.MULTILINE))


def alerts() -> set[str]:
    rules = text_of(*(ROOT / "monitoring" / "prometheus" / "rules").glob("*.yml"))
    return set(re.findall(r"- alert: (\w+)", rules))


def test_every_target_of_make_is_documented() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", MAKEFILE, re.MULTILINE))
    pages = text_of(*PAGES)
    assert {each for each in targets if not re.search(rf"\bmake {each}\b(?!-)", pages)} == set()


def test_every_argument_of_a_target_exists() -> None:
    known = set(re.findall(r"\b[A-Z][A-Z_]+\b", MAKEFILE)) | settings()
    for page in PAGES:
        for call in re.findall(r"\bmake [a-z-]+((?: [A-Z_]+=(?:\"[^\"]*\"|[^ `\n]*))+)", text_of(page)):
            assert set(re.findall(r"([A-Z_]+)=", call)) <= known, f"{page.name}: make ...{call}"


def test_every_setting_of_the_stack_is_documented() -> None:
    admin = text_of(ADMIN)
    assert {name for name in settings() if f"`{name}`" not in admin} == set()


def test_every_setting_that_is_named_exists() -> None:
    known = settings() | set(re.findall(r"\| `([A-Z][A-Z0-9_]+)` \|", text_of(ROOT / "docs" / "SETTINGS.md")))
    known |= set(re.findall(r"\b[A-Z][A-Z_]+\b", MAKEFILE))
    for page in (ADMIN, TROUBLESHOOTING):
        named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text_of(page)))
        assert named <= known, page.name


def test_every_command_is_documented_for_administrators() -> None:
    admin = text_of(ADMIN, TROUBLESHOOTING)
    targets = {"add-clinic", "add-user", "remove-user", "deactivate-clinic"}
    pattern = r"\bclinicpacs {0}\b(?!-)|\bmake {0}\b(?!-)"
    missing = {name for name in COMMANDS if not re.search(pattern.format(name), admin)}
    hidden = {name for name, lazy in COMMANDS.items() if getattr(lazy, "hidden", False)}
    assert targets <= set(COMMANDS)
    assert missing - hidden == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_that_are_named_exist_and_know_their_options(page: Path) -> None:
    for script, rest in re.findall(r"(?:\./)?(scripts/[a-z-]+\.sh)((?: [^\s`|]+)*)", text_of(page)):
        path = ROOT / script
        assert path.is_file(), script
        source = text_of(path, *(ROOT / "scripts" / "setup").glob("arguments.sh"))
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in source, f"{script} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_services_that_are_named_exist(page: Path) -> None:
    services = set(compose()["services"])
    named = re.findall(r"\bSERVICE=([a-z][a-z-]*)", text_of(page))
    named += re.findall(r"docker compose (?:exec|run --rm|logs|restart) ([a-z][a-z-]*)", text_of(page))
    assert set(named) <= services


def test_addresses_that_are_named_are_served() -> None:
    locations = text_of(*(ROOT / "nginx").rglob("*.conf*"))
    table = text_of(ADMIN).partition("### What is where")[2].partition("\n\n|")[0]
    paths = set(re.findall(r"^\| `/([a-z-]*)", table, re.MULTILINE))
    assert paths == {"", "auth", "grafana", "orthanc", "dicom-web"}
    for path in paths - {""}:
        assert f"^/{path}(?:" in locations, path


def test_every_alert_has_its_chapter_and_every_chapter_its_alert() -> None:
    chapter = text_of(TROUBLESHOOTING).partition("\n## Alerts")[2].partition("\n## ")[0]
    assert alerts() >= {"OrthancDown", "DICOMImportFailed", "DiskSpaceLow", "CertificateExpiringSoon"}
    assert set(re.findall(r"^### (\w+)", chapter, re.MULTILINE)) == alerts()


def test_alerts_that_are_named_elsewhere_exist() -> None:
    known = alerts()
    endings = r"Down|Failed|Low|Soon|Old|Stuck|Unreachable|Folder|Errors"
    for page in (ADMIN, ROOT / "docs" / "USER.md", ROOT / "docs" / "ARCHITECTURE.md"):
        assert set(re.findall(rf"\balerts? `?([A-Z]\w+(?:{endings}))\b", text_of(page))) <= known


def test_every_published_service_is_in_the_network_picture() -> None:
    picture = text_of(ADMIN).partition("## Security")[2].partition("## Working")[0]
    exporters = {name for name in compose()["services"] if name.endswith("-exporter")}
    one_shot = {"migrate", "admin"}
    for name in set(compose()["services"]) - exporters - one_shot:
        assert name in picture, name
    assert not exporters or "exporters" in picture
