"""How much memory the GPUs hold, asked of the driver's own library: no CUDA, no process.

The daemon loads no TensorFlow, so it cannot ask that; NVML comes with every NVIDIA driver.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from nstd.engine import device

LIBRARY = "libnvidia-ml.so.1"


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class Nvml:
    """The library, opened at the first question; on a machine without it every answer is 0."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._name = library
        self._library: ctypes.CDLL | None = None
        self._tried = False

    def used_bytes(self, names: Iterable[str]) -> int:
        """Return the memory in use on the GPUs of these names (``gpu:0``), by all programs."""
        library = self._open()
        if library is None:
            return 0
        return sum(_used(library, name) for name in dict.fromkeys(names))

    def _open(self) -> ctypes.CDLL | None:
        if not self._tried:
            self._tried = True
            try:
                library = ctypes.CDLL(self._name)
                self._library = library if library.nvmlInit_v2() == 0 else None
            except (OSError, AttributeError):
                self._library = None
        return self._library


def _used(library: ctypes.CDLL, name: str) -> int:
    handle, memory = ctypes.c_void_p(), _Memory()
    visible = device.environment(name)["CUDA_VISIBLE_DEVICES"]
    if visible.isdigit():
        failed = library.nvmlDeviceGetHandleByIndex_v2(int(visible), ctypes.byref(handle))
    else:
        failed = library.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(handle))
    if failed or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
        return 0
    return int(memory.used)
