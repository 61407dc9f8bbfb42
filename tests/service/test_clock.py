"""The loop's clock never jumps without saying so."""

from __future__ import annotations

from nstd.service.clock import SteadyClock


class Machine:
    def __init__(self) -> None:
        self.set_to, self.uptime = 1_000_000.0, 50.0

    def run(self, seconds: float) -> None:
        self.set_to += seconds
        self.uptime += seconds

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.set_to, lambda: self.uptime)


def test_time_passes() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == 1_000_000.0
    machine.run(5.0)
    assert clock.now() == 1_000_005.0
    assert clock.take_step() == 0.0


def test_a_clock_that_is_set_is_followed_in_one_step_that_is_told() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.set_to -= 3600.0
    machine.run(1.0)
    assert clock.now() == 1_000_001.0 - 3600.0
    assert clock.take_step() == -3600.0
    assert clock.take_step() == 0.0


def test_a_drift_is_not_followed_step_by_step() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.set_to += 0.5
    assert clock.now() == 1_000_000.0
    assert clock.take_step() == 0.0
