"""Runs in threads share the device: in one batch where they fit, else one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import turns as turns_module
from nstd.engine.loop import DeviceLoop, Outcome, State
from nstd.engine.objective import Targets, Terms
from nstd.engine.optimizers import Adam, start
from nstd.engine.turns import Seat, Turns
from tests.engine.conftest import wait_until

pytestmark = pytest.mark.usefixtures("_cpu")

OPTIMIZER = Adam(0.02, 0.9, 0.999, 1e-8, 0.0)


def bowl(images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
    away = images - targets.content["layer"]
    loss = tf.reduce_mean(tf.square(away), (1, 2, 3))
    return Terms(loss, loss, loss, loss), away


class Loop(DeviceLoop):
    """A loop that remembers its batches, and fails where a picture is all ``poison``."""

    def __init__(self, error: Exception | None = None, poison: float = -1.0) -> None:
        super().__init__(bowl, OPTIMIZER)  # type: ignore[arg-type]
        self.batches: list[list[float]] = []
        self.error, self.poison = error, poison

    def together(self, states: Sequence[State], count: int) -> list[Outcome]:
        values = [round(float(state[0].image[0, 0, 0, 0]), 1) for state in states]
        self.batches.append(values)
        if self.error is not None and (self.poison in values or len(values) > 2 > self.poison):
            raise self.error
        return super().together(states, count)


def state(value: float, side: int = 4) -> State:
    image = tf.fill((1, side, side, 3), value)
    targets = Targets({"layer": tf.zeros_like(image)}, {"layer": ()}, {}, {})
    return start(image), OPTIMIZER.init(image), targets


class Table:
    """A device that the test holds until everybody has asked for steps."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.turns, self._pool = Turns(), pool
        self._threads: list[Future[Outcome]] = []
        self.order: list[float] = []

    def ask(self, loop: Loop, value: float, *, kin: str = "kin", **more: Any) -> Future[Outcome]:
        side, count = more.pop("side", 4), more.pop("count", 3)
        more = {"most": 8, **more}
        before = len(self.turns._seats)

        def run() -> Outcome:
            with tf.device("/CPU:0"), self.turns.seat() as seat:
                seat.kin = kin
                while True:
                    outcome = seat.steps(loop, state(value, side), count, **more)
                    if len(outcome[2]):
                        self.order.append(value)
                        return outcome

        thread = self._pool.submit(run)
        wait_until(lambda: sum(seat.waiting for seat in self.turns._seats) == before, "a call")
        return thread


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setattr(turns_module, "LONGEST_WAIT_S", 60.0)
    with ThreadPoolExecutor(8) as pool:
        yield Table(pool)


def held(turns: Turns) -> Any:
    """Hold the device for as long as the context lasts."""
    stack = turns.seat()
    seat = stack.__enter__()

    class Held:
        def __enter__(self) -> Seat:
            self.inner = seat.alone()
            self.inner.__enter__()
            return seat

        def __exit__(self, *_: object) -> None:
            self.inner.__exit__(None, None, None)
            stack.__exit__(None, None, None)

    return Held()


def test_calls_that_wait_for_the_device_share_one_batch(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [table.ask(loop, value) for value in (0.2, 0.4, 0.6)]
    outcomes = [thread.result(60) for thread in threads]
    assert loop.batches == [[0.2, 0.4, 0.6]]
    for value, outcome in zip((0.2, 0.4, 0.6), outcomes, strict=True):
        wanted = Loop()(*state(value), 3)
        for got, alone in zip(tf.nest.flatten(outcome), tf.nest.flatten(wanted), strict=True):
            np.testing.assert_allclose(got, alone, 1e-5)


def test_a_batch_takes_the_fewest_steps_that_anybody_asks_for(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [table.ask(loop, 0.2, count=9), table.ask(loop, 0.4, count=2)]
    assert [len(thread.result(60)[2]) for thread in threads] == [2, 2]


def test_a_batch_has_no_more_pictures_than_memory_allows(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [table.ask(loop, value, most=2) for value in (0.2, 0.4, 0.6)]
    for thread in threads:
        thread.result(60)
    assert loop.batches == [[0.2, 0.4], [0.6]]


def test_pictures_of_other_sizes_are_not_put_into_one_batch(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [table.ask(loop, 0.2, side=4), table.ask(loop, 0.4, side=5)]
    for thread in threads:
        thread.result(60)
    assert loop.batches == [[0.2], [0.4]]


def test_kin_that_is_behind_goes_first(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [
            table.ask(loop, 0.2, level=1), table.ask(loop, 0.4, level=0),
            table.ask(loop, 0.6, level=0), table.ask(loop, 0.8, level=1),
        ]  # fmt: skip
    for thread in threads:
        thread.result(60)
    assert loop.batches == [[0.4, 0.6], [0.2, 0.8]]


def test_others_wait_for_the_oldest_and_its_kin(table: Table) -> None:
    loop = Loop()
    with held(table.turns):
        threads = [
            table.ask(loop, 0.2, kin="a", level=1), table.ask(loop, 0.4, kin="b", level=0),
            table.ask(loop, 0.6, kin="a", level=1),
        ]  # fmt: skip
    for thread in threads:
        thread.result(60)
    assert loop.batches == [[0.2, 0.6], [0.4]]


def test_a_run_whose_turn_does_not_come_gets_no_steps_and_keeps_its_state(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "LONGEST_WAIT_S", 0.01)
    mine = state(0.5)
    with held(table.turns), table.turns.seat() as seat:
        # the device is this thread's own: nobody will ever give it a turn
        common, memory, rows = seat.steps(Loop(), mine, 3)
    assert rows.shape == (0, 4, 1)
    assert common is mine[0]
    assert memory is mine[1]


def test_a_run_that_is_just_back_from_its_turn_is_waited_for(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "_SHORTEST_PATIENCE_S", 60.0)
    monkeypatch.setattr(turns_module, "_LONGEST_PATIENCE_S", 60.0)
    loop, between = Loop(), threading.Event()
    with table.turns.seat() as seat:
        seat.kin = "kin"
        seat.steps(loop, state(0.2), 1, most=8)  # and now it thinks
        thread = table.ask(loop, 0.4)
        between.wait(0.05)
        assert not thread.done()
        seat.steps(loop, state(0.2), 1, most=8)
    thread.result(60)
    assert loop.batches == [[0.2], [0.2, 0.4]]
    assert seat.largest == 2


def test_an_error_in_a_batch_arrives_where_it_belongs(table: Table) -> None:
    loop = Loop(ValueError("poison"), poison=0.4)
    with held(table.turns):
        threads = [table.ask(loop, value) for value in (0.2, 0.4, 0.6)]
    with pytest.raises(ValueError, match="poison"):
        threads[1].result(60)
    for value, thread in ((0.2, threads[0]), (0.6, threads[2])):
        wanted = Loop()(*state(value), 3)
        np.testing.assert_array_equal(thread.result(60)[0].image, wanted[0].image)
    assert loop.batches[0] == [0.2, 0.4, 0.6]
    assert sorted(loop.batches[1:]) == [[0.2], [0.4], [0.6]]


def test_memory_that_runs_out_makes_later_batches_smaller(table: Table) -> None:
    full = tf.errors.ResourceExhaustedError(None, None, "no memory")
    loop = Loop(full)  # for more than two pictures
    for _ in range(2):
        with held(table.turns):
            threads = [table.ask(loop, value) for value in (0.2, 0.4, 0.6, 0.8)]
        for thread in threads:
            thread.result(60)
    assert loop.batches[0] == [0.2, 0.4, 0.6, 0.8]
    assert [len(batch) for batch in loop.batches[1:]] == [1, 1, 1, 1, 2, 2]


def test_preparing_has_the_device_to_itself_and_goes_first(table: Table) -> None:
    loop, told = Loop(), []

    def prepare() -> None:
        with table.turns.seat() as seat, seat.alone():
            told.append(len(loop.batches))
            assert table.turns._busy

    with held(table.turns):
        thread = table.ask(loop, 0.2)
        other = table._pool.submit(prepare)
        wait_until(lambda: table.turns._to_prepare == 1, "somebody who prepares")
    thread.result(60)
    other.result(60)
    assert told == [0]


def test_runs_of_a_kind_step_together_to_the_end(table: Table) -> None:
    """Many short calls from many threads: every step is taken once, whatever meets whatever."""
    loop = Loop()

    def run(value: float) -> Any:
        with tf.device("/CPU:0"), table.turns.seat() as seat:
            seat.kin = "kin"
            common, memory, targets = state(value)
            while (taken := int(common.step[0])) < 40:
                count = min(10 - taken % 10, 1 + taken % 7)
                common, memory, _ = seat.steps(loop, (common, memory, targets), count, most=3)
            return common

    values = (0.2, 0.4, 0.6, 0.8, 1.0)
    for value, common in zip(values, table._pool.map(run, values), strict=True):
        wanted, *_ = Loop()(*state(value), 40)
        np.testing.assert_array_equal(common.step, [40])
        np.testing.assert_allclose(common.image, wanted.image, atol=1e-5)
    assert not table.turns._seats
    assert not table.turns._busy
