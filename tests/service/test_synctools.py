"""Folders that a sync tool owns are recognized by what the tool leaves there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nstd.service.synctools import owner_of, tool_of


@pytest.mark.parametrize(
    ("marker", "tool"),
    [
        (".stfolder", "Syncthing"),
        (".stignore", "Syncthing"),
        (".sync_0123abcd.db", "Nextcloud"),
        ("._sync_0123abcd.db", "Nextcloud"),
        (".owncloudsync.log", "ownCloud"),
    ],
)
def test_a_marker_in_the_inbox_or_above_it_names_the_tool(
    tmp_path: Path, marker: str, tool: str
) -> None:
    inbox = tmp_path / "share" / "photos" / "inbox"
    inbox.mkdir(parents=True)
    assert owner_of(str(inbox)) is None
    (tmp_path / "share" / marker).touch()
    assert owner_of(str(inbox)) == tool
    assert owner_of(str(tmp_path)) is None


def test_other_names_are_nobodys() -> None:
    assert tool_of(["beach.jpg", ".hidden", "stfolder", ".sync"]) is None
