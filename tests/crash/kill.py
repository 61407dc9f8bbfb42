"""Kill real daemons and their workers, thousands of times, and hold each wreck to the promises.

``python -m tests.crash.kill KILLS [SEED]``: real processes, real folders, a real ledger; the engine
is the stand-in, so that a life takes a second. NSTD_MINUTES bounds the time. A house is a root that
sees its daemon killed again and again while photographs come in; in the end it is left in peace,
and everything must have ended exactly once, with the pictures of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nstd.errors import StorageError
from tests.crash.lives import Life, become_reaper, bury_orphans
from tests.crash.model import STYLE, WAYS, Drop, Model, Way, make_drop, photograph

KILLS_PER_HOUSE = 20
LIFE_S = 1.5
"""A random instant lies within so long of a daemon's birth."""
PATIENCE_S = 8.0
"""A planned call that has not come by then never comes; the daemon is killed as it stands."""
CALM_S = 300.0
CALLS, WORKER_CALLS = 200, 60
"""About what a life makes, and a worker in one job."""
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
MEMORY = Path("/dev/shm")

Golden = dict[tuple[Way, int], str]


class House:
    """One root on which daemons live and die."""

    def __init__(
        self, root: Path, state: Path, golden: Golden, *, copies: bool, batch: int
    ) -> None:
        self.settings, self.log = (
            root.parent / f"{root.name}.yaml",
            root.parent / f"{root.name}.log",
        )
        self.model = Model(root, state, golden, copies=copies)
        for folder in (root / "inbox", root / "styles", state):
            folder.mkdir(parents=True)
        (root / "styles" / f"{STYLE}.jpg").write_bytes(photograph(77, "style"))
        self.settings.write_text(json.dumps(_settings(root, state, copies=copies, batch=batch)))
        self.number = 0

    def more(self, count: int = 1) -> None:
        for _ in range(count):
            self.model.drop(make_drop(self.number))
            self.number += 1

    def live(self, *, drain: bool = False, **environment: str) -> Life:
        return Life(self.settings, self.log, drain=drain, **environment)

    def rest(self) -> None:
        """Let a last daemon do all that is left, undisturbed, and judge the end."""
        life = self.live(drain=True)
        if not life.wait(CALM_S):
            life.kill()
            self.model.words.append("lost: the house never comes to rest")
            self.model.found["lost"] += 1
        bury_orphans()
        if life.status not in (0, 1):
            self.model.words.append(f"lost: the last daemon ended with {life.status}")
            self.model.found["lost"] += 1
        self.model.check_end()


def _settings(root: Path, state: Path, *, copies: bool, batch: int) -> dict[str, object]:
    return {
        "folders": {"root": str(root), "state": str(state)},
        "inbox": {
            "intake": "copy" if copies else "move",
            "settle_s": 0.05,
            "incomplete_timeout_s": 0.2,
            "scan_interval_s": 0.2,
        },
        "queue": {"capacity_jobs": 8},
        "defaults": {"preset": "tiny", "iterations": 12},
        "worker": {
            "checkpoint_s": 0.02, "preview_s": 0.05, "retry_s": 0.05, "retry_max_s": 0.2,
            "max_attempts": 1000, "max_worker_deaths": 100, "max_daemon_deaths": 100,
            "batch": batch,
        },
        "outbox": {"status_interval_s": 0.2, "free_space_floor_bytes": 0},
        "http": {"listen": "127.0.0.1:0"},
        "log": {"format": "json"},
    }  # fmt: skip


class Campaign:
    """Kills, counted by kind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.refusals = 0
        self.call = self.worker_call = 0

    @property
    def count(self) -> int:
        return sum(self.kills.values())

    def life(self, house: House) -> None:
        """Let one daemon live on the house, and end it by force."""
        house.more(self.random.choice((0, 1, 1, 2)))
        ways = (*[self._at_a_call] * 3, self._at_an_instant, self._worker_at_an_instant,
                self._worker_at_a_call, self._refused)  # fmt: skip
        way = self.random.choice(ways)
        refused = way == self._refused
        life = way(house)
        was_dead = not life.alive()
        life.kill()
        if life.status == -signal.SIGKILL:
            kind = "daemons at a call" if was_dead else "daemons at an instant"
            self.kills[kind] += 1
        elif not refused or life.status != StorageError.exit_code:
            house.model.words.append(f"lost: a daemon ended by itself with {life.status}")
            house.model.found["lost"] += 1
        bury_orphans()
        house.model.check_wreck()

    def _at_a_call(self, house: House) -> Life:
        """Die just before the next call in turn, over all the calls that a life makes."""
        house.more(2)
        self.call += 1
        life = house.live(NSTD_CRASH_AT=str(self.call))
        life.wait(PATIENCE_S, lambda: _is_idle(house))
        if life.alive():  # a life makes fewer calls: once more from the first
            self.call = 0
        return life

    def _at_an_instant(self, house: House) -> Life:
        life = house.live()
        life.wait(self.random.uniform(0, LIFE_S))
        return life

    def _worker_at_an_instant(self, house: House) -> Life:
        life = house.live(NSTD_STANDIN="step_s=0.02")
        life.wait(LIFE_S, lambda: bool(life.workers()))
        life.wait(self.random.uniform(0, LIFE_S))
        for pid in life.workers():
            os.kill(pid, signal.SIGKILL)
            self.kills["workers at an instant"] += 1
        life.wait(self.random.uniform(0, 1))
        return life

    def _worker_at_a_call(self, house: House) -> Life:
        self.worker_call = self.worker_call % WORKER_CALLS + 1
        house.more()
        life = house.live(NSTD_WORKER_CRASH_AT=str(self.worker_call))
        life.wait(LIFE_S, lambda: bool(life.workers()))
        first = life.workers()
        life.wait(PATIENCE_S / 2, lambda: life.workers() != first or _is_idle(house))
        self.kills["workers at a call"] += life.alive() and life.workers() != first
        life.wait(self.random.uniform(0, 0.3))
        return life

    def _refused(self, house: House) -> Life:
        """One call fails with an error, and the daemon is killed only later."""
        house.more()
        number, error = self.random.randrange(1, CALLS), self.random.choice(ERRORS)
        self.refusals += 1
        life = house.live(NSTD_CRASH_AT=f"{number}:{error}")
        life.wait(self.random.uniform(LIFE_S, 2 * LIFE_S))
        return life


def _is_idle(house: House) -> bool:
    """Whether nothing is left to do: by the inbox and the spool, as anybody could see it."""
    inbox, spool = house.model.root / "inbox", house.model.state / "spool"
    if house.model.copies:
        outbox = {path.name for path in (house.model.root / "outbox").rglob("*.jpg")}
        wanted = {os.path.basename(d.result) for d in house.model.drops if not d.fails}
        return wanted <= outbox and spool.is_dir() and not any(spool.iterdir())
    files = any(path.is_file() for path in inbox.rglob("*"))
    return not files and spool.is_dir() and not any(spool.iterdir())


@contextmanager
def house(number: int, golden: Golden) -> Iterator[House]:
    """Return a house: every other one copies, every third has its state on another file system.

    In every other pair of houses the worker has up to four jobs at a time (NSTD_BATCH: in all).
    """
    batch = int(os.environ.get("NSTD_BATCH", (1, 1, 4, 4)[number % 4]))
    with ExitStack() as stack:
        memory = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nstd-kill-")))
        other = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nstd-kill-", dir=memory))
        )
        root = (top if number % 3 else other) / "root"
        state = other / "state" if number % 3 != 1 else root / "state"
        yield House(root, state, golden, copies=number % 2 == 1, batch=batch)


def undisturbed(golden: Golden) -> Model:
    """Paint one drop of each kind in peace: their pictures are what all others are held to."""
    with house(0, golden) as calm:
        kinds: dict[tuple[Way, int], Drop] = {}
        for number in range(3 * len(WAYS)):
            kinds.setdefault(make_drop(number).kind, make_drop(number))
        for drop in kinds.values():
            calm.model.drop(drop)
        calm.rest()
        return calm.model


def campaign(kills: int, seed: int, minutes: float) -> int:
    """Kill until there are enough, or the time is over; print what was found."""
    become_reaper()
    began, golden = time.monotonic(), Golden()
    found, words = Counter[str](), list[str]()
    counted, houses, jobs = Campaign(seed), 0, 0
    calm = undisturbed(golden)
    found.update(calm.found)
    words += calm.words
    while counted.count < kills and time.monotonic() - began < 60 * minutes:
        with house(houses, golden) as each:
            each.more(3)
            for _ in range(KILLS_PER_HOUSE):
                if counted.count < kills:
                    counted.life(each)
            each.rest()
            found.update(each.model.found)
            if each.model.words:
                words += each.model.words
                Path(f"kill-house-{seed}-{houses}.log").write_bytes(each.log.read_bytes())
        houses, jobs = houses + 1, jobs + each.number
        print(f"{counted.count} kills ...", file=sys.stderr, flush=True)  # noqa: T201 - a command
    _tell(counted, houses, jobs, found, words, time.monotonic() - began)
    return 1 if words else 0


def _tell(  # noqa: PLR0917 - private, and called once
    counted: Campaign, houses: int, jobs: int, found: Counter[str], words: list[str], seconds: float
) -> None:
    for line in words[:50]:
        print(line)  # noqa: T201 - a command
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.kills.items()))
    print(  # noqa: T201 - a command
        f"{counted.count} kills, {found['torn']} torn, {found['lost']} lost, "
        f"{found['doubled']} doubled, {found['left over']} left-over temporaries "
        f"({kinds}; {counted.refusals} calls refused; {jobs} jobs in {houses} houses; "
        f"{seconds / 60:.0f} min)"
    )


def main() -> int:
    """Read the command line and the environment."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    os.environ.update(NSTD_ENGINE="standin", OPENBLAS_NUM_THREADS="1")
    return campaign(kills, seed, float(os.environ.get("NSTD_MINUTES", "120")))


if __name__ == "__main__":
    sys.exit(main())
