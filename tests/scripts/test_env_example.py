""".env.example names every setting that the stack's files ask for, and no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.shell import ROOT, assignments

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / ".env.example"
# Compose's own, and what only the scripts read.
OF_COMPOSE = {"COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"}
OF_SCRIPTS = {"DOMAIN", "BACKUP_KEEP", "BACKUP_KEY", "LETSENCRYPT_EMAIL"}

_NAME = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")


def compose_files() -> list[Path]:
    return sorted(ROOT.glob("docker-compose*.yml"))


def asked_for(path: Path) -> set[str]:
    """The names that Compose fills into a file; $$ is a dollar."""
    return set(_NAME.findall(path.read_text(encoding="utf-8").replace("$$", "")))


def test_compose_asks_for_nothing_else() -> None:
    assert ROOT / "docker-compose.yml" in compose_files()
    known = set(assignments(EXAMPLE))
    for path in compose_files():
        assert asked_for(path) <= known, path.name


def test_nothing_stands_there_that_nobody_reads() -> None:
    used = set().union(*(asked_for(path) for path in compose_files())) | OF_COMPOSE | secrets().keys()
    scripts = "\n".join(path.read_text() for path in (ROOT / "scripts").rglob("*.sh"))
    for name in OF_SCRIPTS:
        assert re.search(rf"\b{name}\b", scripts), name
    assert set(assignments(EXAMPLE)) - used - OF_SCRIPTS == set()


def production() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def secrets() -> dict[str, Any]:
    return dict(production()["secrets"])


def given(service: str) -> set[str]:
    """The variables of a service's program: its environment, and its secrets under the names that it sees."""
    told = production()["services"][service]
    mounted = {each if isinstance(each, str) else each["target"] for each in told.get("secrets", ())}
    return set(told.get("environment", {})) | mounted


def test_no_secret_is_in_what_compose_fills_in() -> None:
    """Environments, commands and labels are listed by `docker inspect`."""
    named = {
        name for name in assignments(EXAMPLE) if re.search(r"_(PASSWORD|SECRET|SECRET_KEY|TOKEN)$", name)
    }
    assert named == set(secrets())
    for path in compose_files():
        assert not asked_for(path) & named, path.name


def groups() -> dict[str, str]:
    """The group of each secret, as scripts/lib/secrets.sh puts them together."""
    text = (ROOT / "scripts" / "lib" / "secrets.sh").read_text(encoding="utf-8")
    patterns = dict(re.findall(r"^    \[([A-Z]+)\]='(.+)'$", text, re.MULTILINE))
    found = {name: [group for group in patterns if re.search(patterns[group], name)] for name in secrets()}
    assert all(len(each) == 1 for each in found.values()), found
    return {name: each[0] for name, each in found.items()}


def test_every_secret_is_a_file_and_is_read_by_services_that_start_anew_with_it() -> None:
    assert secrets() == {name: {"file": f"./secrets/{name}"} for name in secrets()}
    used, group = set(), groups()
    for name, service in production()["services"].items():
        read = {each if isinstance(each, str) else each["source"] for each in service.get("secrets", ())}
        labels = {label for label in service.get("labels", ()) if label.startswith("clinicpacs.secrets.")}
        # Of what starts by itself; `admin` is made for each command.
        if name != "admin":
            assert labels == {f"clinicpacs.secrets.{group[each].lower()}" for each in read}, name
        used |= read
    assert used == set(secrets())


def test_whoever_gets_secrets_takes_them_as_variables() -> None:
    """postgres-exporter reads the file itself."""
    for name, service in production()["services"].items():
        starts = any("with-secrets.sh" in part for part in service.get("entrypoint", ()))
        assert starts == ("secrets" in service) or name == "postgres-exporter", name


@pytest.mark.parametrize(
    ("service", "files"),
    [
        ("orthanc", "orthanc/*.json"),
        ("keycloak", "keycloak/*.json"),
        ("prometheus", "monitoring/prometheus/start.sh"),
        ("alertmanager", "monitoring/alertmanager/start.sh"),
    ],
)
def test_a_service_gets_every_variable_that_its_files_read(service: str, files: str) -> None:
    paths = list(ROOT.glob(files))
    assert paths, files
    for path in paths:
        text = path.read_text(encoding="utf-8")
        # A name with a default may be left unset; a name that the file sets itself is its own.
        needed = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)(?:\}|:\?|\?)", text))
        own = set(re.findall(r"^\s*(?:export )?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
        assert needed - own <= given(service), path.name


def test_every_name_has_a_comment_right_above() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line and not line.startswith("#"):
            assert before.startswith("# "), line
            assert not before.startswith("# ---"), line


def test_no_secret_has_a_value_and_setup_fills_in_all_that_compose_needs() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for name, value in assignments(EXAMPLE).items():
        comment = text.partition(f"\n{name}=")[0].rpartition("\n")[2]
        if re.search("PASSWORD|SECRET|TOKEN$", name):
            assert value == "", name
        needed = re.compile(r"\$\{" + name + r":\?")
        if any(needed.search(path.read_text()) for path in compose_files()):
            assert value or "(setup.sh fills this)" in comment, name
