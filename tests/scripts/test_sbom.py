"""The list of what the platform is made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from demo.ohif_install import VERSION

if TYPE_CHECKING:
    from typing import Any

ROOT = Path(__file__).parents[2]


def test_it_is_valid_and_names_all_that_is_pinned(tmp_path: Path) -> None:
    target = tmp_path / "sbom.json"
    subprocess.run([sys.executable, ROOT / "scripts" / "sbom.py", target], check=True, capture_output=True)
    text = target.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {each["purl"]: each for each in json.loads(text)["components"]}

    pinned = re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert {f"pkg:pypi/{name}@{version}" for name, version in pinned} <= found.keys()
    assert all(
        each["externalReferences"][0]["hashes"] for purl, each in found.items() if "pkg:docker" not in purl
    )
    assert f"pkg:npm/%40ohif/app@{VERSION}" in found
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    images = {service["image"] for service in services.values() if "clinicpacs" not in service["image"]}
    told = {purl.removeprefix("pkg:docker/").replace("@", ":") for purl in found if "pkg:docker" in purl}
    assert all(any(each.endswith(image) for each in told) for image in images)
