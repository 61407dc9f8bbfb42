"""Daemons that are forked, not started: a life costs what its work costs, and no imports.

The process that forks becomes the reaper of whatever a killed daemon leaves, so that "everything
is dead" is a fact before anybody looks at the wreck.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from nstd.errors import NstdError
from nstd.service import config, life
from nstd.workers import system

PR_SET_CHILD_SUBREAPER = 36
DEADLINE_S = 120.0
PAUSE_S = 0.01


def become_reaper() -> None:
    """Have orphans of our children become our own."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Life:
    """One daemon process on a configuration, from its fork to its death."""

    def __init__(
        self, settings: Path, log: Path, *, drain: bool = False, **environment: str
    ) -> None:
        self.status: int | None = None
        mine = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _live(settings, log, mine, environment, drain=drain)

    def alive(self) -> bool:
        """Whether the daemon still runs; its exit status is kept when it does not."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the daemon is dead or something holds; False when neither came in time."""
        end = time.monotonic() + seconds
        while self.alive() and not until():
            if time.monotonic() >= end:
                return False
            time.sleep(PAUSE_S)
        return True

    def kill(self) -> None:
        """End it without a word."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if not self.wait(DEADLINE_S):
            raise AssertionError("a killed daemon does not die")

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(word) for word in text.split()]


def bury_orphans() -> None:
    """Wait until nothing is left of a dead daemon's family."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(PAUSE_S)
    raise AssertionError("a process has outlived its daemon")


def _live(
    settings: Path, log: Path, parent: int, environment: dict[str, str], *, drain: bool
) -> None:
    """Be the daemon, in the forked process; never returns."""
    code = 1
    try:
        system.die_with_parent(parent)
        os.environ.update(environment)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        for descriptor in (1, 2):
            os.dup2(out, descriptor)
        code = life.run(lambda: config.load(path=settings), drain=drain)
    except NstdError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command does
        code = error.exit_code
    except BaseException:  # noqa: BLE001 - the log has it, and the code says that it was none of ours
        traceback.print_exc()
        code = 70
    finally:
        sys.stderr.flush()
        os._exit(code)
