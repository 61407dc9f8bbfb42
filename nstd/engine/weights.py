"""The network's weights: where they lie, how they get here, and whether they are what they claim.

Three names for weights: ``imagenet`` (the VGG19 file of ``keras.applications``, without its top),
``builtin`` (compact features that come with nstd), or the path of a file in either layout. What is
found is checked and hashed; nothing ever takes the place of what was asked for. No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nstd.engine import download, weight_files
from nstd.errors import WeightsError

IMAGENET = "imagenet"
BUILTIN = "builtin"

FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
MD5 = "253f8cb515780f3b799900260a226db6"
"""Name, address and checksum of ``keras.applications.vgg19`` (WEIGHTS_PATH_NO_TOP)."""

BUILTIN_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "builtin.npz")

Progress = download.Progress
Arrays = weight_files.Arrays


@dataclass(frozen=True)
class Weights:
    """A file of weights that was found and checked."""

    name: str
    """``imagenet``, ``builtin``, or ``path``."""
    path: str
    sha256: str
    md5: str
    format: str
    """``hdf5`` (Keras' own layout) or ``npz`` (that of the built-in features)."""

    def to_dict(self) -> dict[str, str]:
        """Return what a report says: no folder names, which are the machine's own affair."""
        return {"name": self.name, "file": os.path.basename(self.path), "sha256": self.sha256}


@dataclass(frozen=True)
class Listed:
    """One line of ``nstd weights list``."""

    name: str
    path: str
    present: bool
    size: int
    what: str


def keras_home() -> str:
    """Return Keras' folder, by the rule of ``keras.config`` ($KERAS_HOME, else ~/.keras)."""
    return os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")


def cached_path(home: str | None = None) -> str:
    """Return where Keras keeps, and looks for, the ImageNet file."""
    return os.path.join(home or keras_home(), "models", FILE)


def find(
    spec: str,
    *,
    home: str | None = None,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
    may_download: bool = True,
) -> Weights:
    """Return the weights that ``spec`` names, checked; ``imagenet`` is downloaded when absent.

    Raises WeightsError (exit 69) with what to do when they cannot be had.
    """
    if spec == BUILTIN:
        return _checked(BUILTIN, BUILTIN_PATH)
    if spec != IMAGENET:
        return _checked("path", _existing(spec))
    path = cached_path(home)
    hashes = _hashes_if_there(path)
    if hashes is None or hashes.md5 != MD5:
        if not may_download:
            raise _not_imagenet(path, hashes)
        fetch(home=home, base_url=base_url, progress=progress)
        hashes = None
    return _checked(IMAGENET, path, hashes)


def fetch(
    *, home: str | None = None, base_url: str = BASE_URL, progress: Progress | None = None
) -> str:
    """Download the ImageNet file into Keras' cache unless it lies there whole; return its path."""
    path = cached_path(home)
    with download.lock_folder(os.path.dirname(path), remedies(path)):
        hashes = _hashes_if_there(path)
        if hashes is None or hashes.md5 != MD5:  # not fetched by another process while we waited
            download.download(base_url + FILE, path, MD5, remedies(path), progress)
    return path


def verify(spec: str, *, home: str | None = None) -> Weights:
    """Check every number of the weights that ``spec`` names, without downloading anything."""
    weights = find(spec, home=home, may_download=False)
    for name, pair in read(weights).items():
        if not all(np.isfinite(array).all() for array in pair):
            raise WeightsError(
                f"Layer {name} of {weights.path} holds numbers that are not finite.",
                "The file is damaged: fetch it anew.",
            )
    return weights


def listing(*, home: str | None = None) -> list[Listed]:
    """Return the weights that have a name, and whether they are here."""
    cached = cached_path(home)
    return [
        _listed(
            IMAGENET, cached, "VGG19 trained on ImageNet, as keras.applications has it (80 MB)"
        ),
        _listed(BUILTIN, BUILTIN_PATH, "compact features that come with nstd"),
    ]


def read(weights: Weights) -> Arrays:
    """Return kernels (3, 3, in, out) and biases (out,) as float32, by layer name, input first."""
    return weight_files.read(weights.path)


def card(weights: Weights) -> dict[str, Any]:
    """Return what a file of features says of itself: how it was trained, how it is to be run."""
    return weight_files.card(weights.path)


def remedies(path: str) -> str:
    """Return the three ways out when the ImageNet weights cannot be had."""
    return (
        f"Run `nstd weights fetch` on a machine with a network and copy the file to {path}; "
        "or name a VGG19 file: --weights PATH; "
        "or take the features that come with nstd: --weights builtin."
    )


class _Hashes(NamedTuple):
    sha256: str
    md5: str


def _checked(name: str, path: str, hashes: _Hashes | None = None) -> Weights:
    kind = weight_files.check(path)
    sha256, md5 = hashes or _hashes(path)
    return Weights(name, path, sha256, md5, kind)


def _not_imagenet(path: str, hashes: _Hashes | None) -> WeightsError:
    if hashes is None:
        return WeightsError(f"The ImageNet weights are not at {path}.", remedies(path))
    return WeightsError(
        f"The ImageNet weights at {path} are not those that Keras published: "
        f"their MD5 is {hashes.md5}.",
        remedies(path),
    )


def _existing(spec: str) -> str:
    path = os.path.abspath(os.path.expanduser(spec))
    if not os.path.isfile(path):
        raise WeightsError(
            f"There is no weights file {spec!r}.",
            "Take imagenet, builtin, or the path of a VGG19 file.",
        )
    return path


def _listed(name: str, path: str, what: str) -> Listed:
    try:
        size = os.stat(path).st_size
    except OSError:
        return Listed(name, path, present=False, size=0, what=what)
    return Listed(name, path, present=True, size=size, what=what)


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _hashes(path: str) -> _Hashes:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(path):
        sha256.update(chunk)
        md5.update(chunk)
    return _Hashes(sha256.hexdigest(), md5.hexdigest())


def _hashes_if_there(path: str) -> _Hashes | None:
    """Return the file's hashes, or None where it is not there or cannot be read."""
    try:
        return _hashes(path)
    except OSError:
        return None
