"""A clock for the loop: wall time that never jumps between two looks without saying so."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_S = 2.0
"""Wall time that runs ahead or behind by more was set (or the machine slept), and is followed."""


class SteadyClock:
    """Seconds since the epoch that advance with the monotonic clock.

    When the machine's clock is set, ``now`` follows in one step and ``take_step`` tells how far,
    so that whoever measures durations with it can shift what he remembers.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._step = 0.0

    def now(self) -> float:
        """Return the time."""
        offset = self._wall() - self._monotonic()
        if abs(offset - self._offset) > STEP_S:
            self._step += offset - self._offset
            self._offset = offset
        return self._monotonic() + self._offset

    def take_step(self) -> float:
        """Return by how many seconds the clock was set since the last call; usually 0."""
        step, self._step = self._step, 0.0
        return step
