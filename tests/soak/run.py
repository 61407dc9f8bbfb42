"""Thousands of small jobs of changing shapes through one daemon: nothing may grow.

``python -m tests.soak.run JOBS [standin|builtin]``: batches of jobs of every kind go through a real
daemon whose worker is never replaced by rule, so that nothing hides what it gathers. After each
batch, at rest, memory, descriptors, threads and watches of daemon, worker and the server that forks
its decoders are read from /proc.
NSTD_MINUTES bounds the time.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.service.process import Process

BATCH = 50
STYLES = 5
MiB = 2**20
STALL_S = 300.0
"""Without one more job that ends for so long, something is stuck."""
LOOKS, LOOKS_GAP_S = 20, 0.05
"""Looks at what can be counted, of which the lowest holds: what is never closed is in all."""
FORMATS = ("jpg", "png", "webp", "tif")
WARM = {"standin": 25, "builtin": 200}
"""Jobs after which memory has to stay: TensorFlow keeps what it has built for a shape."""
ROOM_MIB = {
    "standin": {"daemon_mib": 6, "worker_mib": 12, "decoder_mib": 1},
    "builtin": {"daemon_mib": 6, "worker_mib": 160, "decoder_mib": 1},
}
"""What daemon and worker may hold more in the last third than in the one before it."""
CEILING_MIB = {
    "standin": {"daemon_mib": 120, "worker_mib": 150, "decoder_mib": 100},
    "builtin": {"daemon_mib": 120, "worker_mib": 2500, "decoder_mib": 100},
}
"""What they may never hold."""


@dataclass(frozen=True)
class Sample:
    """One look at rest."""

    jobs: int
    daemon_mib: float
    worker_mib: float
    decoder_mib: float
    daemon_fds: int
    worker_fds: int
    decoder_fds: int
    daemon_threads: int
    worker_threads: int
    watches: int


class Soak:
    """A daemon and the jobs that are poured into it."""

    def __init__(self, root: Path, engine: str, seed: int) -> None:
        self.root, self.engine, self.random = root, engine, random.Random(seed)
        self.daemon = Process(root, **_settings(engine))
        for number in range(STYLES):
            self.photo(root / "styles" / f"style {number}.png")
        self.made = self.ended = self.failing = 0
        self.samples: list[Sample] = []

    def photo(self, path: Path) -> None:
        """Write a small photograph of a shape that is likely new."""
        width, height = (self.random.randrange(24, 160) for _ in range(2))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self._pixels(height, width)).save(path)

    def _pixels(self, height: int, width: int) -> Any:
        rng = np.random.default_rng(self.random.randrange(2**32))
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))

    # --- jobs --------------------------------------------------------------------------------

    def pour(self, count: int) -> None:
        """Drop so many jobs: three ways of asking, two of failing, and a folder that is new."""
        for _ in range(count):
            self.made += 1
            stem, inbox = f"photo {self.made:06}", self.root / "inbox"
            style = f"style {self.random.randrange(STYLES)}"
            name = f"{stem}.{self.random.choice(FORMATS)}"
            way = self.random.randrange(8)
            if way < 4:
                self.photo(inbox / style / name)
            elif way == 4:
                self.photo(inbox / f"trip {self.made // BATCH % 3}" / f"{stem}.content.jpg")
                self.photo(inbox / f"trip {self.made // BATCH % 3}" / f"{stem}.style.png")
            elif way < 7:
                self.photo(inbox / name)
                text = f"content: {name}\nstyle: {style}\n{self._settings()}"
                (inbox / f"{stem}.yaml").write_text(text)
            else:
                self.failing += 1
                (inbox / style).mkdir(parents=True, exist_ok=True)
                (inbox / style / name).write_bytes(self.random.randbytes(999))

    def _settings(self) -> str:
        size, steps = self.random.randrange(32, 129), self.random.randrange(1, 7)
        optimizer = self.random.choice(("lbfgs", "adam"))
        colour = self.random.choice(("none", "luminance", "histogram"))
        return (
            f"size: {size}\niterations: {steps}\noptimizer: {optimizer}\npreserve_color: {colour}\n"
        )

    def rest(self) -> None:
        """Wait until every job has ended."""
        deadline = time.monotonic() + STALL_S
        while self.ended < self.made:
            assert self.daemon.process is not None
            assert self.daemon.process.poll() is None, "the daemon has ended"
            assert time.monotonic() < deadline, f"stuck after {self.ended} of {self.made}"
            time.sleep(0.2)
            totals = self.daemon.status().get("totals", {})
            if (ended := sum(totals.values())) > self.ended:
                self.ended, deadline = ended, time.monotonic() + STALL_S
        assert totals.get("failed", 0) == self.failing
        self._tidy()

    def _tidy(self) -> None:
        """Remove the empty folders of trips, as people do."""
        for path in (self.root / "inbox").glob("trip *"):
            shutil.rmtree(path)

    # --- what is measured ----------------------------------------------------------------------

    def look(self) -> None:
        """Read what daemon and worker hold, once both have come to rest."""
        assert self.daemon.process is not None
        daemon = self.daemon.process.pid
        end = time.monotonic() + STALL_S
        while len(workers := _children(daemon)) != 1 or _decodes(workers[0]):
            assert time.monotonic() < end, f"no rest: {workers}"
            time.sleep(0.1)
        time.sleep(1.0)  # a canary, a page and a scan may be under way
        (worker,) = workers
        (decoder,) = _children(worker)
        self.samples.append(
            Sample(
                self.ended,
                _status(daemon, "VmRSS") / 1024,
                _status(worker, "VmRSS") / 1024,
                _status(decoder, "VmRSS") / 1024,
                *_at_rest(daemon, worker, decoder),
            )
        )

    def verdict(self) -> list[str]:
        """Return what has grown from the middle third to the last, or is too much."""
        grown = []
        warm = [sample for sample in self.samples if sample.jobs > WARM[self.engine]]
        for each in fields(Sample)[1:]:
            memory = each.name.endswith("_mib")
            values = [getattr(sample, each.name) for sample in (warm if memory else self.samples)]
            room = ROOM_MIB[self.engine].get(each.name, 0)
            first, last = _thirds(values)
            if last > first + room:
                grown.append(f"{each.name} has grown from {first:.0f} to {last:.0f}")
            last = getattr(self.samples[-1], each.name)
            if memory and last > CEILING_MIB[self.engine][each.name]:
                grown.append(f"{each.name} is {last:.0f}")
        return grown


def _thirds(values: list[float]) -> tuple[float, float]:
    """Return the medians of the middle third and of the last; of a few values, all and the last."""
    third = len(values) // 3
    if not third:
        return (statistics.median(values), values[-1]) if values else (0, 0)
    return statistics.median(values[third : 2 * third]), statistics.median(values[-third:])


def _settings(engine: str) -> dict[str, dict[str, Any]]:
    return {
        "inbox": {"settle_s": 0.2, "incomplete_timeout_s": 0.5, "scan_interval_s": 1.0},
        "model": {"weights": "builtin", "device": "cpu"},
        "defaults": {"preset": "tiny"},
        "worker": {"max_jobs": 1_000_000, "checkpoint_s": 0.2, "preview_s": 0.2},
        "outbox": {"free_space_floor_bytes": 0, "status_interval_s": 2.0},
        "log": {"level": "warning"},
    }


def _decodes(worker: int) -> bool:
    """Whether the worker's decode server has a picture in hand."""
    return any(_children(server) for server in _children(worker))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _at_rest(daemon: int, worker: int, decoder: int) -> list[int]:
    """Return the counts of a Sample without what comes and goes: a scan opens folders, say."""
    looks = []
    for _ in range(LOOKS):
        looks.append((
            _descriptors(daemon), _descriptors(worker), _descriptors(decoder),
            _status(daemon, "Threads"), _status(worker, "Threads"), _watches(daemon),
        ))  # fmt: skip
        time.sleep(LOOKS_GAP_S)
    return [min(counts) for counts in zip(*looks, strict=True)]


def _watches(pid: int) -> int:
    count = 0
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            count += path.read_text().count("inotify wd:")
        except OSError:
            continue
    return count


@contextmanager
def soaking(engine: str, seed: int) -> Iterator[Soak]:
    """Start a daemon for a soak; end it however the soak ends."""
    with tempfile.TemporaryDirectory(prefix="nstd-soak-") as folder:
        soak = Soak(Path(folder) / "root", engine, seed)
        with (Path(folder) / "log").open("w") as log:
            soak.daemon.start(log=log, NSTD_ENGINE="standin" if engine == "standin" else "")
        try:
            soak.daemon.ready()
            yield soak
            code, _ = soak.daemon.stop()
            assert code == 0
        except AssertionError:
            print((Path(folder) / "log").read_text()[-4000:])  # noqa: T201 - a command
            raise
        finally:
            soak.daemon.end()


def run(jobs: int, engine: str, seed: int, minutes: float) -> int:
    """Soak, and print what was measured and what has grown."""
    began = time.monotonic()
    with soaking(engine, seed) as soak:
        while soak.made < jobs and time.monotonic() - began < 60 * minutes:
            soak.pour(min(BATCH, jobs - soak.made))
            soak.rest()
            soak.look()
        pictures = list((soak.root / "outbox").rglob("*.json"))
        assert len(pictures) == soak.made - soak.failing, "not each was painted exactly once"
        assert not any((soak.root / "state" / "spool").iterdir())
        ledger = (soak.root / "state" / "ledger.sqlite3").stat().st_size
    _tell(soak, engine, ledger, time.monotonic() - began)
    grown = soak.verdict()
    for line in grown:
        print(line)  # noqa: T201 - a command
    return 1 if grown else 0


def _tell(soak: Soak, engine: str, ledger: int, seconds: float) -> None:
    print(  # noqa: T201 - a command
        f"soak, {engine}: {soak.ended} jobs ({soak.failing} made to fail) in {seconds / 60:.0f} min"
        f", each ended once; ledger {ledger / soak.ended:.0f} bytes a job"
    )
    names = [each.name for each in fields(Sample)]
    print("  ".join(f"{name:>14}" for name in names))  # noqa: T201 - a command
    step = max(1, len(soak.samples) // 8)
    for sample in [*soak.samples[:-1:step], soak.samples[-1]]:
        print("  ".join(f"{getattr(sample, name):>14.0f}" for name in names))  # noqa: T201


def main() -> int:
    """Read the command line and the environment."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    engine = sys.argv[2] if len(sys.argv) > 2 else "standin"
    seed = int(os.environ.get("NSTD_SEED", "1"))
    return run(jobs, engine, seed, float(os.environ.get("NSTD_MINUTES", "90")))


if __name__ == "__main__":
    sys.exit(main())
