"""Operations are counted from shapes, as in the tables of the trade."""

from __future__ import annotations

import numpy as np
import pytest

from nstd.engine import cost, weight_files


def test_vgg19_down_to_block5_conv1_costs_379_gflop_a_step_at_512() -> None:
    kernels = {
        name: (np.broadcast_to(np.float32(0), (3, 3, inputs, outputs)), None)
        for name, inputs, outputs in weight_files.layers()
    }
    flops = cost.step_flops(kernels, "block5_conv1", 512, 512)
    assert flops == pytest.approx(379e9, rel=2e-3)
    assert cost.step_flops(kernels, "block5_conv1", 1024, 512) == 2 * flops


def test_layers_below_the_deepest_are_not_counted() -> None:
    kernels = {"block1_conv1": (np.zeros((3, 3, 3, 8)), None)}
    kernels["block2_conv1"] = (np.zeros((3, 3, 8, 8)), None)
    found = cost.layer_flops(kernels, "block1_conv1", 10, 10)
    assert found == {"block1_conv1": 2 * 9 * 3 * 8 * 100}


def test_the_peak_is_of_the_fastest_product() -> None:
    ticks = iter([0.0, 4.0, 10.0, 11.0])
    assert cost.matrix_peak(side=8, tries=2, clock=lambda: next(ticks)) == 2.0 * 8**3 / 1.0
