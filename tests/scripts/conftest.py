"""A machine of its own for every test of a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.shell import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with Docker, without an installation."""
    return Machine.at(tmp_path / "clinicpacs")
