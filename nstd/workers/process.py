"""The daemon's side of one worker child: start it, talk to it without blocking, end it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

from nstd.engine.device import CPU
from nstd.engine.device import environment as device_environment
from nstd.workers import system, wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nstd.workers.settings import WorkerSettings

MAX_LOG_LINE = 2000
"""Bytes; a native library that writes one endless line does not fill the daemon."""
NOISE = re.compile(r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} \d\d:\d\d:\d\d")
"""What TensorFlow prints at every start, whatever its log level, before its log is set up."""
NO_CUDA = "failed call to cuInit"
"""What it complains of where it was told to take no GPU."""
CRASH_VARIABLES = ("NSTD_CRASH_AT", "NSTD_WORKER_CRASH_AT")
"""The daemon's planned crash is not its workers'; theirs has a variable of its own."""


def environment(device: str, base: Mapping[str, str]) -> dict[str, str]:
    """Return the child's environment: its own device and no other, a quiet TensorFlow."""
    env = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MALLOC_ARENA_MAX": "2",
        **base,
        **device_environment(device, base),
        "PYTHONUNBUFFERED": "1",
    }
    daemons, workers = CRASH_VARIABLES
    env.pop(daemons, None)
    if workers in env:
        env[daemons] = env.pop(workers)
    return env


class ChildProcess:
    """One running ``nstd.workers.child``, in a process group of its own."""

    def __init__(self, worker: str, device: str, settings: WorkerSettings) -> None:
        self._end, theirs = wire.pair()
        with theirs:
            try:
                self._process = _popen(worker, device, theirs.fileno())
            except OSError:
                self._end.close()
                raise
        assert self._process.stdout is not None  # noqa: S101 - Popen was given PIPE
        self._log = self._process.stdout
        os.set_blocking(self._log.fileno(), False)
        os.set_blocking(self._end.fileno(), False)
        self._device = device
        self._outbox: deque[bytes] = deque()
        self._log_rest = b""
        self.pid = self._process.pid
        self.places = settings.places(device)
        """Jobs that it may have at a time."""
        self.at_end = False
        """Whether everything that the child said has been read."""
        self.send({"op": "settings", "settings": settings.to_dict()})

    def descriptors(self) -> tuple[int, int]:
        """Return what becomes readable when the child speaks, logs or dies."""
        return self._end.fileno(), self._log.fileno()

    def send(self, message: wire.Message) -> None:
        """Send a command, now or when the child reads again."""
        self._outbox.append(wire.encode(message))
        self.flush()

    def flush(self) -> None:
        """Send what could not be sent before."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outbox:
                self._end.send(self._outbox[0])
                self._outbox.popleft()

    def receive(self) -> list[wire.Message]:
        """Return what the child has said; ``at_end`` is set at its end."""
        messages: list[wire.Message] = []
        while not self.at_end:
            try:
                packet = self._end.recv(wire.MAX_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError:  # reset by a child that died with commands unread
                packet = b""
            if packet:
                messages.append(wire.decode(packet))
            else:
                self.at_end = True
        return messages

    def log_lines(self) -> list[str]:
        """Return the whole lines that the child has written to stdout and stderr."""
        data = self._log_rest
        with contextlib.suppress(OSError):
            while chunk := self._log.read(65_536):
                data += chunk
        *lines, self._log_rest = data.split(b"\n")
        if len(self._log_rest) > MAX_LOG_LINE:
            lines, self._log_rest = [*lines, self._log_rest], b""
        texts = [line[:MAX_LOG_LINE].decode("utf-8", "backslashreplace") for line in lines]
        return [text for text in texts if text.strip() and not is_noise(text, self._device)]

    def last_words(self) -> list[str]:
        """Return the remaining log of a child that has ended, its unfinished line included."""
        lines = self.log_lines()
        rest, self._log_rest = self._log_rest, b""
        return [*lines, rest.decode("utf-8", "backslashreplace")] if rest else lines

    def exit_status(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process lives.

        The process is looked at but not reaped: until ``close`` its number, which is that of
        its group too, cannot become anybody else's.
        """
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        info = os.waitid(os.P_PID, self.pid, options)
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def rss_bytes(self) -> int:
        """Return the memory that the process occupies."""
        return system.rss_bytes(self.pid)

    def kill(self) -> None:
        """End the process and its own children, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the descriptors of a process that has ended."""
        self.kill()  # a decode child that outlived it
        self._process.wait()
        self._end.close()
        self._log.close()


def _popen(worker: str, device: str, descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(worker, device, descriptor),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(descriptor,),
        # Out of reach of Ctrl-C; and its own children end with it (killpg).
        start_new_session=True,
        env=environment(device, os.environ),
    )


def is_noise(line: str, device: str) -> bool:
    """Tell whether a line is what TensorFlow always says and nobody needs."""
    return bool(NOISE.match(line)) or (device == CPU and NO_CUDA in line)


def _command(worker: str, device: str, descriptor: int) -> list[str]:
    # -P: the working folder, which may be anybody's, is no place to import modules from.
    return [
        sys.executable, "-P", "-m", "nstd.workers.child",
        "--fd", str(descriptor), "--parent", str(os.getpid()),
        "--worker", worker, "--device", device,
    ]  # fmt: skip


def watch(poller: select.epoll, child: ChildProcess) -> None:
    """Have ``poller`` wake up for the child."""
    for descriptor in child.descriptors():
        poller.register(descriptor, select.EPOLLIN)
