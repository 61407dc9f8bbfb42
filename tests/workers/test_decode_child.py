from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstd.errors import DecodeError, MemoryExhaustedError, TooLargeError
from nstd.photo.decode import decode
from nstd.photo.limits import Limits
from nstd.workers import decode_child
from nstd.workers.decode_child import decode_limited
from nstd.workers.fork_server import ForkServer
from tests.photo.make import RAMP_8, exif_of, noise, saved, scene

LIMITS = Limits()


@pytest.fixture
def beach(tmp_path: Path) -> Path:
    path = tmp_path / "beach.jpg"
    path.write_bytes(
        saved(scene(300, 400), "JPEG", exif=exif_of(Artist="Zoë".encode(), Orientation=6))
    )
    return path


ChildDoes = Callable[..., None]


@pytest.fixture
def child_does(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildDoes]:
    """Return what makes later children run some code instead, or only for one picture."""
    servers: list[ForkServer] = []

    def make(code: str, only: str = "") -> None:
        program = SERVING % (code, only)
        servers.append(ForkServer(lambda end: [sys.executable, "-c", program, str(end)], dict))
        monkeypatch.setattr(decode_child, "SERVER", servers[-1])

    yield make
    for server in servers:
        server.close()


SERVING = """
import sys
from nstd.workers import decode_child, fork_server
CODE, ONLY = %r, %r
def work(order, descriptors):
    if ONLY in ("", order["name"]):
        exec(CODE)
    else:
        decode_child.work(order, descriptors)
fork_server.serve(int(sys.argv[1]), work)
"""


def test_the_child_decodes_what_the_process_itself_would(beach: Path) -> None:
    here = decode(beach.read_bytes(), limits=LIMITS, max_side=90)
    there = decode_limited(str(beach), LIMITS, max_side=90)
    assert np.array_equal(there.pixels, here.pixels)
    assert there.alpha is None
    assert (there.format, there.size, there.metadata) == ("jpg", (300, 400), here.metadata)
    there.pixels[0, 0] = 0  # its own memory


def test_alpha_and_place_come_through(tmp_path: Path) -> None:
    from PIL.ExifTags import IFD

    exif = Image.Exif()
    exif[IFD.GPSInfo] = {1: "N"}
    image = Image.fromarray(scene())
    image.putalpha(Image.fromarray(RAMP_8))
    path = tmp_path / "x.png"
    path.write_bytes(saved(image, "PNG", exif=exif.tobytes()))
    photo = decode_limited(str(path), LIMITS)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, RAMP_8)
    assert photo.metadata.gps


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "beach.jpg"
    path.write_bytes(saved(noise(90, 90), "JPEG")[:-1000])
    with pytest.raises(DecodeError) as caught:
        decode_limited(str(path), LIMITS)
    assert str(caught.value) == (
        '"beach.jpg" is damaged: it ends in the middle of the picture. Export or copy it again.'
    )


def test_another_name_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"Hello")
    with pytest.raises(DecodeError, match=r'"Ferien\.jpg" is not a picture'):
        decode_limited(str(path), LIMITS, name="Ferien.jpg")


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[31m.jpg", "a\u202egpj.exe", "a\udcff.jpg"])
def test_a_hostile_name_is_shown_escaped(tmp_path: Path, name: str) -> None:
    path = os.path.join(tmp_path, name)
    Path(path).write_bytes(b"")
    with pytest.raises(DecodeError) as caught:
        decode_limited(path, LIMITS)
    assert "\\" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_picture_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(saved(Image.new("RGBA", (6000, 6000)), "PNG"))
    with pytest.raises(TooLargeError, match="more memory") as caught:
        decode_limited(str(path), LIMITS, memory_bytes=64 * 2**20)
    assert "worker.decode_memory_bytes" in caught.value.remedy


def test_a_picture_that_takes_too_long_is_refused(tmp_path: Path, child_does: ChildDoes) -> None:
    path = tmp_path / "slow.png"
    path.write_bytes(saved(scene(), "PNG"))
    child_does(HANG)
    with pytest.raises(TooLargeError, match=r"longer than 0\.2 s"):
        decode_limited(str(path), LIMITS, timeout_s=0.2)


HANG = "import time; time.sleep(600)"


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import os; os.abort()", DecodeError, "crashes"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", DecodeError, "crashes"),
        ("raise SystemExit(3)", DecodeError, "crashes"),
        ("pass", DecodeError, "crashes"),  # says nothing
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", MemoryExhaustedError, "memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", TooLargeError, "longer"),
    ],
)
def test_however_the_child_ends_it_ends_one_picture_only(
    tmp_path: Path, child_does: ChildDoes, code: str, error: type[Exception], words: str
) -> None:
    bad, good = tmp_path / "bad.jpg", tmp_path / "good.jpg"
    for path in (bad, good):
        path.write_bytes(saved(scene(300, 400), "JPEG"))
    quiet = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    child_does(quiet + code, only="bad.jpg")
    for _ in range(2):
        with pytest.raises(error, match=words) as caught:
            decode_limited(str(bad), LIMITS)
        assert "bad.jpg" in str(caught.value)
        assert decode_limited(str(good), LIMITS).size == (400, 300)


def test_a_child_that_says_nonsense_is_not_believed(
    beach: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies = [b"", b"\xff" * 8, b"\2\0\0\0\0\0\0\0{}", b'\x14\0\0\0\0\0\0\0{"shape": [9, "x"]} ']
    for lie in lies:

        def send(_order: object, _source: int, result: int, _: float, lie: bytes = lie) -> int:
            os.write(result, lie)
            return 0

        with monkeypatch.context() as patch:
            patch.setattr(decode_child, "_run", send)
            with pytest.raises(DecodeError, match="crashes"):
                decode_limited(str(beach), LIMITS)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "socket", "device", "unreadable"])
def test_what_is_no_readable_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    import socket

    path = tmp_path / "x.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "unreadable":
        path.symlink_to(path)
    with pytest.raises(DecodeError, match=r'"x\.jpg" (cannot be read|is no regular file)'):
        decode_limited(str(path), LIMITS)


def test_a_file_over_the_limit_starts_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jpg"
    path.touch()
    os.truncate(path, 2**40)  # sparse
    monkeypatch.setattr(decode_child, "_run", None)
    with pytest.raises(TooLargeError, match="MiB"):
        decode_limited(str(path), LIMITS)


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_no_descriptor_and_no_process_is_left(tmp_path: Path, beach: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    decode_child.SERVER.close()
    before = _descriptors()
    decode_limited(str(beach), LIMITS)
    during, server = _descriptors(), _server()
    servers = set(os.listdir(f"/proc/{server}/fd"))
    for path, timeout_s in ((broken, 60.0), (beach, 1e-6), (tmp_path, 60.0)):
        with pytest.raises((DecodeError, TooLargeError)):
            decode_limited(str(path), LIMITS, timeout_s=timeout_s)
    assert _descriptors() == during
    assert set(os.listdir(f"/proc/{server}/fd")) == servers
    assert _children(server) == []
    decode_child.SERVER.close()
    assert _descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_server_has_one_thread_and_none_of_our_descriptors(beach: Path, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)  # noqa: FBT003 - its only form
        decode_child.SERVER.close()
        decode_limited(str(beach), LIMITS)
        proc = Path(f"/proc/{_server()}")
        opened = [os.readlink(each) for each in (proc / "fd").iterdir()]
    assert len(list((proc / "task").iterdir())) == 1
    assert [name for name in opened if "socket:" not in name] == ["/dev/null"] * 3
    assert len(opened) == 4


def test_a_server_that_died_is_replaced(beach: Path) -> None:
    decode_limited(str(beach), LIMITS)
    before = _server()
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert decode_limited(str(beach), LIMITS).size == (300, 400)
    assert _server() != before


def test_a_server_that_the_kernel_ends_for_memory_is_no_fault_of_the_picture(
    beach: Path, child_does: ChildDoes
) -> None:
    child_does("import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)")
    with pytest.raises(MemoryExhaustedError, match="ran out of memory"):
        decode_limited(str(beach), LIMITS)


def test_a_server_that_cannot_start_is_no_fault_of_the_picture(
    beach: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["/nonexistent"], [sys.executable, "-c", "raise SystemExit(3)"]):
        server = ForkServer(lambda _, command=command: command, dict)  # type: ignore[misc]
        monkeypatch.setattr(decode_child, "SERVER", server)
        with pytest.raises(MemoryExhaustedError, match="No process could be started"):
            decode_limited(str(beach), LIMITS)


def test_whoever_is_interrupted_leaves_no_child_behind(beach: Path, child_does: ChildDoes) -> None:
    child_does(HANG)
    server = decode_child.SERVER
    child: list[int] = []

    def interrupt() -> None:
        _until(lambda: server._process is not None and bool(_children(server._process.pid)))
        assert server._process is not None
        child.extend(_children(server._process.pid))
        signal.raise_signal(signal.SIGINT)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            decode_limited(str(beach), LIMITS)
    finally:
        thread.join(60)
        signal.signal(signal.SIGINT, before)
    _until(lambda: not _alive(child[0]))


def _server() -> int:
    process = decode_child.SERVER._process
    assert process is not None
    return process.pid


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_several_threads_may_decode_at_once(beach: Path) -> None:
    sizes: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(decode_limited(str(beach), LIMITS).size))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sizes == [(300, 400)] * 3


PARENT = """
import sys
from nstd.workers import decode_child
from nstd.photo.limits import Limits
decode_child.SERVER._command = lambda descriptor: [sys.executable, "-c", '''
import os, sys, time
from nstd.workers import fork_server
def work(order, descriptors):
    print(os.getpid(), os.getppid(), file=open(sys.argv[2], "w"), flush=True)
    time.sleep(600)
fork_server.serve(int(sys.argv[1]), work)
''', str(descriptor), sys.argv[2]]
decode_child.decode_limited(sys.argv[1], Limits(), timeout_s=600)
"""


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_child_dies_with_its_parent(tmp_path: Path, beach: Path) -> None:
    note = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(beach), str(note)]) as parent:
        try:
            _until(lambda: note.exists() and note.read_text().endswith("\n"))
            child, server = map(int, note.read_text().split())
            assert _alive(child)
        finally:
            parent.send_signal(signal.SIGKILL)
    _until(lambda: not _alive(child) and not _alive(server))


def test_the_child_dies_with_the_server(tmp_path: Path, beach: Path, child_does: ChildDoes) -> None:
    note = tmp_path / "pid"
    child_does(f"""
import os, signal, time
with open({str(note)!r}, "w") as file:
    print(os.getpid(), file=file)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(600)
""")
    with pytest.raises(MemoryExhaustedError):
        decode_limited(str(beach), LIMITS)
    _until(lambda: not _alive(int(note.read_text())))


def test_the_child_is_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not dump core, gain privileges, or take more memory and time than it was given."""
    code = """
import resource, sys
from nstd.workers import decode_child
decode_child._confine(256 << 20, 5)
print([resource.getrlimit(which)[0] for which in
       (resource.RLIMIT_CPU, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
try:
    bytearray(512 << 20)
except MemoryError:
    print("confined")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[:3] == ["[5, 0, 64]", "['1']", "confined"]
