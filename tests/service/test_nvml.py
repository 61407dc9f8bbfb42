from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from nstd.service.nvml import LIBRARY, Nvml


def test_without_the_driver_the_answer_is_nothing() -> None:
    assert Nvml("libnone.so.1").used_bytes(["gpu:0"]) == 0


def test_a_library_that_is_another_one_is_not_believed() -> None:
    assert Nvml("libc.so.6").used_bytes(["gpu:0"]) == 0


@pytest.mark.gpu
def test_a_gpu_tells_how_much_it_holds() -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("needs a GPU")
    ctypes.CDLL(LIBRARY)
    nvml = Nvml()
    used = nvml.used_bytes(["gpu:0"])
    assert 0 < used < 2**40
    assert abs(nvml.used_bytes(["gpu:0", "gpu:0"]) - used) < 2**32
    assert nvml.used_bytes(["gpu:99"]) == 0
