"""Killed, or refused by the disk, at every file-system call in turn: nothing lost, nothing twice.

By default at some of the calls: ``NSTD_CRASH_EVERY=1`` takes each one, ``make crash-test`` does.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nstd.errors import NstdError
from nstd.jobs import publish
from nstd.jobs.job import Intake
from tests.jobs.house import House

EVERY = int(os.environ.get("NSTD_CRASH_EVERY", "29"))
ROOT = Path(__file__).resolve().parents[2]


class Crash(BaseException):
    """The process is gone: no call after it succeeds either."""


@pytest.fixture(autouse=True)
def _no_hook_survives() -> Iterator[None]:
    yield
    publish.hook = publish._no_hook


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a folder in memory: fsync costs nothing, and ``tmp_path`` is another file system."""
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=home) as path:
        yield Path(path)


def crash_from(number: int) -> Callable[[str], None]:
    calls = itertools.count(1)

    def hook(name: str) -> None:
        if next(calls) >= number:
            raise Crash(name)

    return hook


def fail_at(number: int, code: int) -> Callable[[str], None]:
    calls = itertools.count(1)

    def hook(name: str) -> None:
        if next(calls) == number:
            raise OSError(code, os.strerror(code), name)

    return hook


def live(house: House, hook: Callable[[str], None]) -> bool:
    """Run one life; returns whether it came to its end."""
    publish.hook = hook
    try:
        house.open()
        house.run()
    except (Crash, NstdError, FileExistsError):
        return False
    else:
        return True
    finally:
        publish.hook = publish._no_hook
        house.close()


def last_life(house: House) -> list[str]:
    house.open()
    house.run()
    try:
        return house.problems()
    finally:
        house.close()


@pytest.mark.parametrize("mode", ["move", "copy"])
def test_an_undisturbed_house_does_everything_once(memory: Path, mode: Intake) -> None:
    house = House(memory, mode=mode)
    house.furnish()
    assert last_life(house) == []


@pytest.mark.parametrize("mode", ["move", "copy"])
def test_a_crash_at_any_call_loses_nothing_and_doubles_nothing(
    memory: Path, mode: Intake, tell: Callable[[str], None]
) -> None:
    for number in itertools.count(1, EVERY):
        house = House(memory / str(number), mode=mode)
        house.furnish()
        ended = live(house, crash_from(number))
        assert last_life(house) == [], f"after a crash at call {number}"
        if ended:
            assert number > 200
            tell(f"Intake {mode}, killed at every {EVERY}. of {number} calls: all whole, and once.")
            return


def test_a_crash_at_any_call_across_file_systems_is_no_worse(memory: Path, tmp_path: Path) -> None:
    for number in itertools.count(1, 3 * EVERY):
        house = House(tmp_path / str(number), memory / str(number))
        house.furnish()
        ended = live(house, crash_from(number))
        assert last_life(house) == [], f"after a crash at call {number}"
        if ended:
            return


def test_a_second_crash_while_recovering_is_no_worse(memory: Path) -> None:
    firsts = range(20, 420, max(3 * EVERY, 20))
    seconds = range(1, 40, max(EVERY // 2, 3))
    for first, second in itertools.product(firsts, seconds):
        house = House(memory / f"{first}-{second}")
        house.furnish()
        live(house, crash_from(first))
        live(house, crash_from(second))
        assert last_life(house) == [], f"after crashes at calls {first} and {second}"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_an_error_at_any_call_loses_nothing_and_doubles_nothing(memory: Path, code: int) -> None:
    """The house lives on: no recovery, only the next turn."""
    for number in itertools.count(1 + code % EVERY, EVERY):
        house = House(memory / str(number))
        house.furnish()
        publish.hook = fail_at(number, code)
        opened = ended = False
        errors: list[str] = []
        while not ended and len(errors) < 3:
            try:
                if not opened:
                    house.open()
                    opened = True
                house.run()
                ended = True
            except (NstdError, FileExistsError) as error:
                errors.append(repr(error))
        publish.hook = publish._no_hook
        assert ended, f"after an error at call {number}: {errors}"
        assert house.problems() == [], f"after an error at call {number}"
        house.close()
        if number > 700:
            return


def test_an_error_while_admitting_leaves_everything_as_it_was(memory: Path) -> None:
    for number in itertools.count(1):
        house = House(memory / str(number))
        house.furnish({"starry/beach.jpg": b"photograph"})
        house.open()
        publish.hook = fail_at(number, errno.ENOSPC)
        try:
            house.admit()
        except NstdError as error:
            assert error.retry  # noqa: PT017
        publish.hook = publish._no_hook
        jobs = house.ledger.unfinished()
        held = [each.name for each in (house.state / "spool").iterdir()]
        if not jobs:
            assert (house.inbox / "starry" / "beach.jpg").read_bytes() == b"photograph"
            assert held == []
        assert len(jobs) <= 1
        assert held == [job.id for job in jobs]
        house.close()
        if number > 40:
            return


def test_a_killed_process_loses_nothing_and_doubles_nothing(
    tmp_path: Path, memory: Path, tell: Callable[[str], None]
) -> None:
    """The real thing: SIGKILL, in another process, on a real file system."""
    kills = 0
    for number in itertools.count(3 * EVERY, 3 * EVERY):
        root, state = memory / f"r{number}", tmp_path / f"s{number}"
        house = House(root, state)
        house.furnish()
        command = [sys.executable, "-m", "tests.jobs.house", str(root), str(state)]
        environment = {**os.environ, "NSTD_CRASH_AT": str(number)}
        run = subprocess.run(command, env=environment, cwd=ROOT, check=False)
        assert run.returncode in {0, -9}
        kills += run.returncode == -9
        assert last_life(house) == [], f"after a kill at call {number}"
        if run.returncode == 0:
            assert kills
            tell(f"A process killed at {kills} of its calls: all whole, and once.")
            return
