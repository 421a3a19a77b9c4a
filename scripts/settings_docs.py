"""Writes docs/SETTINGS.md from the settings classes of all services; `--check` only compares.

Every `*/settings.py` of the repository is read, so that a new service's settings cannot be forgotten.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from pacs.settings import ArchiveSettings, DataSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "SETTINGS.md"

_INTRODUCTION = """# Settings

<!-- Written by scripts/settings_docs.py from the settings classes; do not edit. -->

Every setting is an environment variable. Below the environment stands the file `.env` of the working
folder, below that `DATA_PATH/clinicpacs.env`, which the demo writes for commands on the same machine. An
empty variable counts as not set. A secret may be given as `<NAME>_FILE`, the path of a file that holds it.

`clinicpacs check` tells every fault of every service at once.
"""

_HEAD = "| name | default | meaning |\n|---|---|---|\n"
# What services share is told once, under these headings; each service's own follows.
_SHARED: dict[type[Settings], str] = {
    Settings: "All services",
    DataSettings: "Folders and the catalog",
    ArchiveSettings: "The archive",
}
_TITLES = {"admin": "The `clinicpacs` command"}
_COMPUTED = {
    "inbox_path": "`DATA_PATH/inbox`",
    "processed_path": "`DATA_PATH/processed`",
    "failed_path": "`DATA_PATH/failed`",
    "database_url": "`sqlite:///DATA_PATH/catalog.db`",
}


def settings_classes() -> list[type[Settings]]:
    """The settings classes of every `*/settings.py`, base classes first."""
    found: dict[type[Settings], None] = dict.fromkeys(_SHARED)
    for path in sorted(ROOT.glob("*/settings.py")):
        module = importlib.import_module(f"{path.parent.name}.settings")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Settings) and cls.__module__ == module.__name__:
                found[cls] = None
    return sorted(found, key=lambda cls: (cls not in _SHARED, cls.__module__, len(cls.__mro__)))


def own_fields(cls: type[Settings]) -> dict[str, FieldInfo]:
    """The fields that this class itself declares."""
    own = inspect.get_annotations(cls)
    return {name: field for name, field in cls.model_fields.items() if name in own}


def _default(name: str, field: FieldInfo) -> str:
    if name in _COMPUTED:
        return _COMPUTED[name]
    if field.default is PydanticUndefined and field.default_factory is None:
        return "required"
    if field.default_factory is not None:
        raise LookupError(f"{name.upper()}: tell its default in scripts/settings_docs.py")
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, list | tuple | set | frozenset):
        value = ",".join(str(each) for each in value)
    return "empty" if value in {None, ""} else f"`{value}`"


def _rows(cls: type[Settings]) -> Iterator[str]:
    for name, field in own_fields(cls).items():
        if not field.description:
            raise LookupError(f"{cls.__module__}: {name.upper()} has no description")
        secret = (
            " Secret." if SecretStr in {field.annotation, *getattr(field.annotation, "__args__", ())} else ""
        )
        meaning = f"{field.description}{secret}".replace("|", "\\|")
        yield f"| `{name.upper()}` | {_default(name, field)} | {meaning} |\n"


def page() -> str:
    """The whole of docs/SETTINGS.md."""
    sections = [_INTRODUCTION]
    written: set[str] = set()
    for cls in settings_classes():
        rows = "".join(_rows(cls))
        package = cls.__module__.partition(".")[0]
        heading = _SHARED.get(cls) or _TITLES.get(package, package.capitalize())
        if rows and heading not in written:
            sections.append(f"\n## {heading}\n\n{_HEAD}{rows}")
        elif rows:
            sections.append(rows)
        written.add(heading)
    return "".join(sections)


def main() -> int:
    """Write or compare; 1 when they differ."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(
        "docs/SETTINGS.md is not what the settings say: run `python scripts/settings_docs.py`",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
