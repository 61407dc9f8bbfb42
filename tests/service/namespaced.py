"""What needs mounts and limits of its own: run by ``test_namespaces`` inside ``unshare -rm``.

``python -m tests.service.namespaced NAME FOLDER``: mounts and limits made here are seen by this
process and its children, end with them, and change nothing for anybody else on the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.service.kit import picture, until
from tests.service.process import Process

MiB = 2**20
WATCHES = Path("/proc/sys/user/max_inotify_watches")
INSTANCES = Path("/proc/sys/user/max_inotify_instances")
SCENES: dict[str, Callable[[Path], None]] = {}


def scene(play: Callable[[Path], None]) -> Callable[[Path], None]:
    """Make a function one of those that can be named on the command line."""
    SCENES[play.__name__] = play
    return play


@contextmanager
def running(root: Path, **settings: dict[str, Any]) -> Iterator[Process]:
    """Start a daemon that is ended however the scene ends."""
    daemon = Process(root, **{"outbox": {"free_space_floor_bytes": 0}, **settings})
    daemon.start()
    try:
        yield daemon
        daemon.stop()
    finally:
        daemon.end()


def mount(path: Path, mebibytes: int) -> None:
    """Mount an empty file system of a size in memory."""
    path.mkdir(parents=True, exist_ok=True)
    options = f"size={mebibytes}m,mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "nstd-test", str(path)], check=True)


def unmount(path: Path) -> None:
    """Unmount, as soon as nobody happens to look into it."""
    until(lambda: subprocess.run(["umount", str(path)], check=False).returncode == 0)


def fill(folder: Path) -> Path:
    """Take every byte that is left there."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def metric(daemon: Process, name: str) -> float:
    """Return one sample of ``/metrics``; NaN where nobody answers."""
    for line in (daemon.get("/metrics") or "").splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return float("nan")


def painted(daemon: Process, name: str) -> None:
    """Drop a photograph into the style's folder and wait for its picture."""
    picture(daemon.root / "inbox" / "starry" / f"{name}.jpg")
    until(lambda: daemon.exists(f"outbox/starry/{name}.jpg"))


def notes(daemon: Process) -> str:
    return " ".join(daemon.status().get("notes", []))


# --- mounts --------------------------------------------------------------------------------------


@scene
def the_inbox_is_unmounted(folder: Path) -> None:
    root = folder / "root"
    mount(root / "inbox", 8)
    with running(root) as daemon:
        daemon.ready()
        painted(daemon, "before")
        unmount(root / "inbox")
        until(lambda: "mounted on" in notes(daemon))
        assert daemon.get("/readyz") != "ok\n" or "mounted on" in notes(daemon)
        assert list((root / "inbox").iterdir()) == []  # no menu, no canary in the bare folder
        stray = root / "inbox" / "stray.content.jpg"
        picture(stray)
        picture(stray.with_name("stray.style.jpg"))
        scans = metric(daemon, "nstd_last_scan_timestamp_seconds")
        until(lambda: metric(daemon, "nstd_last_scan_timestamp_seconds") > scans + 2)
        assert stray.exists()
        assert not daemon.exists("outbox/stray.jpg")
        mount(root / "inbox", 8)
        until(lambda: daemon.exists("inbox/starry"))
        painted(daemon, "after")
        until(lambda: not notes(daemon))
    assert not (root / "outbox" / "stray.jpg").exists()


@scene
def a_daemon_starts_before_its_inbox_is_mounted(folder: Path) -> None:
    root = folder / "root"
    mount(root / "inbox", 8)
    with running(root) as daemon:
        daemon.ready()
        painted(daemon, "before")
    unmount(root / "inbox")
    for path in sorted((root / "inbox").rglob("*"), reverse=True):
        path.rmdir()
    daemon = Process(root)
    (root / "inbox" / "starry").rmdir()
    daemon.start()
    try:
        until(lambda: "mounted on" in (daemon.get("/readyz") or notes(daemon)))
        assert list((root / "inbox").iterdir()) == []
        mount(root / "inbox", 8)
        daemon.ready()
        until(lambda: daemon.exists("inbox/starry"))
        painted(daemon, "after")
    finally:
        daemon.end()


@scene
def the_outbox_is_unmounted_while_a_picture_is_painted(folder: Path) -> None:
    root = folder / "root"
    mount(root / "outbox", 8)
    with running(root) as daemon:
        daemon.ready()
        painted(daemon, "before")
        daemon.stop()
        daemon.start(faults="step_s=0.5")
        picture(root / "inbox" / "starry" / "during.jpg")
        until(lambda: any(job["step"] > 0 for job in daemon.status().get("running", [])))
        unmount(root / "outbox")
        until(lambda: "mounted on" in notes(daemon))
        until(lambda: any((root / "state" / "spool").glob("*/result/picture.jpg")))
        until(lambda: "cannot be put where it belongs yet" in notes(daemon))
        assert list((root / "outbox").iterdir()) == []
        mount(root / "outbox", 8)
        until(lambda: daemon.exists("outbox/starry/during.jpg", "outbox/starry/during.json"))


# --- room ----------------------------------------------------------------------------------------


@scene
def a_full_disk_pauses_the_queue_until_there_is_room(folder: Path) -> None:
    root = folder / "root"
    mount(root, 24)
    (folder / "photos").mkdir()
    picture(folder / "photos" / "beach.jpg")
    with running(root) as daemon:
        daemon.ready()
        painted(daemon, "before")
        photo = root / "inbox" / "starry" / "beach.jpg"
        photo.write_bytes((folder / "photos" / "beach.jpg").read_bytes())
        ballast = fill(root)
        until(lambda: daemon.status().get("state") == "paused")
        assert "no room" in notes(daemon)
        assert daemon.get("/healthz") == "ok\n"
        ballast.unlink()
        until(lambda: daemon.exists("outbox/starry/beach.jpg", "outbox/starry/beach.json"))
        until(lambda: daemon.status().get("state") == "ready")
    assert sorted(path.name for path in (root / "outbox" / "starry").iterdir()) == [
        "beach.jpg",
        "beach.json",
        "before.jpg",
        "before.json",
    ]


@scene
def a_start_on_a_full_disk_waits_for_room(folder: Path) -> None:
    root = folder / "root"
    mount(root / "state", 2)
    daemon = Process(root, outbox={"free_space_floor_bytes": 0})
    picture(root / "inbox" / "starry" / "beach.jpg")
    ballast = fill(root / "state")
    with (folder / "log").open("w") as log:
        daemon.start(log=log)
        try:
            until(lambda: "no room" in (folder / "log").read_text())
            assert daemon.process is not None
            assert daemon.process.poll() is None
            ballast.unlink()
            until(lambda: daemon.exists("outbox/starry/beach.jpg"))
        finally:
            daemon.end()


@scene
def room_runs_out_by_itself_below_the_floor(folder: Path) -> None:
    root = folder / "root"
    mount(root, 24)
    with running(root, outbox={"free_space_floor_bytes": 12 * MiB}) as daemon:
        daemon.ready()
        painted(daemon, "before")
        ballast = root / "ballast"
        ballast.write_bytes(bytes(14 * MiB))
        until(lambda: daemon.status().get("state") == "paused")
        assert metric(daemon, 'nstd_paused{reason="no_space"}') == 1
        ballast.unlink()
        until(lambda: daemon.status().get("state") == "ready")
        painted(daemon, "after")


# --- watches -------------------------------------------------------------------------------------


def _mode(daemon: Process) -> str:
    scans = metric(daemon, 'nstd_watch_mode{mode="scan"}')
    return "scan" if scans == 1 else "events"


@scene
def no_watch_can_be_had(folder: Path) -> None:
    INSTANCES.write_text("0")
    with running(folder / "root") as daemon:
        daemon.ready()
        assert _mode(daemon) == "scan"
        painted(daemon, "beach")


@scene
def there_are_fewer_watches_than_folders(folder: Path) -> None:
    root = folder / "root"
    for number in range(20):
        (root / "inbox" / f"sub {number}").mkdir(parents=True)
    WATCHES.write_text("5")
    with running(root) as daemon:
        daemon.ready()
        painted(daemon, "beach")
        for number in (0, 19):
            picture(root / "inbox" / f"sub {number}" / "pair.content.jpg")
            picture(root / "inbox" / f"sub {number}" / "pair.style.jpg")
        until(lambda: daemon.exists("outbox/sub 0/pair.jpg", "outbox/sub 19/pair.jpg"))
        until(lambda: _mode(daemon) == "scan")  # within a turn of the canaries


@scene
def the_watches_run_out_while_it_watches(folder: Path) -> None:
    root = folder / "root"
    WATCHES.write_text("8")
    with running(root) as daemon:
        daemon.ready()
        assert _mode(daemon) == "events"
        for number in range(20):
            (root / "inbox" / f"sub {number}").mkdir()
            picture(root / "inbox" / f"sub {number}" / "pair.content.jpg")
            picture(root / "inbox" / f"sub {number}" / "pair.style.jpg")
        until(lambda: all(daemon.exists(f"outbox/sub {n}/pair.jpg") for n in range(20)))
        painted(daemon, "beach")
        until(lambda: _mode(daemon) == "scan")  # within a turn of the canaries
        WATCHES.write_text("1000")
        until(lambda: _mode(daemon) == "events")


def main() -> None:
    """Play one scene; whatever is not as it should be is a traceback and an exit status."""
    folder = Path(sys.argv[2])
    os.environ.pop("NSTD_CONFIG", None)
    SCENES[sys.argv[1]](folder)


if __name__ == "__main__":
    main()
