"""A device that was asked for is used, or a sentence says why not; the CPU is never a surprise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nstd.engine import device
from nstd.engine.device import Machine
from nstd.errors import ConfigError, DeviceError

NONE = Machine()
TWO = Machine(nodes=("nvidia0", "nvidia1"), driver=2, cards=("0000:01:00.0", "0000:02:00.0"))


def plant(root: Path, *, nodes: int = 0, driver: int = 0, cards: int = 0) -> Path:
    """Make a root folder that shows NVIDIA devices the way Linux does."""
    (root / "dev").mkdir()
    for name in ("null", "nvidiactl", "nvidia-uvm", *(f"nvidia{i}" for i in range(nodes))):
        (root / "dev" / name).touch()
    for index in range(driver):
        (root / "proc/driver/nvidia/gpus" / f"0000:0{index}:00.0").mkdir(parents=True)
    for index in range(cards):
        for function, kind in (("0", "0x030200"), ("1", "0x040300")):  # a GPU and its sound device
            folder = root / "sys/bus/pci/devices" / f"0000:0{index}:00.{function}"
            folder.mkdir(parents=True)
            (folder / "vendor").write_text("0x10de\n")
            (folder / "class").write_text(kind + "\n")
    return root


def test_looking_finds_nothing_on_a_machine_without_nvidia(tmp_path: Path) -> None:
    assert device.look(str(plant(tmp_path)), {}) == NONE


def test_looking_counts_nodes_driver_and_cards(tmp_path: Path) -> None:
    machine = device.look(str(plant(tmp_path, nodes=11, driver=11, cards=2)), {})
    assert machine.nodes[1:3] == ("nvidia1", "nvidia2")
    assert machine.nodes[-1] == "nvidia10"
    assert machine.driver == 11
    assert machine.cards == ("0000:00:00.0", "0000:01:00.0")
    assert machine.gpus[-1] == "gpu:10"


def test_auto_is_the_cpu_where_there_is_no_nvidia_device() -> None:
    assert device.resolve("auto", NONE) == ["cpu"]


def test_auto_and_gpu_take_every_gpu() -> None:
    assert device.resolve("auto", TWO) == ["gpu:0", "gpu:1"]
    assert device.resolve("gpu", TWO) == ["gpu:0", "gpu:1"]


def test_cpu_is_the_cpu_whatever_else_is_there() -> None:
    assert device.resolve("cpu", TWO) == ["cpu"]


@pytest.mark.parametrize("setting", [["gpu:1"], "gpu:1", ("gpu:1",)])
def test_devices_can_be_named(setting: object) -> None:
    assert device.resolve(setting, TWO) == ["gpu:1"]  # type: ignore[arg-type]


def test_several_devices_can_be_named() -> None:
    assert device.resolve(["gpu:1", "cpu"], TWO) == ["gpu:1", "cpu"]
    assert device.resolve("gpu:0, gpu:1", TWO) == ["gpu:0", "gpu:1"]


@pytest.mark.parametrize(
    "machine",
    [
        Machine(driver=1),
        Machine(cards=("0000:01:00.0",)),
        Machine(driver=1, cards=("0000:01:00.0",)),
    ],
)
@pytest.mark.parametrize("setting", ["auto", "gpu", ["gpu:0"]])
def test_gpu_that_cannot_be_opened_is_no_reason_for_the_cpu(
    machine: Machine, setting: str | list[str]
) -> None:
    with pytest.raises(DeviceError) as caught:
        device.resolve(setting, machine)
    assert caught.value.exit_code == 75
    assert "device: cpu" in caught.value.remedy


def test_gpu_without_any_is_refused() -> None:
    with pytest.raises(DeviceError, match="no NVIDIA device"):
        device.resolve("gpu", NONE)


def test_gpu_that_is_not_among_them_is_refused_with_their_names() -> None:
    with pytest.raises(DeviceError, match=r"no gpu:7") as caught:
        device.resolve(["gpu:7"], TWO)
    assert "gpu:0, gpu:1" in caught.value.remedy


@pytest.mark.parametrize("setting", ["fast", "gpu:", "gpu:-1", [], "", "GPU:0", ["cuda"]])
def test_unknown_name_is_a_configuration_error(setting: str | list[str]) -> None:
    with pytest.raises(ConfigError, match="no device called"):
        device.resolve(setting, TWO)


def test_device_named_twice_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="twice"):
        device.resolve(["gpu:0", "gpu:0"], TWO)


def test_gpus_hidden_on_purpose_do_not_count(tmp_path: Path) -> None:
    root = str(plant(tmp_path, nodes=2, driver=2, cards=2))
    for value in ("", "-1"):
        machine = device.look(root, {"CUDA_VISIBLE_DEVICES": value})
        assert device.resolve("auto", machine) == ["cpu"]
        with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
            device.resolve("gpu", machine)


def test_gpus_left_visible_are_renumbered_as_cuda_does(tmp_path: Path) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "3,GPU-8f2e"}
    machine = device.look(str(plant(tmp_path, nodes=4)), environ)
    assert device.resolve("auto", machine) == ["gpu:0", "gpu:1"]
    assert device.environment("gpu:0", environ)["CUDA_VISIBLE_DEVICES"] == "3"
    assert device.environment("gpu:1", environ)["CUDA_VISIBLE_DEVICES"] == "GPU-8f2e"


def test_worker_sees_its_own_device_alone() -> None:
    one = {"CUDA_VISIBLE_DEVICES": "-1", "TF_NUM_INTEROP_THREADS": "1"}
    assert device.environment("cpu", {}) == one
    asked = {"TF_NUM_INTEROP_THREADS": "4"}
    assert device.environment("cpu", asked) == one | asked
    assert device.environment("gpu:1", {})["CUDA_VISIBLE_DEVICES"] == "1"
    assert device.environment("gpu:1", {})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def fake_tensorflow(monkeypatch: pytest.MonkeyPatch, *, gpus: int, cuda: bool) -> None:
    monkeypatch.setitem(
        sys.modules,
        "tensorflow",
        SimpleNamespace(
            config=SimpleNamespace(list_physical_devices=lambda _kind: list(range(gpus))),
            test=SimpleNamespace(is_built_with_cuda=lambda: cuda),
        ),
    )


def test_opening_gives_the_names_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorflow(monkeypatch, gpus=1, cuda=True)
    assert device.open_device("cpu") == "/CPU:0"
    assert device.open_device("gpu:3") == "/GPU:0"


@pytest.mark.parametrize("cuda", [True, False])
def test_gpu_that_tensorflow_cannot_use_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, cuda: bool
) -> None:
    fake_tensorflow(monkeypatch, gpus=0, cuda=cuda)
    monkeypatch.setattr(device, "look", lambda: TWO)
    with pytest.raises(DeviceError, match="gpu:0 is there") as caught:
        device.open_device("gpu:0")
    assert "pip install nstd[gpu]" in caught.value.remedy
    assert "device: cpu" in caught.value.remedy


def test_looking_loads_no_tensorflow() -> None:
    code = "import sys; from nstd.engine import device; device.look(); print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "tensorflow" not in answer.stdout.split()


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags\t\t: fpu avx512f amx_tile amx_bf16 amx_int8\n", "bfloat16"),
        ("flags\t\t: fpu avx512f avx512_bf16\n", "float32"),
        ("Features\t: fp asimd bf16\n", "float32"),
        ("", "float32"),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_matrix_units_for_it(
    tmp_path: Path, flags: str, precision: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}")
    assert device.native_precision("cpu", str(tmp_path / "cpuinfo")) == precision


def test_a_gpu_keeps_float32_and_so_does_an_unknown_machine(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags: amx_bf16\n")
    assert device.native_precision("gpu:0", str(tmp_path / "cpuinfo")) == "float32"
    assert device.native_precision("cpu", str(tmp_path / "absent")) == "float32"
