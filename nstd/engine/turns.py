"""Whose turn it is on the device, and who shares one: several runs in threads of their own.

Each run asks for some steps at a time. Those of the same kind that are at the same level at the
same moment take them in one batch; everything else happens one after the other, so that memory
is never used twice. The oldest run and its kin go first. Among kin the one that is furthest
behind goes first: it catches up with the others, and from then on they step together.

Nobody waits for long. Whoever is just back from a turn (writing a checkpoint, say) is waited for
a moment; a run whose turn does not come within a second gets no steps, so that it can tell that
it lives, or stop. A run without company passes straight through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from nstd.engine.loop import DeviceLoop

if TYPE_CHECKING:
    from nstd.engine.loop import Outcome, State, StepLoop

LONGEST_WAIT_S = 1.0
"""Then a run whose turn has not come looks whether it is to stop, and says that it lives."""
_SHORTEST_PATIENCE_S, _LONGEST_PATIENCE_S = 0.05, 0.25
"""For a run that is between two calls; within these, a quarter of what its last call took."""


@dataclass(eq=False)
class _Call:
    """Steps that a run asks for."""

    loop: StepLoop
    state: State
    count: int
    level: int
    most: int
    """Pictures of this size that memory allows in one batch."""
    solo: bool = False
    """A batch with it failed: now each shows on its own whose fault it was."""
    taken: bool = False
    outcome: Outcome | None = None

    def fits(self, other: _Call) -> bool:
        """Tell whether both can be computed in one batch."""
        mine, theirs = self.state, other.state
        return (
            isinstance(self.loop, DeviceLoop)
            and self.loop is other.loop
            and not (self.solo or other.solo)
            and mine[0].image.shape == theirs[0].image.shape
            and mine[2].regions == theirs[2].regions
        )


class Seat:
    """One run among those that share the device, in the order in which they came."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.kin: Hashable = self
        """Equal for runs that may step together; its own where nobody says otherwise."""
        self.largest = 1
        """Runs, this one included, that have shared a batch at most."""
        self.call: _Call | None = None
        self.back_by = float("-inf")
        """Until then it is worth waiting for its next call."""

    @property
    def waiting(self) -> bool:
        """Whether its call has not been taken up yet."""
        return self.call is not None and not self.call.taken

    def alone(self) -> AbstractContextManager[None]:
        """Return a context that has the device to itself, before the steps of anybody."""
        return self._turns.exclusive(self)

    def steps(
        self, loop: StepLoop, state: State, count: int, *, level: int = 0, most: int = 1
    ) -> Outcome:
        """Take up to ``count`` steps, with others where that fits: what the loop returns.

        None at all when the turn does not come for a second. Errors of a batch never arrive here:
        its runs go on one by one, and each gets its own.
        """
        call = self.call = _Call(loop, state, count, level, most)
        try:
            while batch := self._turns.wait(self):
                self._turns.run(batch)
        finally:
            self._turns.back(self)
        return call.outcome or (state[0], state[1], tf.zeros((0, 4, 1)))


class Turns:
    """The device of one process, and the runs that share it."""

    def __init__(self) -> None:
        self._door = threading.Condition()
        self._seats: list[Seat] = []
        self._busy = False
        self._to_prepare = 0
        """Runs that wait for the device to themselves."""
        self._limit = 2**30
        """Pictures in a batch; halved when memory runs out in spite of the plan."""

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Yield a seat for one run."""
        seat = Seat(self)
        with self._door:
            self._seats.append(seat)
        try:
            yield seat
        finally:
            with self._door:
                self._seats.remove(seat)
                self._door.notify_all()

    @contextmanager
    def exclusive(self, seat: Seat) -> Iterator[None]:
        """Have the device for one run alone: to prepare, which nobody can share."""
        with self._door:
            seat.back_by = float("-inf")
            self._to_prepare += 1
            try:
                while self._busy:
                    self._door.wait()
            finally:
                self._to_prepare -= 1
            self._busy = True
        try:
            yield
        finally:
            with self._door:
                self._busy = False
                seat.back_by = time.monotonic() + _SHORTEST_PATIENCE_S
                self._door.notify_all()

    def wait(self, seat: Seat) -> list[Seat]:
        """Wait for the turn of a run that has a call: who shares it, if this one is to lead.

        Empty: somebody else led and the outcome is there, or the turn did not come in time.
        """
        until = time.monotonic() + LONGEST_WAIT_S
        with self._door:
            self._door.notify_all()  # somebody may be waiting for just this one
            while True:
                call = seat.call
                if call is None or call.outcome is not None:
                    return []
                now = time.monotonic()
                if batch := self._led_by(seat, now):
                    self._take(batch)
                    return batch
                if not call.taken and now >= until:
                    seat.call = None  # nobody takes it up any more
                    return []
                looks = [until, *(each.back_by for each in self._seats)]
                due = min((at for at in looks if at > now), default=now + LONGEST_WAIT_S)
                self._door.wait(due - now)

    def _led_by(self, seat: Seat, now: float) -> list[Seat]:
        """Return the next batch if it is this run's to lead."""
        if self._busy or self._to_prepare or not seat.waiting:
            return []
        present = [each for each in self._seats if each.waiting or now < each.back_by]
        kin = [each for each in present if each.kin == present[0].kin]
        calls = [(each, each.call) for each in kin if each.call is not None and each.waiting]
        if len(calls) < len(kin):
            return []  # one of them is just about to come back
        furthest_behind = min(call.level for _, call in calls)
        group = [(each, call) for each, call in calls if call.level == furthest_behind]
        leader, first = group[0]
        if leader is not seat:
            return []
        others = [each for each, call in group[1:] if first.fits(call)]
        return [leader, *others][: max(1, min(first.most, self._limit))]

    def _take(self, batch: list[Seat]) -> None:
        self._busy = True
        for each in batch:
            each.back_by = float("-inf")
            if each.call is not None:
                each.call.taken = True

    def run(self, batch: list[Seat]) -> None:
        """Take the steps of a batch, and hand out what came of them."""
        calls = [each.call for each in batch if each.call is not None]
        began, outcomes = time.monotonic(), []
        try:
            outcomes = self._computed(calls)
        except Exception as error:
            if len(calls) == 1:
                raise
            if isinstance(error, tf.errors.ResourceExhaustedError):
                self._limit = max(1, len(calls) // 2)
        finally:
            self._settle(batch, calls, outcomes, time.monotonic() - began)

    def _computed(self, calls: list[_Call]) -> list[Outcome]:
        loop, count = calls[0].loop, min(call.count for call in calls)
        if len(calls) > 1 and isinstance(loop, DeviceLoop):
            outcomes = loop.together([call.state for call in calls], count)
        else:
            outcomes = [loop(*calls[0].state, count)]
        outcomes[0][2].numpy()  # waits for the device, which has no next turn before
        return outcomes

    def _settle(
        self, batch: list[Seat], calls: list[_Call], outcomes: list[Outcome], spent: float
    ) -> None:
        """Give each run its outcome; where there is none, each tries again on its own."""
        patience = min(_LONGEST_PATIENCE_S, max(_SHORTEST_PATIENCE_S, spent / 4))
        with self._door:
            self._busy = False
            for i, (seat, call) in enumerate(zip(batch, calls, strict=True)):
                if outcomes:
                    call.outcome = outcomes[i]
                    seat.largest = max(seat.largest, len(batch))
                    seat.back_by = time.monotonic() + patience
                else:
                    call.taken, call.solo = False, True
            self._door.notify_all()

    def back(self, seat: Seat) -> None:
        """Note that a run has its steps, or none, and will be back for more in no time."""
        with self._door:
            seat.call = None
            seat.back_by = max(seat.back_by, time.monotonic() + _SHORTEST_PATIENCE_S)
            self._door.notify_all()
