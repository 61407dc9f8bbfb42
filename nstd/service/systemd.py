"""What nstd tells systemd: sd_notify(3) as datagrams, without a library."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

from nstd.jobs.text import shown
from nstd.service.snapshot import RunningJob, Snapshot

MAX_STATUS = 400
"""Characters of a STATUS line: ``systemctl status`` shows one line."""

STATE_WAIT_S, NEWS_WAIT_S = 2.0, 0.1


class Notifier:
    """Sends to ``$NOTIFY_SOCKET``; without one, every call does nothing."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = env.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_seconds(env)
        """Within so many seconds systemd wants a sign of life; None: it does not watch."""
        self._status = ""

    def ready(self, status: str = "") -> None:
        """Say that the service does its work from now on."""
        self._send("READY=1", *self._changed(status))

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``; the same line again is not sent."""
        if lines := self._changed(text):
            self._send(*lines)

    def alive(self) -> None:
        """Feed the watchdog: only the loop calls this, and only after it has proved its health."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Announce a reload; ``ready`` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str = "") -> None:
        """Say that the service is on its way out."""
        self._send("STOPPING=1", *self._changed(status))

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time to start or stop, while there is progress."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def failed(self, text: str, errno: int = 0) -> None:
        """Leave the reason of a failed start behind."""
        self._send(*([f"ERRNO={errno}"] if errno else []), *self._changed(text))

    def _changed(self, text: str) -> list[str]:
        line = shown(text)[:MAX_STATUS]
        if not line or line == self._status:
            return []
        self._status = line
        return [f"STATUS={line}"]

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # the abstract namespace
            address = "\0" + address[1:]
        # A supervisor that went away is no reason to stop painting.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            # A receiver that does not read must not hold the loop up; states matter more than news.
            sock.settimeout(STATE_WAIT_S if "=1" in lines[0] else NEWS_WAIT_S)
            sock.connect(address)
            sock.sendall("\n".join(lines).encode())


def _watchdog_seconds(env: MutableMapping[str, str]) -> float | None:
    pid, microseconds = env.get("WATCHDOG_PID", ""), env.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 if int(microseconds) else None


def duration(seconds: float) -> str:
    """Return ``0:41``, ``12:05`` or ``3:07:00``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def status_line(snapshot: Snapshot) -> str:
    """Say in one line what goes on: counts, and percent and ETA of what is painted."""
    counts = snapshot.pending
    parts = [f"{counts.get('queued', 0)} queued"]
    running = "; ".join(_running(job) for job in snapshot.running[:3])
    parts.append(f"{len(snapshot.running)} running" + (f" ({running})" if running else ""))
    parts.extend(f"{counts[s]} {s}" for s in ("waiting", "deferred") if counts.get(s))
    parts.extend(f"{snapshot.totals[o]} {o}" for o in ("done", "failed") if snapshot.totals.get(o))
    line = ", ".join(parts)
    return f"{snapshot.state.capitalize()}: {' '.join((*snapshot.notes, line))}"


def _running(job: RunningJob) -> str:
    eta = "" if job.eta_s is None else f", eta {duration(job.eta_s)}"
    return f"{shown(job.name)} {round(100 * job.share)} %{eta}"
