"""What wakes the loop: signals, the watcher's thread, workers; and the flags that signals set."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any


class Wake:
    """A pipe that any thread, and the signal machinery, may write to without waiting."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __call__(self) -> None:
        """End the current or the next wait."""
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: nobody waits
            os.write(self._write, b"\0")

    def wait(self, timeout_s: float, others: Iterable[int] = ()) -> None:
        """Return when woken, when one of ``others`` is readable, or after ``timeout_s``."""
        poller = select.poll()
        for descriptor in (self._read, *others):
            poller.register(descriptor, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def fileno(self) -> int:
        """Return the writing end, for ``signal.set_wakeup_fd``."""
        return self._write

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._read)
        os.close(self._write)


@dataclass
class Flags:
    """What signals have asked for; the loop looks at them between two ticks."""

    stop: bool = False
    hurry: bool = False
    """Asked to stop twice: no grace for anybody."""
    reload: bool = False


class Signals:
    """SIGTERM and SIGINT ask to stop, SIGHUP to reload; handlers only set flags."""

    def __init__(self, flags: Flags, wake: Wake) -> None:
        self._flags, self._wake = flags, wake
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def install(self) -> None:
        """Take the signals over; from the main thread."""
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            self._before[number] = signal.signal(number, handler)
        self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def restore(self) -> None:
        """Give the signals back."""
        if not self._before:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._flags.hurry = self._flags.stop
        self._flags.stop = True

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self._flags.reload = True
