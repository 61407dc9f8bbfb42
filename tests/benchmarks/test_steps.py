"""The step is the same step whoever takes it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from memory_by_size import step_seconds, tiling_costs
from steps_per_second import Case, _exported, measure
from torch_step import Step

from nstd.engine.params import preset
from nstd.engine.progress import Losses, StepReport
from tests.engine.conftest import lively_kernels, picture


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(lively_kernels(), preset("standard"), 48, picture(60, 60, 1), picture(50, 50, 2))


def test_the_table_holds_every_step_that_was_asked_for(case: Case) -> None:
    found = measure(case, ("graph",), 1, (1, None), peak_side=64)
    assert list(found["steps"]) == ["nstd", "nstd, whole step", "graph"]
    assert found["steps"]["nstd"]["against_nstd"] == 1.0
    assert found["flops"] == case.flops > 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_pytorch_computes_the_same_loss(case: Case) -> None:
    loss = Step(_exported(case), 1, channels_last=False)()
    ours = float(case.direct.terms(case.start, case.targets(case.direct)).total[0])
    assert loss == pytest.approx(ours, rel=1e-3)


def test_what_pytorch_is_given_holds_no_pickles(case: Case) -> None:
    exported = _exported(case)
    assert all(np.asarray(value).dtype != object for value in exported.values())


def test_the_step_that_traces_is_not_counted() -> None:
    losses = Losses(1.0, 1.0, 1.0, 1.0)

    def report(step: int, seconds: float) -> StepReport:
        return StepReport(step, 4, 0, 1, 8, 8, losses, seconds, None)

    assert step_seconds([report(1, 9.0), report(2, 10.0), report(4, 14.0)]) == [1.0, 2.0, 2.0]


def test_tiling_costs_compare_cases_of_one_size() -> None:
    from kit import Figure

    def case_of(size: int, tile: int, seconds: float) -> dict[str, object]:
        return {"size": size, "tile": tile, "step_seconds": Figure((seconds,))}

    found = tiling_costs([case_of(512, 0, 2.0), case_of(512, 256, 3.0), case_of(1024, 256, 9.0)])
    assert found == {"512 px, tiles of 256": 1.5}
