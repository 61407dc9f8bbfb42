"""Killed, or refused by the disk, at any file-system call: nothing lost, doubled, torn, left over.

The whole loop runs on real folders and a real ledger; workers are pretended, so that thousands of
deaths take minutes. ``NSTD_CRASH_EVERY=1`` tries every call instead of a sample of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nstd.jobs import publish
from tests.service.kit import PICTURE, Bench

EVERY = int(os.environ.get("NSTD_CRASH_EVERY", "29"))
MOST_CALLS = 2_000

Tell = Callable[[str], None]


class Killed(BaseException):
    """What SIGKILL is to a process, as far as its files can tell."""


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: thousands of fsyncs are not what is tested."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="nstd-crashes-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _hook() -> Iterator[None]:
    before = publish.hook
    yield
    publish.hook = before


def kill_at(number: int) -> list[str]:
    """Die at the call of that number; whatever cleans up afterwards does nothing, as if dead."""
    calls: list[str] = []

    def hook(name: str) -> None:
        calls.append(name)
        if len(calls) >= number:
            raise Killed(name)

    publish.hook = hook
    return calls


def refuse_at(number: int, code: int) -> list[str]:
    """Fail the call of that number, once."""
    calls: list[str] = []

    def hook(name: str) -> None:
        calls.append(name)
        if len(calls) == number:
            raise OSError(code, os.strerror(code), name)

    publish.hook = hook
    return calls


def alive() -> None:
    publish.hook = lambda _name: None


def drop_everything(bench: Bench) -> None:
    """One job for each way of asking, and one for each way of failing."""
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.drop("pair.content.jpg")
    bench.drop("pair.style.png")
    bench.drop("side.jpg")
    (bench.root / "inbox" / "side.yaml").write_text("content: side.jpg\nstyle: starry\n")
    bench.drop("wrong.jpg")
    (bench.root / "inbox" / "wrong.yaml").write_text("content: wrong.jpg\nstile: starry\n")
    bench.drop("starry/broken.jpg")


def work(bench: Bench) -> None:
    """Let the workers do what they do with such inputs, until all jobs have ended."""
    bench.settle()
    for _ in range(60):
        for job_id, task in list(bench.executor.tasks.items()):
            if task.spec.content == "broken.jpg":
                bench.executor.fail(job_id, "decode", retry=False)
            else:
                bench.executor.step(job_id)
                bench.executor.finish(job_id)
        bench.daemon.watcher.hint()
        bench.tick(70.0)
        if not bench.executor.tasks and not bench.daemon.house.ledger.unfinished():
            bench.tick(70.0)
            if not bench.listing("inbox"):
                return


def check(bench: Bench) -> None:
    """Hold what lies there to the promises."""
    assert bench.outbox() == [
        "pair.jpg",
        "pair.json",
        "side.jpg",
        "side.json",
        "starry/beach.jpg",
        "starry/beach.json",
    ]
    for name in ("pair.jpg", "side.jpg", "starry/beach.jpg"):
        assert (bench.root / "outbox" / name).read_bytes().startswith(PICTURE)
    assert bench.listing("originals") == [
        "pair.content.jpg",
        "pair.style.png",
        "side.jpg",
        "side.yaml",
        "starry/beach.jpg",
    ]
    failed = [os.path.basename(name) for name in bench.listing("failed")]
    assert sorted(failed) == [
        "broken.jpg",
        *["error.json"] * 2,
        *["error.txt"] * 2,
        "wrong.jpg",
        "wrong.yaml",
    ]
    assert bench.listing("inbox") == []
    assert bench.listing("state/spool") == []
    assert list(bench.root.rglob(".nstd-*")) == []
    assert sorted(job.state for job in bench.jobs()) == ["done"] * 3 + ["failed"] * 2


def count_calls(tmp_path: Path) -> int:
    bench = Bench(tmp_path / "counted")
    drop_everything(bench)
    calls = refuse_at(-1, 0)
    work(bench)
    alive()
    check(bench)
    bench.stop()
    assert 100 < len(calls) < MOST_CALLS
    return len(calls)


def sample(calls: int, offset: int) -> range:
    return range(1 + offset % EVERY, calls + 1, EVERY)


@pytest.mark.timeout(3600)
def test_killed_at_any_call_it_goes_on_after_a_restart(quick: Path, tell: Tell) -> None:
    numbers = sample(count_calls(quick), 0)
    for number in numbers:
        bench = Bench(quick / f"killed-{number}")
        drop_everything(bench)
        calls = kill_at(number)
        try:
            work(bench)
        except Killed:
            alive()
            bench.restart(crash=True)
            work(bench)
        alive()
        try:
            check(bench)
        except AssertionError as error:
            raise AssertionError(f"killed at call {number}, {calls[number - 1]}") from error
        bench.stop()
        shutil.rmtree(bench.root)
    tell(f"The loop killed at {len(numbers)} calls: nothing lost, doubled, torn or left over.")


@pytest.mark.timeout(3600)
def test_killed_twice_it_goes_on_all_the_same(quick: Path, tell: Tell) -> None:
    deaths = 0
    for number in sample(count_calls(quick), 5):
        bench = Bench(quick / f"twice-{number}")
        drop_everything(bench)
        for again in (number, number // 2 + 1):
            kill_at(again)
            try:
                work(bench)
            except Killed:
                deaths += 1
            alive()
            for _ in range(3):  # the recovery dies, too
                kill_at(1 + again % 17)
                try:
                    bench.restart(crash=True)
                except Killed:
                    deaths += 1
                    alive()
                    continue
                break
            alive()
            bench.restart(crash=True)
        work(bench)
        check(bench)
        bench.stop()
        shutil.rmtree(bench.root)
    tell(f"The loop and its recovery killed again and again: {deaths} deaths, all as before.")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_refused_at_any_call_it_tries_again(quick: Path, code: int, tell: Tell) -> None:
    numbers = sample(count_calls(quick), code)
    for number in numbers:
        bench = Bench(quick / f"refused-{number}")
        drop_everything(bench)
        calls = refuse_at(number, code)
        work(bench)
        alive()
        work(bench)
        try:
            check(bench)
        except AssertionError as error:
            raise AssertionError(f"refused at call {number}, {calls[number - 1]}") from error
        bench.stop()
        shutil.rmtree(bench.root)
    tell(f"The loop refused {errno.errorcode[code]} at {len(numbers)} calls: the same.")
