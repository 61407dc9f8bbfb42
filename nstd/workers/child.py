"""The worker child: loads the engine once, then paints what it is given.

It is started as ``python -P -m nstd.workers.child --fd N --parent PID --worker NAME --device D``
with one end of a packet socket as descriptor N. The main thread paints, or starts a thread for
each task where several may run at a time (``WorkerSettings.places``); a second thread reads
commands and only sets flags, so that a cancellation arrives while a step runs. The daemon decides
when a worker ends: signals from a terminal or a service manager are ignored here, and the end of
the pipe, or of the daemon, ends the child at once.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from nstd.errors import DeviceError, MemoryExhaustedError, NstdError
from nstd.jobs import publish
from nstd.workers import system, task, wire
from nstd.workers.decoder import Decoder
from nstd.workers.executor import WorkerFailed, WorkerReady
from nstd.workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nstd.workers.executor import Event, Task

IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Channel:
    """The child's end of the socket; any thread may send, one thread reads."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Deliver an event, waiting for room; the daemon's end ends the child."""
        packet = wire.pack_event(event)
        try:
            with self._lock:
                self._end.send(packet)
        except OSError:
            leave(wire.EXIT_DONE)

    def hint(self, event: Event) -> None:
        """Deliver an event unless the daemon is behind with reading: the next one is newer."""
        try:
            with self._lock:
                self._end.send(wire.pack_event(event), socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            leave(wire.EXIT_DONE)

    def read(self) -> wire.Message | None:
        """Return the next command; None when the daemon has closed its end."""
        try:
            packet = self._end.recv(wire.MAX_PACKET_BYTES)
        except OSError:
            return None
        return wire.decode(packet) if packet else None


@dataclass(frozen=True, eq=False)
class Order:
    """A task and the flags that later commands set for it."""

    job: Task
    control: task.Control


class Mailbox(threading.Thread):
    """Reads commands, queues tasks, and sets the flags of the task that is meant."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(name="commands", daemon=True)
        self.orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._channel = channel
        self._lock = threading.Lock()
        # By identity, not by job: a job that failed may come again before it is forgotten here.
        self._held: list[Order] = []
        self._exit: int | None = None
        """The process is to end with this code as soon as it holds nothing any more."""

    def run(self) -> None:
        """Obey until the daemon's end is closed, and then end the process."""
        while (message := self._channel.read()) is not None:
            with self._lock:
                self._obey(message)
        leave(wire.EXIT_DONE)

    def done(self, order: Order, code: int | None) -> None:
        """Forget an order; with a code, or after a stop, the process ends once all are done.

        The others are then asked to checkpoint and hand back: whatever this one ran into, they
        have no part in it.
        """
        with self._lock:
            self._held.remove(order)
            if code is not None:
                self._end(code)
            if self._exit is not None and not self._held:
                leave(self._exit)

    def _end(self, code: int) -> None:
        self._exit = self._exit or code
        for order in self._held:
            order.control.stopping.set()

    def _obey(self, message: wire.Message) -> None:
        if message["op"] == "run":
            order = Order(wire.unpack_task(message), task.Control())
            if self._exit is not None:  # sent before the daemon knew: handed back at once
                order.control.stopping.set()
            self._held.append(order)
            self.orders.put(order)
        elif message["op"] == "cancel":
            for order in self._held:
                if order.job.job_id == message["job_id"]:
                    order.control.cancelled.set()
        elif message["op"] == "stop":
            self._end(wire.EXIT_DONE)
            if not self._held:  # nothing to hand back, not even while the engine still loads
                leave(wire.EXIT_DONE)


def leave(code: int) -> NoReturn:
    """End the process without the interpreter's own ending, in which TensorFlow may hang."""
    sys.stderr.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Load the engine, announce it, and paint until told to stop; return the exit code."""
    options = _options(argv)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    system.die_with_parent(options.parent)
    system.offer_to_oom_killer()
    publish.arm_from_environment()
    channel = Channel(socket.socket(fileno=options.fd))
    first = channel.read()
    if first is None:
        return wire.EXIT_DONE
    settings = WorkerSettings.from_dict(first["settings"])
    mailbox = Mailbox(channel)
    mailbox.start()
    painter = _load(settings, options, channel)
    if painter is None:
        return wire.EXIT_START
    pixels = task.pixels_together(painter)
    channel.send(WorkerReady(options.worker, options.device, painter.facts(), pixels))
    post = task.Post(options.worker, options.device, channel.send, channel.hint)
    return _serve(mailbox, painter, settings, post)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nstd.workers.child", allow_abbrev=False)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--device", required=True)
    return parser.parse_args(argv)


def _load(
    settings: WorkerSettings, options: argparse.Namespace, channel: Channel
) -> task.Painter | None:
    """Return the engine, or None after saying why there is none."""
    try:
        return task.build_engine(settings, options.device)
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon is to hear it in words
        why = task.as_nstd_error(error)
    channel.send(
        WorkerFailed(options.worker, options.device, why.reason, why.message, why.remedy, why.retry)
    )
    return None


def _serve(
    mailbox: Mailbox, painter: task.Painter, settings: WorkerSettings, post: task.Post
) -> NoReturn:
    """Paint for ever; the mailbox ends the process. The daemon keeps to the number of places."""
    decoder = Decoder(settings.paint)

    def work(order: Order) -> None:
        error = task.run_task(
            order.job, painter, settings.paint, post=post, control=order.control, decoder=decoder
        )
        system.give_back_memory()
        mailbox.done(order, _last_words(error))

    def work_beside_others(order: Order) -> None:
        try:
            work(order)
        except BaseException:  # noqa: BLE001 - in the main thread it would have ended the process
            traceback.print_exc()
            leave(1)

    while True:
        order = mailbox.orders.get()
        if settings.places(post.device) == 1:
            work(order)
        else:
            threading.Thread(
                target=work_beside_others, args=(order,), name=order.job.job_id, daemon=True
            ).start()


def _last_words(error: NstdError | None) -> int | None:
    """Return the exit code with which an error ends not only the job but the process, or None."""
    if isinstance(error, DeviceError):
        return wire.EXIT_DEVICE
    return wire.EXIT_MEMORY if isinstance(error, MemoryExhaustedError) else None


if __name__ == "__main__":
    leave(main())
