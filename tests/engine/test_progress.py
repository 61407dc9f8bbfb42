"""Checkpoints survive their way through bytes, and damage is named."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from nstd.engine.progress import Checkpoint, Losses
from nstd.errors import InputError
from tests.checkpoints import packed, unpacked


def checkpoint() -> Checkpoint:
    arrays = {
        "common.image": np.random.default_rng(1).random((1, 5, 4, 3), np.float32),
        "common.step": np.array(7, np.int32),
        "common.first_loss": np.array([np.inf], np.float32),
        "memory.t": np.array(3.0, np.float32),
    }
    return Checkpoint("hash", {"level": 1, "notes": ["é"], "seconds": {"optimize": 0.1}}, arrays)


def test_a_checkpoint_comes_back_bit_for_bit() -> None:
    before = checkpoint()
    after = unpacked(packed(before))
    assert (after.job_hash, after.facts) == (before.job_hash, before.facts)
    assert after.arrays.keys() == before.arrays.keys()
    for name, value in before.arrays.items():
        assert after.arrays[name].dtype == value.dtype
        assert after.arrays[name].shape == value.shape
        assert after.arrays[name].tobytes() == value.tobytes()


def test_a_damaged_checkpoint_is_refused_at_every_length() -> None:
    data = packed(checkpoint())
    for length in (0, 1, 10, len(data) // 3, len(data) // 2, len(data) - 1):
        with pytest.raises(InputError, match="checkpoint is damaged"):
            unpacked(data[:length])


def test_a_flipped_byte_in_an_array_is_noticed() -> None:
    data = bytearray(packed(checkpoint()))
    image = data.index(b"NUMPY", data.index(b"common.image"))
    data[image + 150] ^= 0x40
    with pytest.raises(InputError, match="checkpoint is damaged"):
        unpacked(bytes(data))


def test_a_flipped_byte_anywhere_is_noticed_or_changes_nothing() -> None:
    whole = checkpoint()
    data = packed(whole)
    for at in range(len(data)):
        for flip in (0x01, 0x08, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                got = unpacked(bytes(damaged))
            except InputError:
                continue
            assert (got.job_hash, got.facts) == (whole.job_hash, whole.facts)
            for name, value in got.arrays.items():
                assert value.tobytes() == whole.arrays[name].tobytes()


def test_pickles_are_never_read() -> None:
    buffer = io.BytesIO()
    head = np.frombuffer(b'{"job_hash": "", "facts": {}}', np.uint8)
    pickled = {"array.x": np.array([{"a": 1}], object)}
    np.savez(buffer, allow_pickle=True, head=head, **pickled)
    with pytest.raises(InputError, match="checkpoint is damaged"):
        unpacked(buffer.getvalue())


def test_an_archive_without_a_head_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(InputError, match="checkpoint is damaged"):
        unpacked(buffer.getvalue())


def test_losses_have_their_four_names() -> None:
    assert list(Losses(1.0, 2.0, 3.0, 4.0).to_dict()) == ["total", "content", "style", "tv"]
