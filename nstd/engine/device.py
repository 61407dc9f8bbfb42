"""Which devices paint: found without TensorFlow by the daemon, opened with it by a worker.

``auto`` takes the GPUs, or the CPU where the machine has no NVIDIA device at all. A GPU that is
there but cannot be used is an error that says how to mend it, never a silent, slow CPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nstd.engine.budget import default_budget
from nstd.engine.params import Precision
from nstd.errors import ConfigError, DeviceError

CPU = "cpu"
NAMES = "auto, gpu, cpu, or a list of names such as [gpu:0, gpu:1]"

_NAME = re.compile(r"cpu|gpu:\d{1,3}")
_NVIDIA = "0x10de"
_WHEELS = "Install TensorFlow's CUDA libraries beside nstd (pip install nstd[gpu])"
_OR_CPU = "or paint on the CPU on purpose (device: cpu)."


@dataclass(frozen=True)
class Machine:
    """What a machine shows of its NVIDIA devices to a program that loads no library for it."""

    nodes: tuple[str, ...] = ()
    """Device nodes such as ``nvidia0``: GPUs that this process may open."""
    driver: int = 0
    """GPUs that the kernel's driver serves."""
    cards: tuple[str, ...] = ()
    """PCI addresses of NVIDIA display or compute devices."""
    visible: tuple[str, ...] | None = None
    """What CUDA_VISIBLE_DEVICES leaves; None: it is not set."""

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs that can be asked for, in CUDA's order."""
        count = len(self.nodes) if self.visible is None else len(self.visible)
        return tuple(f"gpu:{index}" for index in range(count if self.nodes else 0))


def look(root: str = "/", environ: Mapping[str, str] | None = None) -> Machine:
    """Return what this machine shows of its NVIDIA devices."""
    environ = os.environ if environ is None else environ
    nodes = [name for name in _names(root, "dev") if re.fullmatch(r"nvidia\d+", name)]
    if not nodes and os.path.exists(os.path.join(root, "dev/dxg")) and _names(root, "usr/lib/wsl"):
        nodes = ["dxg"]  # Windows' Linux shows its GPUs through one node
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    return Machine(
        nodes=tuple(sorted(nodes, key=lambda name: (len(name), name))),
        driver=len(_names(root, "proc/driver/nvidia/gpus")),
        cards=tuple(filter(lambda card: _is_gpu(root, card), _names(root, "sys/bus/pci/devices"))),
        visible=None if hidden is None else _visible(hidden),
    )


def resolve(setting: str | Sequence[str], machine: Machine | None = None) -> list[str]:
    """Return the devices that ``setting`` asks for, by the names that workers take.

    Raises ConfigError for a setting that means nothing, DeviceError (exit 75) for a device that is
    not there or cannot be used.
    """
    machine = look() if machine is None else machine
    if setting == CPU:
        return [CPU]
    if setting == "auto" and _has_none(machine):
        return [CPU]
    if setting in ("auto", "gpu"):
        return _all_gpus(machine)
    return _named(_split(setting), machine)


def environment(device: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that show a worker its own device and no other.

    On a CPU one thread starts the operations (and as many as there are cores run them): each
    starting thread keeps kernels of its own, up to a thousand, for every size of picture.
    """
    environ = os.environ if environ is None else environ
    if device == CPU:
        threads = environ.get("TF_NUM_INTEROP_THREADS", "1")
        return {"CUDA_VISIBLE_DEVICES": "-1", "TF_NUM_INTEROP_THREADS": threads}
    index = int(device.partition(":")[2])
    visible = _visible(environ.get("CUDA_VISIBLE_DEVICES", ""))
    return {
        "CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index),
        "CUDA_DEVICE_ORDER": environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),  # as in /dev
        "TF_FORCE_GPU_ALLOW_GROWTH": environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true"),
    }


def open_device(device: str) -> str:
    """Return TensorFlow's name of ``device`` in a worker that sees only its own; loads TensorFlow.

    Raises DeviceError with the remedy where TensorFlow cannot use the GPU.
    """
    import tensorflow as tf  # noqa: PLC0415 - the daemon reads this module, and never loads it

    if device == CPU:
        return "/CPU:0"
    found: list[Any] = tf.config.list_physical_devices("GPU")
    if not found:
        raise DeviceError(*_why_not(device, tf.test.is_built_with_cuda(), look()))
    return "/GPU:0"


def memory_budget(device: str) -> float:
    """Return the bytes that painting may take on ``device`` (``/GPU:0``); loads TensorFlow.

    Half of the machine's memory on a CPU, where others live, too; nine tenths of what TensorFlow's
    allocator may have of a GPU.
    """
    from tensorflow.python.client import device_lib  # noqa: PLC0415 - as in open_device

    name = f"/device:{device.strip('/')}"
    for found in device_lib.list_local_devices():
        if found.name == name and found.device_type == "GPU" and found.memory_limit:
            return 0.9 * float(found.memory_limit)
    return default_budget()


def native_precision(device: str, cpuinfo: str = "/proc/cpuinfo") -> Precision:
    """Return what convolutions run best in on ``device``, told without loading anything.

    bfloat16 on processors with matrix units for it (AMX), where a step takes two fifths of the
    time (measured); elsewhere float32, which TensorFlow runs as TF32 on GPUs that have it.
    """
    if device != CPU:
        return "float32"
    try:
        with open(cpuinfo, encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return "float32"
    return "bfloat16" if "amx_bf16" in flags.split() else "float32"


def _why_not(device: str, built_with_cuda: bool, machine: Machine) -> tuple[str, str]:
    """Return the message and the remedy for a GPU that TensorFlow does not take."""
    if not machine.nodes:
        return _unusable(machine)
    if not built_with_cuda:
        return (
            f"{device} is there, but this TensorFlow was built without CUDA.",
            f"Install TensorFlow's Linux build ({_WHEELS.lower()}), {_OR_CPU}",
        )
    return (
        f"{device} is there, but TensorFlow cannot use it.",
        f"{_WHEELS} and see that `nvidia-smi` works; {_OR_CPU}",
    )


def _has_none(machine: Machine) -> bool:
    """Tell whether no NVIDIA device is there, or all were hidden on purpose."""
    if machine.visible == ():
        return True
    return not (machine.nodes or machine.driver or machine.cards)


def _all_gpus(machine: Machine) -> list[str]:
    if machine.gpus:
        return list(machine.gpus)
    raise DeviceError(*_unusable(machine))


def _unusable(machine: Machine) -> tuple[str, str]:
    """Return the message and the remedy where no GPU can be opened."""
    if machine.visible == ():
        return (
            "A GPU was asked for, but CUDA_VISIBLE_DEVICES hides them all.",
            f"Unset it, {_OR_CPU}",
        )
    if machine.driver:
        message = "The NVIDIA driver serves a GPU, but there is no device node /dev/nvidia0."
        container = "Give it to this container (docker run --gpus all) or unit (DeviceAllow)"
        return message, f"{container}, or load nvidia_uvm (nvidia-modprobe -u); {_OR_CPU}"
    if machine.cards:
        where = f"There is an NVIDIA GPU at PCI {machine.cards[0]}"
        message = f"{where}, but its driver is not loaded, or this container was not given it."
        return message, f"Install the NVIDIA driver, or pass the GPU in; {_WHEELS}; {_OR_CPU}"
    return (
        "A GPU was asked for, but this machine has no NVIDIA device.",
        "Say device: auto or device: cpu to paint on the CPU.",
    )


def _named(names: Sequence[str], machine: Machine) -> list[str]:
    unknown = [name for name in names if not _NAME.fullmatch(name)]
    if unknown or not names:
        shown = unknown[0] if unknown else ""
        raise ConfigError(f"There is no device called {shown!r}.", f"Take {NAMES}.")
    if len(set(names)) != len(names):
        raise ConfigError(
            f"The list of devices names one twice: {', '.join(names)}.", "Name each device once."
        )
    missing = [name for name in names if name != CPU and name not in machine.gpus]
    if missing:
        message, remedy = _unusable(machine)
        if machine.gpus:
            message = f"There is no {missing[0]} on this machine."
            remedy = f"Its GPUs are: {', '.join(machine.gpus)}."
        raise DeviceError(message, remedy)
    return list(names)


def _split(setting: str | Sequence[str]) -> list[str]:
    parts = setting.split(",") if isinstance(setting, str) else setting
    return [part.strip() for part in parts]


def _visible(value: str) -> tuple[str, ...]:
    """Return the devices that CUDA_VISIBLE_DEVICES names, which end at the first -1."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(parts[: parts.index("-1")] if "-1" in parts else parts)


def _is_gpu(root: str, card: str) -> bool:
    folder = os.path.join(root, "sys/bus/pci/devices", card)
    # class 0x03: display controllers, 3D controllers (compute cards) among them
    return _text(folder, "vendor") == _NVIDIA and _text(folder, "class").startswith("0x03")


def _text(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _names(*parts: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(*parts)))
    except OSError:
        return []
