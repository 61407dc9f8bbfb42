"""A house with nothing in it, opened: folders, ledger, spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.jobs import publish
from tests.jobs.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Give an empty house in its first life."""
    home = House(tmp_path)
    home.furnish({})
    home.open()
    yield home
    publish.hook = publish._no_hook
    home.close()
