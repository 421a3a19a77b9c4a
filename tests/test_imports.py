"""Imports point one way: bench -> demo -> admin -> services -> pacs; no service imports another one."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SERVICES = frozenset({"importer", "gateway", "receiver", "router", "monitor", "console"})
MAY_IMPORT = {
    "pacs": frozenset(),
    **{service: frozenset({"pacs"}) for service in SERVICES},
    "admin": SERVICES | {"pacs"},
    "demo": SERVICES | {"pacs", "admin"},
    # Measures all of them; nobody imports it.
    "bench": SERVICES | {"pacs", "admin", "demo"},
}
OURS = frozenset(MAY_IMPORT)


def packages() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")


def imported(source: str) -> Iterator[str]:
    """The top-level package of every import, wherever in the file it stands; `.` for a relative one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            yield _leading_literal(node.args[0]).partition(".")[0]


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def _leading_literal(argument: ast.expr) -> str:
    """What is known of a computed module name: the literal that it begins with."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""


def test_every_package_has_its_place_in_the_order() -> None:
    assert set(packages()) <= OURS


@pytest.mark.parametrize("package", packages())
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in imported(path.read_text(encoding="utf-8"))
        if name in OURS and name not in MAY_IMPORT[package] | {package}
    ]
    assert wrong == []


def test_every_import_is_absolute() -> None:
    relative = [
        str(path.relative_to(ROOT))
        for package in packages()
        for path in (ROOT / package).rglob("*.py")
        if "." in imported(path.read_text(encoding="utf-8"))
    ]
    assert relative == []


@pytest.mark.parametrize(
    "source",
    [
        "import gateway.app",
        "from gateway import app",
        "def late():\n    from gateway.qido import search",
        "import importlib\nimportlib.import_module('gateway.app')",
        "import_module(f'gateway.{name}')",
    ],
)
def test_the_reader_sees_every_way_to_import(source: str) -> None:
    assert "gateway" in list(imported(source))


@pytest.mark.parametrize("package", packages())
def test_no_package_hides_one_of_the_standard_library(package: str) -> None:
    assert package not in sys.stdlib_module_names
