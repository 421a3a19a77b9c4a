"""The programs of Prometheus and Alertmanager, as Debian packages them; and the alert rules in our files."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import missing

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULE_FILES = sorted((MONITORING / "prometheus" / "rules").glob("*.yml"))
UNIT_TESTS = sorted((ROOT / "tests" / "monitoring" / "rules").glob("*.yml"))


def program(*names: str) -> str:
    """The path of the first of these programs that is installed; skips without any."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    missing(names[0])
    raise AssertionError("missing() does not return")


def promtool(*arguments: str | Path) -> None:
    """Run it; what it says is the failure."""
    run(program("promtool"), *arguments)


def amtool(*arguments: str | Path) -> str:
    """Run it; what it prints."""
    return run(program("amtool"), *arguments)


def run(*command: str | Path) -> str:
    """What a program that must succeed prints."""
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=50, check=False
    )
    if done.returncode:
        pytest.fail(f"{command[0]} says:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Alert:
    """One alert as a rule file defines it."""

    name: str
    severity: str
    annotations: dict[str, str]


def alerts() -> list[Alert]:
    """All alerts of all rule files."""
    return [
        Alert(rule["alert"], rule["labels"]["severity"], rule["annotations"])
        for path in RULE_FILES
        for group in read_yaml(path)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]


def read_yaml(path: Path) -> dict[str, Any]:
    """The document in a file."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


@dataclass(frozen=True)
class UnitTest:
    """What one group of promtool's tests expects of one alert: how many of it fire, in the order of time."""

    alert: str
    firing: list[int]


@cache
def unit_tests() -> list[UnitTest]:
    """What is expected of each alert in each group of promtool's tests."""
    found = []
    for path in UNIT_TESTS:
        for group in read_yaml(path)["tests"]:
            expected: dict[str, list[tuple[float, int]]] = {}
            for check in group["alert_rule_test"]:
                at = _seconds(check["eval_time"]), len(check["exp_alerts"])
                expected.setdefault(check["alertname"], []).append(at)
            found += [UnitTest(name, [count for _, count in sorted(each)]) for name, each in expected.items()]
    return found


def _seconds(duration: str) -> float:
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration)))
