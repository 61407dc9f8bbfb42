"""A process that has its libraries loaded and forks one child for each order.

To start Python and its image libraries takes several times as long as to decode a photograph. The
server does it once. It has one thread and never touches what an order is about; each child starts
from the same untouched state, sees only its own order's files, and dies with the server, which
dies with its parent: the end of the socket tells it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nstd.workers import system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_PACKET: Final = 64 * 1024
MAX_DESCRIPTORS: Final = 8
PATIENCE_S: Final = 30.0
"""So much longer than the child may take, the server may: it has to start, too."""
END_S: Final = 5.0
TIME_UP: Final = b"time is up"


# --- the parent's side -------------------------------------------------------------------------


class ForkServer:
    """The parent's end; the server starts with the first order, and anew where it has died."""

    def __init__(
        self, command: Callable[[int], list[str]], environment: Callable[[], Mapping[str, str]]
    ) -> None:
        """``command`` gets the number of the server's descriptor."""
        self._command, self._environment = command, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def run(
        self, order: Mapping[str, Any], descriptors: Sequence[int], timeout_s: float
    ) -> int | None:
        """Have a child do the order; return its exit status as subprocess does, None: time up.

        Raises OSError where there is no server to be had.
        """
        packet = json.dumps({"order": order, "timeout_s": timeout_s}).encode()
        with self._lock:
            try:
                return self._ask(packet, descriptors, timeout_s)
            except BaseException:  # Ctrl-C, too: what the child does now is nobody's any more
                self._end()
                raise

    def close(self) -> None:
        """End the server, and the child that it may have; a later order starts another."""
        with self._lock:
            self._end()

    def _ask(self, packet: bytes, descriptors: Sequence[int], timeout_s: float) -> int | None:
        connection = self._send(packet, descriptors)
        connection.settimeout(timeout_s + PATIENCE_S)
        try:
            answer = connection.recv(MAX_PACKET)
        except TimeoutError:
            answer = TIME_UP
            self._end()
        except ConnectionError:
            answer = b""
        if not answer:
            return self._server_died()
        return None if answer == TIME_UP else int(answer)

    def _send(self, packet: bytes, descriptors: Sequence[int]) -> socket.socket:
        if self._socket is not None:
            with contextlib.suppress(ConnectionError):
                socket.send_fds(self._socket, [packet], descriptors)
                return self._socket
            self._end()  # it died while it had nothing to do
        started = self._start()
        socket.send_fds(started, [packet], descriptors)
        return started

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    self._command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=self._environment(),
                )
            except OSError:
                ours.close()
                raise
        self._socket = ours
        return ours

    def _server_died(self) -> int:
        """Return how, where the kernel ended it for memory: its children are the larger part."""
        status = self._end()
        if status == -signal.SIGKILL:
            return status
        raise ChildProcessError(f"the server ended with status {status}")

    def _end(self) -> int | None:
        process, connection = self._process, self._socket
        self._process = self._socket = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


# --- the server's side -------------------------------------------------------------------------


def serve(descriptor: int, work: Callable[[dict[str, Any], Sequence[int]], None]) -> None:
    """Fork a child for each order that comes, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(ConnectionError):
        while True:
            packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET, MAX_DESCRIPTORS)
            if not packet:
                return
            message = json.loads(packet)
            server, child = os.getpid(), os.fork()
            if child == 0:
                _be_child(server, connection, lambda: work(message["order"], descriptors))  # noqa: B023
            for each in descriptors:
                os.close(each)
            connection.send(_end_of(child, connection, message["timeout_s"]))


def _be_child(server: int, connection: socket.socket, work: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        system.die_with_parent(server)
        connection.close()
        work()
        status = 0
    finally:
        os._exit(status)


def _end_of(child: int, connection: socket.socket, timeout_s: float) -> bytes:
    """Wait for the child, no longer than it may take, nor than anybody waits for it."""
    pidfd = os.pidfd_open(child)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(connection, select.POLLIN)
        ended = pidfd in dict(poller.poll(1000 * timeout_s))
    finally:
        os.close(pidfd)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return str(os.waitstatus_to_exitcode(status)).encode() if ended else TIME_UP
