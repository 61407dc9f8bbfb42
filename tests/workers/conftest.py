"""Jobs to paint, and executors that paint them with the stand-in."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from nstd.engine.params import PRESETS, StyleParams
from nstd.jobs.spec import JobSpec, StyleChoice
from nstd.workers.executor import Event, Task
from nstd.workers.local import LocalExecutor
from nstd.workers.patience import Supervision
from nstd.workers.settings import PaintSettings, WorkerSettings

DEADLINE_S = 60.0
E = TypeVar("E", bound=Event)
PARAMS = PRESETS["tiny"]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a smooth random picture, (width, height)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def make_task(
    folder: Path, job_id: str = "job1", params: StyleParams = PARAMS, **changes: Any
) -> Task:
    """Lay out a job folder as the spool does, and return its task."""
    job_dir = folder / job_id
    (job_dir / "input").mkdir(parents=True)
    picture(job_dir / "input" / "beach.png", 1)
    picture(job_dir / "input" / "waves.png", 2)
    spec = JobSpec("beach.png", (StyleChoice("waves.png"),), params=params, **changes)
    return Task(job_id, str(job_dir), spec)


class Bench:
    """An executor under test, with everything it has said so far."""

    def __init__(
        self, executor: LocalExecutor, log: list[str], deadline_s: float = DEADLINE_S
    ) -> None:
        self.executor, self.log, self.deadline_s = executor, log, deadline_s
        self.seen: list[Event] = []

    def until(self, done: Callable[[], bool], what: str = "") -> None:
        """Drain events until ``done``; fail at the deadline with what was seen."""
        deadline = time.monotonic() + self.deadline_s
        self.drain()
        while not done():
            if time.monotonic() > deadline:
                told = [*map(repr, self.seen), *self.log]
                pytest.fail("\n".join([f"no {what} in {self.deadline_s} s:", *told]))
            self.executor._poller.poll(0.02)
            self.drain()

    def drain(self) -> None:
        self.seen += self.executor.events()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]

    def until_seen(self, kind: type[E], count: int = 1) -> E:
        """Wait for the ``count``-th event of a kind and return it."""
        self.until(lambda: len(self.of(kind)) >= count, kind.__name__)
        return self.of(kind)[count - 1]

    def until_idle(self) -> None:
        self.until(lambda: self.executor.free_slots() > 0, "an idle worker")

    @property
    def pid(self) -> int:
        pid = self.executor.workers()[0].pid
        assert pid is not None
        return pid


NewBench = Callable[..., Bench]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[NewBench]:
    """Return a maker of started executors: ``bench(faults, clock=..., stall_s=...)``."""
    with contextlib.ExitStack() as stack:

        def make(
            faults: str = "",
            *,
            devices: tuple[str, ...] = ("cpu",),
            clock: Callable[[], float] = time.monotonic,
            checkpoint_s: float = 60.0,
            batch: int | None = None,
            **rules: Any,
        ) -> Bench:
            monkeypatch.setenv("NSTD_ENGINE", "standin")
            monkeypatch.setenv("NSTD_STANDIN", faults)
            log: list[str] = []
            executor = LocalExecutor(
                devices,
                WorkerSettings(
                    batch=batch, paint=PaintSettings(checkpoint_s=checkpoint_s, preview_s=0.05)
                ),
                Supervision(**{"first_pause_s": 0.01, **rules}),
                log=lambda worker, line: log.append(f"{worker}: {line}"),
                clock=clock,
            )
            executor.start()
            stack.callback(executor.close)
            stack.callback(executor.stop, 0)
            return Bench(executor, log)

        yield make


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that is only not yet reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
