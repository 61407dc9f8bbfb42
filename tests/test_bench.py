"""What ``nstd bench`` measures and predicts, with the stand-in for the engine."""

from __future__ import annotations

import pytest

from nstd import bench
from nstd.bench import Bench, Speed
from nstd.engine.params import preset
from nstd.workers.standin import Standin


def test_every_side_is_measured_and_every_preset_predicted() -> None:
    found = bench.measure(Standin(), None, sides=(32, 48), steps=2)
    assert [speed.side for speed in found.speeds] == [32, 48]
    assert [each.preset for each in found.forecasts] == list(bench.PRESETS)
    assert all(each.minutes > 0 for each in found.forecasts)


def test_a_stand_in_has_no_share_of_the_peak() -> None:
    found = bench.measure(Standin(), None, sides=(32,), steps=1)
    assert found.peak_flops_per_s is None
    assert found.share_of_peak(found.speeds[0]) is None


def test_the_share_of_the_peak_is_of_operations_a_second() -> None:
    found = Bench(200e9, (Speed(512, 0.5, 150e9),), ())
    assert found.share_of_peak(found.speeds[0]) == pytest.approx(0.75)


def test_a_forecast_is_steps_times_pixels_at_the_speed_of_the_nearest_size() -> None:
    per_pixel = 1e-6
    speeds = [Speed(side, 1 / (per_pixel * side**2), None) for side in (256, 512)]
    found = bench.forecast("standard", speeds)
    assert (found.width, found.height) == (512, 341)
    assert found.steps <= preset("standard").iterations
    smallest = found.width * found.height * per_pixel / 60
    assert smallest < found.minutes < found.steps * smallest


def test_a_slower_large_size_lengthens_the_large_presets_only() -> None:
    even = [Speed(256, 16.0, None), Speed(512, 4.0, None)]
    slow = [Speed(256, 16.0, None), Speed(512, 2.0, None)]
    assert bench.forecast("draft", slow) == bench.forecast("draft", even)
    assert bench.forecast("fine", slow).minutes > 1.5 * bench.forecast("fine", even).minutes


def test_the_json_form_holds_plain_numbers() -> None:
    found = Bench(200e9, (Speed(512, 0.5, 150e9),), ())
    assert bench.to_json(found) == {
        "peak_gflops": 200.0,
        "steps": [{"side": 512, "steps_per_s": 0.5, "gflops": 150.0, "share_of_peak": 0.75}],
        "presets": [],
    }
