"""Events are hints: the watcher may die, be blind or be lied to, and says so without raising."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from nstd.service import places, watcher
from nstd.service.watcher import CANARY, CANARY_PATIENCE_S, Watcher

DEADLINE_S = 60.0


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def eye(inbox: Path, woken: threading.Event) -> Iterator[Watcher]:
    made = Watcher(str(inbox), woken.set)
    made.start(0.0)
    yield made
    made.stop()


def test_a_new_file_wakes_the_daemon_once(
    eye: Watcher, inbox: Path, woken: threading.Event
) -> None:
    (inbox / "beach.jpg").write_bytes(b"x")
    assert woken.wait(DEADLINE_S)
    assert until(eye.take_hint)
    assert eye.health.mode == "events"
    assert eye.health.reason == ""


def test_a_new_configuration_ends_and_begins_the_watch(eye: Watcher, inbox: Path) -> None:
    eye.follow("always", 1.0)
    assert (eye.health.mode, eye.health.reason) == ("scan", "inbox.polling is always")
    eye.check(1000.0, folders=[""], replaced=False)
    assert eye.health.mode == "scan"
    eye.follow("never", 1001.0)
    assert eye.health.mode == "events"
    eye.take_hint()
    (inbox / "beach.jpg").write_bytes(b"x")
    assert until(eye.take_hint)


def test_a_file_in_a_folder_made_later_is_noticed(eye: Watcher, inbox: Path) -> None:
    (inbox / "sub").mkdir()
    assert until(eye.take_hint)
    (inbox / "sub" / "beach.jpg").write_bytes(b"x")
    assert until(eye.take_hint)


def test_a_rename_into_the_inbox_is_noticed(eye: Watcher, inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "beach.jpg").write_bytes(b"x")
    (tmp_path / "beach.jpg").rename(inbox / "beach.jpg")
    assert until(eye.take_hint)


def test_an_exception_in_the_callback_does_not_end_the_watch(inbox: Path) -> None:
    calls = []

    def explode() -> None:
        calls.append(1)
        raise ValueError("boom")

    eye = Watcher(str(inbox), explode)
    eye.start(0.0)
    try:
        (inbox / "a.jpg").write_bytes(b"x")
        assert until(lambda: len(calls) == 1)
        assert eye.take_hint()
        (inbox / "b.jpg").write_bytes(b"x")
        assert until(lambda: len(calls) >= 2)
    finally:
        eye.stop()


def test_a_canary_proves_that_events_flow_and_leaves_nothing(eye: Watcher, inbox: Path) -> None:
    eye.check(0.0, folders=[""], replaced=False)

    def proved() -> bool:
        eye.check(1.0, folders=[""], replaced=False)
        return eye.health.proved == 1.0

    assert until(proved)
    assert list(inbox.iterdir()) == []
    assert eye.health.mode == "events"


def test_a_canary_is_no_hint_to_look(eye: Watcher, inbox: Path) -> None:
    eye.check(0.0, folders=[""], replaced=False)
    assert until(lambda: not (eye._round and eye._round.missing))
    assert not eye.take_hint()


def test_without_canaries_nothing_is_written_into_the_inbox(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = Watcher(str(inbox), lambda: None, canary=False)
    eye.start(0.0)
    before = os.stat(inbox).st_mtime_ns
    for second in range(200):
        eye.check(float(second), folders=[""], replaced=False)
    eye.stop()
    assert os.stat(inbox).st_mtime_ns == before


def test_a_canary_that_does_not_come_back_hands_over_to_scanning(
    eye: Watcher, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher._Handler, "dispatch", lambda _self, _event: None)
    eye.check(0.0, folders=[""], replaced=False)
    eye.check(CANARY_PATIENCE_S + 1, folders=[""], replaced=False)
    assert eye.health.mode == "scan"
    assert "no event came back" in eye.health.reason
    assert eye.take_hint()


def test_the_watch_is_set_up_anew_after_a_pause(
    eye: Watcher, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(watcher._Handler, "dispatch", lambda _self, _event: None)
        eye.check(0.0, folders=[""], replaced=False)
        eye.check(20.0, folders=[""], replaced=False)
    eye.check(20.1, folders=[""], replaced=False)
    assert eye.health.mode == "scan"
    eye.check(1000.0, folders=[""], replaced=False)
    assert eye.health.mode == "events"
    assert eye.health.restarts == 1
    eye.take_hint()
    (inbox / "beach.jpg").write_bytes(b"x")
    assert until(eye.take_hint)


def test_an_inbox_that_was_replaced_is_watched_again(eye: Watcher, inbox: Path) -> None:
    inbox.rename(inbox.with_name("old"))
    inbox.mkdir()
    eye.check(1.0, folders=[""], replaced=True)
    assert eye.health.mode == "events"
    eye.take_hint()
    (inbox / "beach.jpg").write_bytes(b"x")
    assert until(eye.take_hint)


def test_a_deleted_inbox_is_noticed_though_the_observer_looks_alive(
    eye: Watcher, inbox: Path
) -> None:
    inbox.rmdir()

    def lost() -> bool:
        eye.check(1.0, folders=[], replaced=False)
        return eye.health.mode == "scan"

    assert until(lost)
    assert eye.health.reason == "the watch on the inbox has ended"
    inbox.mkdir()
    eye.check(500.0, folders=[""], replaced=True)
    assert eye.health.mode == "events"


def test_no_watches_left_means_scanning(inbox: Path) -> None:
    def exhausted() -> BaseObserver:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    eye = Watcher(str(inbox), lambda: None, make_observer=exhausted)
    eye.start(0.0)
    assert eye.health.mode == "scan"
    assert "watch limit" in eye.health.reason
    eye.stop()


def test_an_inbox_that_is_not_there_means_scanning(tmp_path: Path) -> None:
    eye = Watcher(str(tmp_path / "nowhere"), lambda: None)
    eye.start(0.0)
    assert eye.health.mode == "scan"
    eye.check(0.1, folders=[], replaced=False)
    eye.stop()


def test_polling_always_starts_no_threads(inbox: Path) -> None:
    before = threading.active_count()
    eye = Watcher(str(inbox), lambda: None, polling="always")
    eye.start(0.0)
    eye.check(1e6, folders=[""], replaced=False)
    assert eye.health.mode == "scan"
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_remote_file_systems_are_polled(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(places, "fstype", lambda _path: kind)
    eye = Watcher(str(inbox), lambda: None)
    eye.start(0.0)
    assert eye.health.mode == "scan"
    assert kind in eye.health.reason


def test_the_inbox_may_be_a_link(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(inbox)
    eye = Watcher(str(tmp_path / "link"), lambda: None)
    eye.start(0.0)
    try:
        (inbox / "beach.jpg").write_bytes(b"x")
        assert until(eye.take_hint)
    finally:
        eye.stop()


def test_canaries_take_turns_over_many_folders(inbox: Path) -> None:
    folders = ["", *(f"s{i}" for i in range(100))]
    for folder in folders[1:]:
        (inbox / folder).mkdir()
    eye = Watcher(str(inbox), lambda: None)
    seen: set[str] = set()
    for now in (0.0, 20.0, 40.0, 60.0):
        eye._folders = dict.fromkeys(folders, 0.0)
        seen |= set(eye._next_folders(now))
    assert seen == set(folders)


def test_stopping_ends_every_thread(inbox: Path) -> None:
    before = threading.active_count()
    eye = Watcher(str(inbox), lambda: None)
    eye.start(0.0)
    eye.stop()
    assert until(lambda: threading.active_count() == before)


def test_the_canary_is_a_name_that_is_never_consumed() -> None:
    from nstd.jobs.names import classify

    assert classify(f"{CANARY}abc.tmp", is_dir=False) == "temp"
