"""The HTTP door: metrics, health, the status page, and the pictures that the page shows.

It only looks: no request changes anything, every answer comes from the registry, from the newest
snapshot, or from a file that the snapshot names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from nstd.errors import ConfigError, NstdError, StorageError
from nstd.jobs.publish import write_atomic
from nstd.service.logs import logger
from nstd.service.page import render
from nstd.service.snapshot import Snapshot

MAX_CONNECTIONS = 16
"""At the same time; more are closed at once, so that the loop keeps its processor."""
TIMEOUT_S = 10
MAX_FILE_BYTES = 128 * 2**20
TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".json": "application/json",
}
HTML, TEXT, JSON = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/json"
LISTEN_FILE = "listen"


@dataclass(frozen=True)
class Sources:
    """What the door shows; every callable is called from other threads than the loop's."""

    registry: CollectorRegistry
    snapshot: Callable[[], Snapshot]
    alive: Callable[[], str]
    """Why the daemon is not alive; empty while it is."""
    ready: Callable[[], str]
    """Why the daemon is not ready; empty when it is."""
    outbox: Path


@dataclass(frozen=True)
class Answer:
    """One response."""

    body: bytes
    kind: str = TEXT
    status: HTTPStatus = HTTPStatus.OK


class HttpDoor:
    """Listens on ``listen`` in threads of its own, from ``start`` to ``stop``."""

    def __init__(self, listen: str, sources: Sources, *, state: Path | None = None) -> None:
        self._listen = listen
        self._sources = sources
        self._state = state
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._announced = False
        self.address = ""
        """ADDRESS:PORT as bound, once started."""

    def start(self) -> None:
        """Bind and serve; ConfigError when the address cannot be had."""
        host, port = split(self._listen)
        self._server = _bind(self._listen, host, port, self._sources)
        bound = self._server.server_address[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="http", daemon=True
        )
        self._thread.start()
        logger().info("Listening.", address=self.address)
        with contextlib.suppress(StorageError):  # a full disk: the daemon asks again
            self.announce()

    def announce(self) -> None:
        """Write the address where commands find it, once; StorageError while the disk refuses."""
        if self._state is None or self._server is None or self._announced:
            return
        data = f"{self.address}\n".encode()
        write_atomic(str(self._state), LISTEN_FILE, data, replace=True)
        self._announced = True

    def move(self, listen: str | None) -> None:
        """Listen elsewhere, None: nowhere; after a ConfigError it listens where it did before."""
        before = self._listen if self._server is not None else None
        self.stop()
        try:
            self._listen_on(listen)
        except NstdError:
            self._listen_on(before)
            raise

    def _listen_on(self, listen: str | None) -> None:
        if listen is not None:
            self._listen = listen
            self.start()

    def stop(self) -> None:
        """Close the port; requests that run are not waited for."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._server = self._thread = None
        self._announced = False
        if self._state is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._state / LISTEN_FILE)


def split(listen: str) -> tuple[str, int]:
    """Return host and port of ``ADDRESS:PORT`` (``[::1]:80`` for IPv6); ConfigError otherwise."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(
            f"Cannot listen on {listen!r}: it is not ADDRESS:PORT.", "Give one like 127.0.0.1:9464."
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _bind(listen: str, host: str, port: int, sources: Sources) -> _Server:
    try:
        return _Server(host, port, sources)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            why = f"port {port} is in use"
        elif isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
            why = "this machine has no such address"
        else:
            why = os.strerror(number) if isinstance(number, int) else str(error)
        raise ConfigError(
            f"Cannot listen on {listen}: {why}.",
            "Set http.listen or --listen to another ADDRESS:PORT; port 0 takes a free one.",
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, host: str, port: int, sources: Sources) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.sources = sources
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that went away; the handler logs what is ours."""

    def server_bind(self) -> None:
        """Bind without the reverse DNS look-up that the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = TIMEOUT_S
    server_version = "nstd"
    sys_version = ""

    def do_GET(self) -> None:
        self._reply(self._answer())

    def do_HEAD(self) -> None:
        self._reply(self._answer(), with_body=False)

    def _answer(self) -> Answer:
        try:
            return route(urlsplit(self.path).path, self.headers.get("Accept", ""), self._sources)
        except Exception:  # noqa: BLE001 - a bug in a view must not end the door or show itself
            logger().exception("A request could not be answered.", path=self.path)
            text = b"Something went wrong; the log says what.\n"
            return Answer(text, status=HTTPStatus.INTERNAL_SERVER_ERROR)

    @property
    def _sources(self) -> Sources:
        return self.server.sources

    def _reply(self, answer: Answer, *, with_body: bool = True) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", render.policy())
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger().debug("http", client=self.client_address[0], request=format % args)


def route(path: str, accept: str, sources: Sources) -> Answer:
    """Return the answer to a GET of ``path``."""
    if path == "/metrics":
        encode, kind = choose_encoder(accept)
        return Answer(encode(sources.registry), kind)
    if path in ("/healthz", "/readyz"):
        return _health(sources.alive() if path == "/healthz" else sources.ready())
    if path == "/":
        return Answer(render.live(sources.snapshot()).encode(), HTML)
    if path == "/api/jobs":
        return Answer(sources.snapshot().to_json().encode() + b"\n", JSON)
    kind, _, job = path.strip("/").partition("/")
    if file := _file_of(kind, job, sources.snapshot()):
        return _file(sources.outbox, file)
    return _not_found()


def _health(problem: str) -> Answer:
    if problem:
        return Answer(f"{problem}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
    return Answer(b"ok\n")


def _not_found() -> Answer:
    text = b"There are / /metrics /healthz /readyz and /api/jobs.\n"
    return Answer(text, status=HTTPStatus.NOT_FOUND)


def _file_of(kind: str, job: str, snap: Snapshot) -> str | None:
    """Return the file below the outbox that the snapshot names for this job."""
    if kind == "preview":
        return next((running.preview for running in snap.running if running.id == job), None)
    if kind in ("picture", "report"):
        ended = next((ended for ended in snap.recent if ended.id == job), None)
        return None if ended is None else (ended.picture if kind == "picture" else ended.report)
    return None


def _file(outbox: Path, path: str) -> Answer:
    kind = TYPES.get(os.path.splitext(path)[1].lower())
    data = None if kind is None else read_beneath(outbox, path)
    return _not_found() if data is None or kind is None else Answer(data, kind)


def read_beneath(folder: Path, path: str) -> bytes | None:
    """Return a regular file below ``folder``; None when it is not there, too large, or a link.

    Each part is opened by its parent's descriptor without following links, so that nobody who can
    write into the share makes this door read elsewhere.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, here)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            flags = os.O_NONBLOCK if last else os.O_DIRECTORY
            here = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=here)
            stack.callback(os.close, here)
        with open(here, "rb", closefd=False) as file:
            if os.fstat(here).st_size <= MAX_FILE_BYTES and Path(f"/proc/self/fd/{here}").is_file():
                return file.read(MAX_FILE_BYTES)
    return None
