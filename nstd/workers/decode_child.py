"""`photo.decode` in a small child that may crash, swell or hang without harm.

The libraries that decode pictures are large, written in C, and fed with anybody's files. The
parent opens the file once and hands the descriptor over; the child, forked for this picture from
a process that has the libraries loaded, bounds its own memory and processor time, decodes, and
writes pixels into a memory file that the parent reads when the child has gone. Nothing is looked
up by name on the way, and no temporary file is left.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

import nstd
from nstd.errors import (
    DecodeError,
    InputError,
    MemoryExhaustedError,
    MissingError,
    NstdError,
    TooLargeError,
    by_reason,
)
from nstd.jobs.text import shown
from nstd.workers import fork_server, system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nstd.photo.decode import Photo
    from nstd.photo.limits import Limits

_PR_SET_NO_NEW_PRIVS: Final = 38
_MOST_HEADER_BYTES: Final = 2**20
_AGAIN: Final = "Export or copy it again."


# --- the parent's side -------------------------------------------------------------------------


def decode_limited(
    path: str,
    limits: Limits,
    *,
    max_side: int | None = None,
    timeout_s: float = 60.0,
    memory_bytes: int = 2 * 2**30,
    name: str | None = None,
) -> Photo:
    """Decode the picture at ``path`` in a child with limits and return it.

    ``timeout_s`` bounds both wall and processor time, ``memory_bytes`` what the child may take on
    top of its interpreter. ``name`` goes into messages, the path's last part where it is None.
    Raises what `nstd.photo.decode.decode` raises; a child that crashes is a DecodeError, one that
    takes too long a TooLargeError, one that the kernel ended for memory MemoryExhaustedError.
    """
    name = shown(os.path.basename(path) if name is None else name)
    source = _open(path, limits, name)
    try:
        result = os.memfd_create("nstd-photo")
        try:
            order = {
                "name": name,
                "limits": dataclasses.asdict(limits),
                "max_side": max_side,
                "cpu_s": max(1, round(timeout_s + 0.5)),
                "memory_bytes": memory_bytes,
            }
            status = _run(order, source, result, timeout_s)
            return _photo(result, status, name, timeout_s)
        finally:
            os.close(result)
    finally:
        os.close(source)


def _open(path: str, limits: Limits, name: str) -> int:
    """Open a regular file; a FIFO or device of that name neither blocks nor is read."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise DecodeError(
            f'"{name}" cannot be read: {error.strerror}.',
            "Check that it is there and that you may read it.",
        ) from error
    status = os.fstat(source)
    if stat.S_ISREG(status.st_mode):
        from nstd.photo.header import check_bytes  # noqa: PLC0415  # Pillow, only where it decodes

        try:
            check_bytes(status.st_size, limits, name)
        except TooLargeError:
            os.close(source)
            raise
        return source
    os.close(source)
    raise DecodeError(f'"{name}" is no regular file.', "Give the picture itself.")


def _run(order: dict[str, Any], source: int, result: int, timeout_s: float) -> int | None:
    """Run the child to its end and return its status, None where its time was up."""
    try:
        return SERVER.run(order, (source, result), timeout_s)
    except OSError as error:
        raise MemoryExhaustedError(
            f"No process could be started to decode a picture: {error.strerror or error}.",
            "It is tried again; if it stays, look at the machine's memory and process limits.",
        ) from error


def _command(descriptor: int) -> list[str]:
    # -P: the working folder, which may be anybody's, is no place to import modules from.
    return [sys.executable, "-P", "-m", "nstd.workers.decode_child", str(descriptor)]


def _environment() -> dict[str, str]:
    """Return an environment in which threads and their arenas do not eat the address space."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(nstd.__file__)))
    inherited = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
    return {
        **inherited,
        "PYTHONPATH": package,
        "MALLOC_ARENA_MAX": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


SERVER = fork_server.ForkServer(_command, _environment)
"""Lives from the first picture on, as long as this process."""
atexit.register(SERVER.close)


def _photo(result: int, status: int | None, name: str, timeout_s: float) -> Photo:
    if status is None or status == -signal.SIGXCPU:
        raise TooLargeError(
            f'"{name}" takes longer than {timeout_s:g} s to decode.',
            "Export it smaller or as JPEG, or raise worker.decode_timeout_s.",
        )
    if status == -signal.SIGKILL:
        raise MemoryExhaustedError(
            f'The machine ran out of memory while "{name}" was decoded.',
            "It is tried again; if it stays, give the service more memory.",
        )
    if status == 0:
        try:
            return _received(result)
        except (EOFError, ValueError, KeyError, TypeError) as error:
            raise _crash(name) from error
    raise _crash(name)


def _crash(name: str) -> DecodeError:
    return DecodeError(f'"{name}" is damaged: it crashes the image library.', _AGAIN)


def _received(result: int) -> Photo:
    """Read what the child left; raises ValueError or EOFError where that is not whole."""
    length = int.from_bytes(os.pread(result, 8, 0), "little")
    header = json.loads(os.pread(result, min(length, _MOST_HEADER_BYTES), 8))
    if "error" in header:
        raise _error(header["error"])
    return _unpack(header, result, 8 + length)


def _error(fields: dict[str, str]) -> NstdError:
    return by_reason(fields["reason"])(fields["message"], fields["remedy"])


def _unpack(header: dict[str, Any], result: int, at: int) -> Photo:
    import numpy as np  # noqa: PLC0415

    from nstd.photo.decode import Photo  # noqa: PLC0415
    from nstd.photo.metadata import Metadata  # noqa: PLC0415

    height, width = header["shape"]
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if header["alpha"] else None
    for array in (pixels, alpha):
        if array is not None:
            _fill(array.data.cast("B"), result, at)
            at += array.nbytes
    gps = header["metadata"].pop("gps")
    return Photo(
        pixels=pixels,
        alpha=alpha,
        format=header["format"],
        size=(header["size"][0], header["size"][1]),
        metadata=Metadata(**header["metadata"], gps=base64.b64decode(gps) if gps else None),
    )


def _fill(target: memoryview, result: int, at: int) -> None:
    """Read exactly as many bytes as ``target`` has; one call gives 2 GiB at most."""
    while target:
        count = os.preadv(result, [target], at)
        if count == 0:
            raise EOFError("the decoder wrote less than it announced")
        target, at = target[count:], at + count


# --- the child's side --------------------------------------------------------------------------


def main(argv: list[str]) -> None:
    """Serve on the descriptor that ``argv[1]`` names, with everything at hand to decode."""
    with contextlib.suppress(ImportError):  # each child then says in words what is missing
        from nstd.photo.decode import warm_up  # noqa: PLC0415

        warm_up()
    fork_server.serve(int(argv[1]), work)


def work(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Decode the first descriptor by the order; the outcome goes to the second, a memory file."""
    source, result = descriptors
    try:
        header, samples = _decode(order, source)
    except NstdError as error:
        header, samples = _refusal(type(error), error.message, error.remedy), ()
    except MemoryError:
        header, samples = _memory(order["name"]), ()
    except ImportError as error:
        header = _refusal(MissingError, f"Pictures cannot be decoded: {error}.", "Reinstall nstd.")
        samples = ()
    except Exception as error:  # noqa: BLE001  # what nobody thought of ends this picture only
        header = _refusal(
            InputError, f'"{order["name"]}" cannot be decoded: {type(error).__name__}.', _AGAIN
        )
        samples = ()
    _send(result, header, samples)


def _decode(order: dict[str, Any], source: int) -> tuple[dict[str, Any], tuple[memoryview, ...]]:
    # Imported before the limits, which count from here.
    from nstd.photo.decode import decode  # noqa: PLC0415
    from nstd.photo.limits import Limits  # noqa: PLC0415

    limits = Limits(**order["limits"])
    _confine(order["memory_bytes"], order["cpu_s"])
    # One byte more than allowed, so that a file that grew meanwhile is seen as too large.
    with open(source, "rb", closefd=False) as file:
        data = file.read(limits.max_bytes + 1)
    photo = decode(data, limits=limits, max_side=order["max_side"], name=order["name"])
    metadata = dataclasses.asdict(photo.metadata)
    gps = metadata["gps"]
    metadata["gps"] = base64.b64encode(gps).decode("ascii") if gps else None
    header = {
        "shape": photo.pixels.shape[:2],
        "alpha": photo.alpha is not None,
        "format": photo.format,
        "size": photo.size,
        "metadata": metadata,
    }
    arrays = (photo.pixels,) if photo.alpha is None else (photo.pixels, photo.alpha)
    return header, tuple(array.data.cast("B") for array in arrays)


def _confine(memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process may take from here on; it cannot be undone."""
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * system.PAGE_BYTES
    _bound(resource.RLIMIT_AS, own + memory_bytes)
    _bound(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_NOFILE, 64)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _bound(which: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit, never above one that is there already."""
    _, allowed = resource.getrlimit(which)
    hard = soft if hard is None else hard
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(which, (soft, hard))


def _refusal(kind: type[NstdError], message: str, remedy: str) -> dict[str, Any]:
    return {"error": {"reason": kind.reason, "message": message, "remedy": remedy}}


def _memory(name: str) -> dict[str, Any]:
    from nstd.photo.header import too_much_memory  # noqa: PLC0415

    error = too_much_memory(name)
    return _refusal(type(error), error.message, error.remedy)


def _send(result: int, header: dict[str, Any], samples: tuple[memoryview, ...]) -> None:
    packed = json.dumps(header).encode()
    head = memoryview(len(packed).to_bytes(8, "little") + packed)
    for part in (head, *samples):
        rest = part
        while rest:
            rest = rest[os.write(result, rest) :]


if __name__ == "__main__":
    main(sys.argv)
