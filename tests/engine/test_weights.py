"""Weights are what they claim to be, or a sentence says what is wrong and what to do."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nstd.engine import weight_files, weights
from nstd.errors import NoSpaceError, WeightsError


def write_vgg19(path: Path, *, change: Callable[[Any], None] | None = None) -> Path:
    """Write a file of Keras' layout; unwritten datasets keep it small at full width."""
    with h5py.File(path, "w") as file:
        names = ["input_layer"]
        file.create_group("input_layer").attrs["weight_names"] = np.array([], "S")
        for name, before, after in weight_files.layers():
            group = file.create_group(name)
            group.create_dataset(f"{name}/kernel:0", (3, 3, before, after), "f4")
            group.create_dataset(f"{name}/bias:0", (after,), "f4")
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            names.append(name)
        file.attrs["layer_names"] = [name.encode() for name in names]
        if change:
            change(file)
    return path


class Server:
    """A local stand-in for Keras' server, which can misbehave."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.paths: list[str] = []
        self.cut_after: int | None = None
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body[: outer.cut_after])

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve a VGG19-shaped file whose checksum stands in for Keras'."""
    body = write_vgg19(tmp_path / "served.h5").read_bytes()
    monkeypatch.setattr(weights, "MD5", hashlib.md5(body, usedforsecurity=False).hexdigest())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(body)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join(10)
    server.http.server_close()


def left_over(home: Path) -> list[str]:
    return sorted(os.listdir(home / "models"))


def test_address_and_checksum_are_those_of_keras() -> None:
    spec = importlib.util.find_spec("keras")  # importing it would load TensorFlow
    assert spec
    assert spec.origin
    text = (Path(spec.origin).parent / "src" / "applications" / "vgg19.py").read_text()
    assert f'"{weights.MD5}"' in text
    assert f'"{weights.FILE}"' in text
    assert weights.BASE_URL.removesuffix("vgg19/") in text


def test_layers_are_those_of_keras() -> None:
    assert len(weight_files.layers()) == 16
    assert weight_files.layers()[0] == ("block1_conv1", 3, 64)
    assert weight_files.layers()[2] == ("block2_conv1", 64, 128)
    assert weight_files.layers()[-1] == ("block5_conv4", 512, 512)


def test_download_puts_the_checked_file_into_the_cache(tmp_path: Path, server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    found = weights.find(
        "imagenet",
        home=str(tmp_path),
        base_url=server.url,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found.name == "imagenet"
    assert found.path == weights.cached_path(str(tmp_path))
    assert found.sha256 == hashlib.sha256(server.body).hexdigest()
    assert server.paths == [f"/{weights.FILE}"]
    assert seen[-1] == (len(server.body), len(server.body))
    assert left_over(tmp_path) == [weights.FILE]
    assert os.stat(found.path).st_mode & 0o777 == 0o644


def test_cached_file_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    for _ in range(2):
        weights.find("imagenet", home=str(tmp_path), base_url=server.url)
    assert len(server.paths) == 1


def test_damaged_file_in_the_cache_is_replaced(tmp_path: Path, server: Server) -> None:
    path = Path(weights.cached_path(str(tmp_path)))
    path.parent.mkdir()
    path.write_bytes(server.body[:1000])
    weights.fetch(home=str(tmp_path), base_url=server.url)
    assert path.read_bytes() == server.body


def test_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.body = server.body[:-1] + b"!"
    with pytest.raises(WeightsError, match="MD5 is") as caught:
        weights.find("imagenet", home=str(tmp_path), base_url=server.url)
    assert caught.value.exit_code == 69
    assert left_over(tmp_path) == []


def test_cut_connection_is_refused_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.cut_after = 5000
    with pytest.raises(WeightsError, match=rf"cut after 5000 of {len(server.body)} bytes"):
        weights.find("imagenet", home=str(tmp_path), base_url=server.url)
    assert left_over(tmp_path) == []


def test_answer_of_an_unwilling_server_is_passed_on(tmp_path: Path, server: Server) -> None:
    server.status = 503
    with pytest.raises(WeightsError, match="HTTP 503"):
        weights.find("imagenet", home=str(tmp_path), base_url=server.url)


def test_no_network_names_three_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(WeightsError, match="Connection refused") as caught:
        weights.find("imagenet", home=str(tmp_path), base_url="http://127.0.0.1:9/")
    assert caught.value.exit_code == 69
    for way in ("nstd weights fetch", "--weights PATH", "--weights builtin"):
        assert way in caught.value.remedy
    assert left_over(tmp_path) == []


def test_full_disk_is_called_that(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(NoSpaceError, match="no room for the weights"):
        weights.fetch(home=str(tmp_path), base_url=server.url)
    assert left_over(tmp_path) == []


def test_unwritable_cache_says_how_to_choose_another(tmp_path: Path, server: Server) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        weights.fetch(home=str(tmp_path), base_url=server.url)
    assert "KERAS_HOME" in caught.value.remedy


def test_two_processes_at_once_fetch_one_file(tmp_path: Path, server: Server) -> None:
    errors: list[BaseException] = []

    def fetch() -> None:
        try:
            weights.fetch(home=str(tmp_path), base_url=server.url)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert len(server.paths) == 1


def test_verify_never_downloads(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="are not at"):
        weights.verify("imagenet", home=str(tmp_path))


def test_verify_tells_a_damaged_cache_from_an_empty_one(tmp_path: Path) -> None:
    path = Path(weights.cached_path(str(tmp_path)))
    path.parent.mkdir()
    path.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match="not those that Keras published") as caught:
        weights.verify("imagenet", home=str(tmp_path))
    assert "nstd weights fetch" in caught.value.remedy


def test_builtin_features_are_whole() -> None:
    found = weights.verify("builtin")
    assert found.format == "npz"
    assert list(weights.read(found)) == [name for name, _, _ in weight_files.layers()]
    assert weights.card(found)["format"].startswith("nstd-builtin")


def test_path_to_a_vgg19_file_is_taken(tmp_path: Path) -> None:
    found = weights.verify(str(write_vgg19(tmp_path / "mine.h5")))
    assert (found.name, found.format) == ("path", "hdf5")
    assert found.to_dict() == {"name": "path", "file": "mine.h5", "sha256": found.sha256}
    assert weights.read(found)["block2_conv1"][0].shape == (3, 3, 64, 128)
    assert weights.card(found) == {}


def test_file_that_keras_itself_writes_is_taken(slim_weights: Path) -> None:
    found = weights.verify(str(slim_weights))
    kernel, bias = weights.read(found)["block1_conv1"]
    assert kernel.dtype == bias.dtype == np.float32
    assert float(np.abs(kernel).sum()) > 0


def test_missing_path_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no weights file") as caught:
        weights.find(str(tmp_path / "none.h5"))
    assert "imagenet, builtin" in caught.value.remedy


def narrow(file: Any) -> None:
    del file["block3_conv2"]["block3_conv2/kernel:0"]
    file["block3_conv2"].create_dataset("block3_conv2/kernel:0", (3, 3, 256, 64), "f4")


def drop_layer(file: Any) -> None:
    del file["block4_conv4"]


def drop_array(file: Any) -> None:
    del file["block4_conv4"]["block4_conv4/bias:0"]


def forget_layer(file: Any) -> None:
    file.attrs["layer_names"] = list(file.attrs["layer_names"])[:-1]


def forget_bias(file: Any) -> None:
    group = file["block1_conv2"]
    group.attrs["weight_names"] = list(group.attrs["weight_names"])[:1]


def add_top(file: Any) -> None:
    names = list(file.attrs["layer_names"])
    for name in ("fc1", "fc2", "predictions"):
        group = file.create_group(name)
        group.create_dataset("kernel:0", (4, 4), "f4")
        group.attrs["weight_names"] = [b"kernel:0"]
        names.append(name.encode())
    file.attrs["layer_names"] = np.array(names, "S")


def forget_names(file: Any) -> None:
    del file.attrs["layer_names"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (narrow, r"Layer block3_conv2 .* \(3, 3, 256, 64\)"),
        (drop_layer, "Layer block4_conv4 .* not there"),
        (drop_array, "Layer block4_conv4 .* lacks its array"),
        (forget_layer, "15 layers"),
        (forget_bias, "Layer block1_conv2 .* 1 arrays"),
        (add_top, "19 layers .*classifier"),
        (forget_names, "lacks the list of layers"),
    ],
)
def test_other_layout_is_refused_and_the_layer_named(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    path = write_vgg19(tmp_path / "other.h5", change=change)
    with pytest.raises(WeightsError, match=words):
        weights.find(str(path))


def test_number_that_is_not_finite_is_found_in_its_layer(tmp_path: Path) -> None:
    def spoil(file: Any) -> None:
        file["block2_conv2"]["block2_conv2/bias:0"][7] = np.nan

    path = write_vgg19(tmp_path / "nan.h5", change=spoil)
    with pytest.raises(WeightsError, match="block2_conv2"):
        weights.verify(str(path))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, b"PK\x03\x04" + b"\0" * 100]
)
def test_junk_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        weights.find(str(path))
    assert str(path) in caught.value.message


def test_cut_hdf5_is_refused_in_words(tmp_path: Path) -> None:
    path = write_vgg19(tmp_path / "cut.h5")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(WeightsError, match="damaged or cut short"):
        weights.find(str(path))


def npz(path: Path, *, widths: tuple[int, ...] = (4, 4, 4, 4, 4), skew: str = "") -> Path:
    """Write features of other widths, one layer of which may not fit."""
    arrays: dict[str, Any] = {"card": np.array(json.dumps({"format": "nstd-builtin-1"}))}
    before = 3
    for name, _, _ in weight_files.layers():
        after = widths[int(name[5]) - 1]
        first = before + (name == skew)
        arrays[f"{name}/kernel"] = np.zeros((3, 3, first, after), np.float16)
        arrays[f"{name}/bias"] = np.zeros(after, np.float32)
        before = after
    np.savez(path, **arrays)
    return path


def test_own_features_may_have_other_widths(tmp_path: Path) -> None:
    found = weights.find(str(npz(tmp_path / "mine.npz")))
    assert (found.name, found.format) == ("path", "npz")
    assert weights.read(found)["block5_conv4"][0].dtype == np.float32


def test_kernels_in_8_bits_are_worth_their_channels_scale(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz")
    with np.load(path) as archive:
        arrays = dict(archive)
    kernel = np.arange(-54, 54, dtype=np.int8).reshape(3, 3, 3, 4)
    scale = np.array([1, 0.5, 0.25, 2], np.float32)
    arrays |= {"block1_conv1/kernel": kernel, "block1_conv1/scale": scale}
    np.savez(path, **arrays)
    read = weights.read(weights.find(str(path)))["block1_conv1"][0]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, kernel.astype(np.float64) * scale)


def test_layer_that_does_not_follow_its_forerunner_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Layer block3_conv1"):
        weights.find(str(npz(tmp_path / "skew.npz", skew="block3_conv1")))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pickle.npz"
    np.savez(path, card=np.array([{"a": 1}], object))
    with pytest.raises(WeightsError):
        weights.find(str(path))


def test_listing_says_what_is_here(tmp_path: Path) -> None:
    listed = {entry.name: entry for entry in weights.listing(home=str(tmp_path))}
    assert not listed["imagenet"].present
    assert listed["builtin"].present
    assert listed["builtin"].size > 0


def test_keras_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "/elsewhere")
    assert weights.cached_path() == f"/elsewhere/models/{weights.FILE}"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert weights.cached_path() == f"/home/ann/.keras/models/{weights.FILE}"


def test_module_needs_no_tensorflow() -> None:
    code = "import sys, nstd.engine.weights as w; w.find('builtin'); print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "nstd.engine.weights" in answer.stdout.split()
    assert "tensorflow" not in answer.stdout.split()
