"""The documentation of the production stack is under test: what it names exists, and what exists is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
ADMIN = ROOT / "docs" / "ADMIN.md"
USER = ROOT / "docs" / "USER.md"
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
    targets = {"add-clinic", "add-user", "move-user", "remove-user", "deactivate-clinic"}
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


def nginx_locations() -> set[str]:
    """The addresses of `location` in all of nginx' files, up to an expression's first special sign."""
    texts = text_of(*(ROOT / "nginx").rglob("*.conf"), *(ROOT / "nginx").rglob("*.conf.template"))
    return set(re.findall(r"^\s*location (?:(?:=|~|\^~) )?\"?\^?(/[\w./-]*)", texts, re.MULTILINE))


# What no page need name: files of the viewer, what is internal, and what serves health checks and certbot.
_TECHNICAL = {
    "/.well-known/acme-challenge/",
    "/_archive/",
    "/_problem/coding",
    "/_problem/method",
    "/_problem/too-long",
    "/_problem/unreadable",
    "/_problem/version",
    "/app-config.js",
    "/auth/",
    "/grafana/metrics",
    "/healthz",
    "/index.html",
    "/nginx_status",
    "/signed-out.html",
}


def test_every_address_that_nginx_serves_is_documented() -> None:
    served = nginx_locations()
    assert served >= {"/", "/auth", "/dicom-web", "/grafana", "/help/troubleshooting", "/orthanc"}
    assert served >= _TECHNICAL, "an address that is left out here is gone"
    pages = text_of(ADMIN, USER, TROUBLESHOOTING)
    assert {path for path in served - _TECHNICAL if f"`{path}`" not in pages} == set()


def test_addresses_that_are_named_are_served() -> None:
    table = text_of(ADMIN).partition("### What is where")[2].partition("\n\n|")[0]
    in_table = set(re.findall(r"^\| `(/[^`]*)`", table, re.MULTILINE))
    assert in_table == {
        "/",
        "/auth",
        "/auth/admin",
        "/grafana",
        "/orthanc",
        "/dicom-web",
        "/help/troubleshooting",
    }
    folders = r"/(?:etc|srv|mnt|dev|var|usr)\b"
    named = in_table | {
        path
        for path in re.findall(r"`(/[\w./-]*)`", text_of(ADMIN, USER, TROUBLESHOOTING))
        if not re.match(folders, path)
    }
    # `/auth/admin` is Keycloak's own, below /auth; a page with a suffix must have its own location.
    served = nginx_locations()
    for path in named:
        assert path in served or f"/{path.split('/')[1]}" in served, path


def test_the_addresses_that_make_up_prints_are_documented() -> None:
    printed = set(re.findall(r"^(/[\w/-]*)\|", text_of(ROOT / "scripts" / "lib" / "urls.sh"), re.MULTILINE))
    assert printed >= {"/", "/auth/admin", "/grafana", "/orthanc", "/dicom-web"}
    assert {path for path in printed if f"| `{path}` |" not in text_of(ADMIN)} == set()


def test_the_ports_for_work_on_the_code_are_documented() -> None:
    development = text_of(ROOT / "docker-compose.dev.yml")
    published = set(re.findall(r'"127\.0\.0\.1:(\d+):\d+"', development))
    chapter = text_of(ADMIN).partition("## Working on the code")[2].partition("\n## ")[0]
    assert published == {"9090", "8042"}
    assert published == set(re.findall(r"http://127\.0\.0\.1:(\d+)", chapter))
    assert published == set(re.findall(r"http://127\.0\.0\.1:(\d+)", text_of(ROOT / "scripts" / "up.sh")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_admin_service_are_named_as_they_are_run(page: Path) -> None:
    """The service's entry point is `clinicpacs` already: its name is not said twice."""
    assert compose()["services"]["admin"]["entrypoint"] == ["with-secrets.sh", "clinicpacs"]
    text = text_of(page)
    assert not re.search(r"\badmin\s+clinicpacs\b", text)
    words = re.findall(r"docker compose run (?:--\S+ )*admin\s+([^\s`]+)", text)
    assert {word for word in words if word not in COMMANDS} <= {"COMMAND", "..."}


def test_check_sees_in_its_container_what_env_tells_the_services() -> None:
    services = compose()["services"]
    for name in ("gateway", "importer"):
        told = {each for each, value in services[name]["environment"].items() if "${" in str(value)}
        assert len(told) > 4
        assert told <= set(services["admin"]["environment"]), name


def networks_of(service: dict[str, Any]) -> set[str]:
    return set(service.get("networks", []))


def test_the_networks_in_the_architecture_are_the_real_ones() -> None:
    page = text_of(ROOT / "docs" / "ARCHITECTURE.md")
    services = compose()["services"]
    for network in ("edge", "application", "data"):
        row = re.search(rf"^\| `{network}` \|([^|]*)\|", page, re.MULTILINE)
        assert row, network
        named = set(re.findall(r"[a-z]+(?:-[a-z]+)*", row[1])) & set(services)
        members = {name for name, service in services.items() if network in networks_of(service)}
        if "the exporters" in row[1]:
            members = {name for name in members if not name.endswith("-exporter")}
        assert named == members, network


def test_who_has_capabilities_is_documented() -> None:
    """The pages' claim that only these two have any."""
    services = compose()["services"]
    assert {name for name, service in services.items() if service.get("cap_add")} == {
        "inbox-rights",
        "postgres",
    }
    assert services["inbox-rights"]["network_mode"] == "none"
    security = text_of(ADMIN).partition("\n## Security")[2].partition("\n## ")[0]
    for word in ("inbox-rights", *services["inbox-rights"]["cap_add"], "PostgreSQL"):
        assert word in security, word


def test_the_memory_that_is_recommended_is_what_the_limits_add_up_to() -> None:
    units = {"m": 1 / 1024, "g": 1.0}
    # One can be set: by its default.
    limits = [
        str(each["mem_limit"]).partition(":-")[2].removesuffix("}") or each["mem_limit"]
        for each in compose()["services"].values()
        if "mem_limit" in each
    ]
    total = sum(float(limit[:-1]) * units[limit[-1]] for limit in limits)
    named = re.search(r"adds up to about (\d+) GB", text_of(ADMIN))
    assert named
    assert abs(total - int(named[1])) < 1


def test_frames_lie_in_memory_and_nginx_may_take_as_much() -> None:
    service = compose()["services"]["nginx"]
    assert service["environment"]["FRAME_CACHE_SIZE"] == "${FRAME_CACHE_SIZE:-1g}"
    (frames,) = (each for each in service["tmpfs"] if each.startswith("/var/cache/frames:"))
    assert frames.startswith("/var/cache/frames:size=${FRAME_CACHE_SIZE:-1g},")
    assert service["mem_limit"] == "${NGINX_MEMORY:-2g}"
    template = text_of(ROOT / "nginx" / "templates" / "settings.conf.template")
    assert re.search(r"^proxy_cache_path /var/cache/frames/\S+ .*use_temp_path=off", template, re.MULTILINE)
    volumes = [str(each).split(":")[1] for each in service["volumes"]]
    assert not [path for path in volumes if "/var/cache/frames".startswith(path)]


def test_clients_of_the_identity_provider_are_documented() -> None:
    realm = json.loads((ROOT / "keycloak" / "clinicpacs-realm.json").read_text(encoding="utf-8"))
    clients = {client["clientId"] for client in realm["clients"] if client.get("enabled", True)}
    page = text_of(ROOT / "docs" / "ARCHITECTURE.md")
    chapter = page.partition("### Sign-in and tokens")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", chapter, re.MULTILINE)) == clients


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
