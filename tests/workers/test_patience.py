"""How long a worker may be silent, and how long the pauses between restarts are."""

from __future__ import annotations

import pytest

from nstd.engine.progress import Losses, StepReport
from nstd.workers.patience import Patience, Pauses, Supervision

RULES = Supervision(start_timeout_s=100, stall_s=10, compile_s=50)
LOSSES = Losses(1.0, 0.5, 0.4, 0.1)


def report(
    step: int, seconds: float, *, level: int = 0, side: int = 10, losses: Losses | None = LOSSES
) -> StepReport:
    return StepReport(step, 99, level, 3, side, side, losses, seconds, None, step * side * side)


@pytest.fixture
def patience() -> Patience:
    """Return that of a worker which began to prepare its job at 0 s."""
    patience = Patience(RULES, 0.0)
    patience.begin("prepare", 0.0)
    return patience


def test_starting_may_take_its_own_time() -> None:
    patience = Patience(RULES, 0.0)
    assert not patience.is_over(100.0)
    assert patience.is_over(100.1)


def test_an_idle_worker_may_be_silent_for_ever(patience: Patience) -> None:
    patience.wait(0.0)
    assert not patience.is_over(1e9)


def test_decoding_must_talk_within_stall_s(patience: Patience) -> None:
    patience.begin("decode", 20.0)
    assert not patience.is_over(30.0)
    assert patience.is_over(30.1)


def test_the_first_compilation_may_take_longer(patience: Patience) -> None:
    patience.report(report(0, 0.0, losses=None), 5.0)
    assert not patience.is_over(55.0)
    assert patience.is_over(55.1)


def test_after_a_step_silence_counts_from_the_last_report(patience: Patience) -> None:
    patience.report(report(1, 1.0), 1.0)
    patience.report(report(2, 2.0), 2.0)
    assert not patience.is_over(12.0)
    assert patience.is_over(12.1)


def test_five_predicted_steps_are_granted_where_they_are_longer(patience: Patience) -> None:
    patience.report(report(1, 4.0), 4.0)
    patience.report(report(2, 8.0), 8.0)  # 4 s a step: 20 s of patience
    assert not patience.is_over(28.0)
    assert patience.is_over(28.1)


def test_steps_are_predicted_by_the_pixels_of_their_level(patience: Patience) -> None:
    patience.report(report(1, 4.0), 4.0)
    patience.report(report(2, 8.0), 8.0)
    large = StepReport(3, 99, 0, 3, 20, 10, LOSSES, 16.0, None, 400)
    patience.report(large, 16.0)  # 0.04 s a pixel: 8 s a step of 200 pixels
    assert not patience.is_over(56.0)
    assert patience.is_over(56.1)


def test_a_new_level_may_compile_again(patience: Patience) -> None:
    patience.report(report(1, 1.0), 1.0)
    patience.report(report(2, 2.0), 2.0)
    patience.report(report(2, 2.0, level=1, losses=None), 2.5)
    assert not patience.is_over(52.5)
    assert patience.is_over(52.6)


def test_a_tile_is_a_sign_of_life(patience: Patience) -> None:
    patience.report(report(1, 1.0), 1.0)
    patience.report(report(2, 2.0), 2.0)
    patience.report(report(2, 2.0, losses=None), 11.0)
    assert not patience.is_over(21.0)
    assert patience.is_over(21.1)


def test_pauses_double_up_to_the_longest_until_a_picture_succeeds() -> None:
    pauses = Pauses(Supervision(first_pause_s=1, longest_pause_s=5))
    assert [pauses.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    pauses.reset()
    assert pauses.next() == 1
