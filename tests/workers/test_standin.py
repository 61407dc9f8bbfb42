"""The stand-in keeps the engine's manners, so that what is tested with it holds for the engine."""

from __future__ import annotations

import numpy as np
import pytest

from nstd.engine.params import PRESETS
from nstd.engine.progress import Checkpoint, Listener, Result, StepReport, StyleImage
from nstd.errors import CancelledError, DeviceError, DivergedError, InputError, WeightsError
from nstd.workers.standin import Faults, Standin
from tests.checkpoints import packed, unpacked

PARAMS = PRESETS["tiny"]
CONTENT = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
STYLE = StyleImage(np.random.default_rng(2).integers(0, 256, (20, 20, 3), dtype=np.uint8))


def stylize(
    listener: Listener | None = None, resume: Checkpoint | None = None, faults: str = ""
) -> Result:
    engine = Standin("cpu", Faults.parse(faults))
    return engine.stylize(
        CONTENT, [STYLE], PARAMS, listener=listener or Listener(), resume=resume, job_hash="h"
    )


def test_the_same_inputs_give_the_same_picture() -> None:
    assert np.array_equal(stylize().pixels, stylize().pixels)


def test_the_picture_is_neither_the_content_nor_flat() -> None:
    pixels = stylize().pixels
    assert pixels.shape == CONTENT.shape
    assert pixels.std() > 1
    assert not np.array_equal(pixels, CONTENT)


@pytest.mark.parametrize("stop_at", range(1, PARAMS.iterations))
def test_a_resumed_run_gives_the_identical_picture(stop_at: int) -> None:
    kept: list[Checkpoint] = []
    seen: list[StepReport] = []
    listener = Listener(
        report=seen.append,
        checkpoint=kept.append,
        cancelled=lambda: bool(seen) and seen[-1].step >= stop_at,
        report_s=0.0,
    )
    with pytest.raises(CancelledError):
        stylize(listener)
    whole = unpacked(packed(kept[-1]))
    assert np.array_equal(stylize(resume=whole).pixels, stylize().pixels)


def test_a_checkpoint_of_another_job_is_refused() -> None:
    with pytest.raises(InputError):
        stylize(resume=Checkpoint("other", {}, {}))


def test_reports_count_every_step_and_both_levels() -> None:
    seen: list[StepReport] = []
    stylize(Listener(report=seen.append, report_s=0.0))
    assert [report.step for report in seen] == list(range(PARAMS.iterations + 1))
    assert {report.level for report in seen} == {0, 1}
    assert seen[0].losses is None
    assert all(report.losses is not None for report in seen[1:])


def test_the_last_step_is_reported_and_kept_however_rare_reports_are() -> None:
    seen: list[StepReport] = []
    kept: list[Checkpoint] = []
    stylize(Listener(report=seen.append, checkpoint=kept.append, report_s=1e9, checkpoint_s=1e9))
    assert seen[-1].step == PARAMS.iterations
    assert kept[-1].facts["step"] == PARAMS.iterations


def test_it_fails_as_told_and_once_if_told_so(tmp_path: object) -> None:
    faults = f"at=2 do=nan once={tmp_path}/once"
    with pytest.raises(DivergedError):
        stylize(faults=faults)
    stylize(faults=faults)


@pytest.mark.parametrize(("start", "error"), [("weights", WeightsError), ("gpu", DeviceError)])
def test_it_refuses_to_start_as_told(start: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Standin("cpu", Faults(start=start))


def test_a_fault_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="crsh"):
        Faults.parse("crsh=1")
