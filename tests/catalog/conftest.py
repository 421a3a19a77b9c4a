"""Catalogs as earlier versions left them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic import command
from pydantic import SecretStr

from pacs.catalog import Catalog, engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def old_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Catalog]]:
    """Brings an empty one to a revision: `old_catalog("0003")`."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/old.db"
    else:
        url = request.getfixturevalue("postgres_cluster").new_database("template0")
    with closing(Catalog.connect(SecretStr(url))) as catalog:

        def migrated(revision: str) -> Catalog:
            config = engine._alembic()
            with catalog.write() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
            return catalog

        yield migrated
