"""The two layouts that a file of weights can have: Keras' HDF5, and the npz of our own features.

Neither can run code when it is read: arrays only, no pickles. Every complaint names the file and,
where one is at fault, the layer. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstd.errors import WeightsError

Arrays = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Layer name to (kernel (3, 3, in, out), bias (out,)), input first."""

VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block (Simonyan & Zisserman 2014, table 1, E)."""

_WANTED = "Wanted is Keras' VGG19 file without its top, or a file of nstd's own features."
_ANEW = "Fetch or copy it anew."


def layers() -> list[tuple[str, int, int]]:
    """Return (name, channels in, channels out) of VGG19's sixteen convolutions, input first."""
    found, before = [], 3
    for block, (width, count) in enumerate(VGG19, 1):
        for index in range(1, count + 1):
            found.append((f"block{block}_conv{index}", before, width))
            before = width
    return found


def layout(path: str) -> str:
    """Return ``hdf5`` or ``npz`` by the file's first bytes; WeightsError for anything else."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error.strerror}.",
            "Mend its permissions, or name another one: --weights PATH.",
        ) from error
    if start == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    raise WeightsError(f"{path} is no weights file: it is neither HDF5 nor npz.", _WANTED)


def check(path: str) -> str:
    """Hold the file to VGG19's layers and return its layout; WeightsError names what is wrong."""
    kind = layout(path)
    if kind == "npz":
        with _open_npz(path) as archive:
            _check_chain(path, archive)
    else:
        with _open_hdf5(path) as file:
            _check_widths(path, _hdf5_layers(file, path))
    return kind


def read(path: str) -> Arrays:
    """Return the convolutions' kernels and biases of a file that ``check`` has passed."""
    if layout(path) == "npz":
        with _open_npz(path) as archive:
            pairs = {name: _npz_pair(archive, name) for name, _, _ in layers()}
    else:
        with _open_hdf5(path) as file:
            found = _hdf5_layers(file, path)
            pairs = {name: (kernel[()], bias[()]) for name, (kernel, bias) in found.items()}
    return {n: (k.astype(np.float32), b.astype(np.float32)) for n, (k, b) in pairs.items()}


def card(path: str) -> dict[str, Any]:
    """Return what an npz file says of itself; an HDF5 file says nothing."""
    if layout(path) != "npz":
        return {}
    with _open_npz(path) as archive:
        return _card(archive)


# --- npz: the built-in features, whose widths are their own -----------------------------------


@contextlib.contextmanager
def _open_npz(path: str) -> Iterator[Any]:
    try:
        # numpy leaves a file open when it turns out to be no archive, unless the file is ours
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is not a whole file of features: {error}.", _ANEW) from error


def _card(archive: Any) -> dict[str, Any]:
    """Return the card: JSON, as a string or as its UTF-8 bytes."""
    card = json.loads(archive["card"].tobytes())  # numpy's strings are UTF-32, which JSON knows
    if not isinstance(card, dict):
        raise ValueError("its card is no JSON object")  # noqa: TRY004 - a damaged file, no bug
    return card


def _npz_pair(archive: Any, name: str) -> tuple[Any, Any]:
    kernel, scale = archive[f"{name}/kernel"], f"{name}/scale"
    if scale in archive:  # 8 bits a weight, and what one unit of an output channel is worth
        kernel = kernel * archive[scale]
    return kernel, archive[f"{name}/bias"]


def _check_chain(path: str, archive: Any) -> None:
    _card(archive)
    before = 3
    for name, _, _ in layers():
        kernel, bias = _npz_pair(archive, name)
        if kernel.shape[:3] != (3, 3, before) or bias.shape != kernel.shape[3:]:
            raise WeightsError(
                f"Layer {name} of {path} has a kernel of shape {kernel.shape} and a bias of "
                f"{bias.shape}, which does not follow {before} channels.",
                _WANTED,
            )
        before = kernel.shape[3]


# --- HDF5: what keras.Model.save_weights writes -----------------------------------------------


@contextlib.contextmanager
def _open_hdf5(path: str) -> Iterator[Any]:
    import h5py  # noqa: PLC0415 - the daemon lists weights without it, and stays small

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # HDF5 raises them all
        raise WeightsError(f"The weights file {path} is damaged or cut short.", _ANEW) from error


def _hdf5_layers(file: Any, path: str) -> dict[str, tuple[Any, Any]]:
    """Return (kernel, bias) by VGG19's layer names, in the order in which Keras loads them."""
    group = file.get("model_weights", file)
    if "layer_names" not in group.attrs:
        raise WeightsError(f"{path} lacks the list of layers that Keras writes.", _WANTED)
    listed = [(name, _arrays(group, name, path)) for name in _texts(group.attrs["layer_names"])]
    held = [(name, arrays) for name, arrays in listed if arrays]
    if len(held) != len(layers()):
        top = " (the classifier's among them)" if len(held) == len(layers()) + 3 else ""
        raise WeightsError(
            f"{path} holds {len(held)} layers with weights{top}, where VGG19 without its top has "
            f"{len(layers())}.",
            _WANTED,
        )
    for name, arrays in held:
        if len(arrays) != 2:
            raise WeightsError(
                f"Layer {name} of {path} holds {len(arrays)} arrays, not a kernel and a bias.",
                _WANTED,
            )
    names = (name for name, _, _ in layers())
    return {name: (pair[0], pair[1]) for name, (_, pair) in zip(names, held, strict=True)}


def _arrays(group: Any, name: str, path: str) -> list[Any]:
    if name not in group:
        raise WeightsError(f"Layer {name} of {path} is listed but not there.", _WANTED)
    layer = group[name]
    names = _texts(layer.attrs.get("weight_names", ()))
    for weight in names:
        if weight not in layer:
            raise WeightsError(f"Layer {name} of {path} lacks its array {weight}.", _ANEW)
    return [layer[weight] for weight in names]


def _check_widths(path: str, found: Mapping[str, tuple[Any, Any]]) -> None:
    for name, before, after in layers():
        kernel, bias = found[name]
        if kernel.shape != (3, 3, before, after) or bias.shape != (after,):
            raise WeightsError(
                f"Layer {name} of {path} has a kernel of shape {kernel.shape} and a bias of "
                f"{bias.shape}, where VGG19 has {(3, 3, before, after)} and {(after,)}.",
                _WANTED,
            )


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
