"""``nstd check``: what is wrong, what it means, how to mend it. It changes nothing."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nstd.engine import device, weights
from nstd.errors import DeviceError, NstdError
from nstd.jobs.ledger import Ledger
from nstd.jobs.library import scan_library
from nstd.jobs.text import shown
from nstd.photo.names import unreadable_remedy
from nstd.service import doctor_folders, lock
from nstd.service.config import Config
from nstd.service.findings import Finding, bad, from_error, good, note
from nstd.service.http import LISTEN_FILE, split
from nstd.service.page.words import counted
from nstd.service.status import find_ledger

PROBE_S = 180
WATCHES = "/proc/sys/fs/inotify/max_user_watches"

_REFUSED = 9
_PROBE = """
import json, sys
from nstd.engine.device import open_device
from nstd.errors import NstdError
try:
    print(json.dumps([open_device(sys.argv[1]), ""]))
except NstdError as error:
    print(json.dumps([error.message, error.remedy]))
    sys.exit(9)
"""


def examine(config: Config, path: Path | None, *, quick: bool = False) -> Iterator[Finding]:
    """Yield every finding as it is made; ``quick`` leaves out what loads TensorFlow."""
    yield from _configuration(config, path)
    yield from _daemon(config)
    yield from doctor_folders.check(config)
    yield from _ledger(config)
    yield from _library(config)
    yield from _weights(config)
    yield from _device(config, quick=quick)
    yield from _http(config)
    yield from _machine()


def _configuration(config: Config, path: Path | None) -> Iterator[Finding]:
    if path is None:
        yield good("configuration", f"No file: the defaults, below {config.folders.root}.")
        return
    yield good("configuration", f"{path} is right.")
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.stat(path).st_mode) & stat.S_IWOTH:
            yield note(
                "configuration", f"Everybody may change {path}.", f"Run: sudo chmod o-w {path}"
            )


def _daemon(config: Config) -> Iterator[Finding]:
    if (pid := lock.holder(str(config.folders.state))) is not None:
        yield good("daemon", f"nstd runs here with pid {pid}.")
    if os.geteuid() == 0:
        yield note(
            "daemon",
            "This is the superuser.",
            "Run nstd as a user of its own (the unit's is nstd), and this check as that user.",
        )


def _ledger(config: Config) -> Iterator[Finding]:
    try:
        path = find_ledger(config)
        if path is None:
            return
        with Ledger(str(path)) as ledger:
            counts = ledger.counts()
    except NstdError as error:
        yield from_error("ledger", error)
        return
    yield good("ledger", f"{sum(counts.values())} jobs, {counts['failed']} of them failed.")


def _library(config: Config) -> Iterator[Finding]:
    try:
        styles = scan_library(str(config.folders.styles))
    except NstdError:
        return  # said of the folder already
    usable = [name for name, style in styles.items() if style.problem is None]
    for style in styles.values():
        if style.problem is not None:
            sentence = f"The style {shown(style.name)} cannot be used: {style.problem}."
            yield note("styles", sentence, "The other styles are not affected.")
    default = config.inbox.default_style
    if default is not None and default not in usable:
        yield bad(
            "styles",
            f"inbox.default_style is {default}, which is no usable style of the library.",
            f"Put {default}.jpg into {config.folders.styles}, or name another.",
        )
    if usable:
        yield good("styles", f"{counted(len(usable), 'style')}: {', '.join(sorted(usable)[:12])}.")
    else:
        yield note(
            "styles",
            f"There are no styles in {config.folders.styles} yet.",
            "Put a painting there: its name becomes an inbox folder. Pairs work without.",
        )


def _weights(config: Config) -> Iterator[Finding]:
    try:
        found = weights.find(config.model.weights, may_download=False)
    except NstdError as error:
        yield from_error("weights", error)
        return
    yield good("weights", f"{found.name}: {found.path} (sha256 {found.sha256[:12]}...).")


def _device(config: Config, *, quick: bool) -> Iterator[Finding]:
    try:
        names = device.resolve(config.model.device)
    except NstdError as error:
        yield from_error("device", error)
        return
    if quick:
        yield good("device", f"{', '.join(names)} (not tried).")
        return
    for name in names:
        yield _tried(name)


def _tried(name: str) -> Finding:
    """Open the device in a process of its own: TensorFlow takes it along, and may crash."""
    env = {**os.environ, **device.environment(name), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _PROBE, name]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return bad("device", f"{name} does not answer.", "See `nvidia-smi`.", DeviceError.exit_code)
    if done.returncode in (0, _REFUSED):
        words, remedy = json.loads(done.stdout.splitlines()[-1])
        if done.returncode == 0:
            return good("device", f"{name} works ({words}).")
        return bad("device", words, remedy, DeviceError.exit_code)
    last = (done.stderr.strip().splitlines() or ["TensorFlow could not be loaded."])[-1]
    return bad("device", f"{name} cannot be used: {last}", "Install nstd anew.", 69)


def _http(config: Config) -> Iterator[Finding]:
    if not config.http.enabled:
        yield note("http", "No port is opened.", "Metrics and status page are off: http.enabled.")
        return
    try:
        host, port = split(config.http.listen)
    except NstdError as error:
        yield from_error("http", error)
        return
    if not _is_local(host):
        yield note(
            "http",
            f"{config.http.listen} can be reached from other machines, without a password.",
            "Listen on 127.0.0.1, or keep it behind a firewall or a proxy that asks.",
        )
    if lock.holder(str(config.folders.state)) is not None:
        with contextlib.suppress(OSError):
            bound = (config.folders.state / LISTEN_FILE).read_text(encoding="ascii").strip()
            yield good("http", f"The daemon listens on {bound}.")
        return
    if why := _refused(host, port):
        yield bad("http", *why)
    else:
        yield good("http", f"{config.http.listen} is free.")


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(host: str, port: int) -> tuple[str, str] | None:
    """Return why nobody can listen there, and what to do; None when it works."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = f"Port {port} is in use by another program."
                return what, "Stop it, or set http.listen to another port."
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                return f"This machine has no address {host}.", "Set http.listen to one that it has."
            what = f"nstd cannot listen on {host}, port {port}: {error.strerror}."
            return what, "Set http.listen to another ADDRESS:PORT; ports below 1024 are root's."
    return None


def _machine() -> Iterator[Finding]:
    with contextlib.suppress(OSError, ValueError), open(WATCHES, encoding="ascii") as file:
        if int(file.read()) < 1024:
            yield note(
                "machine",
                "The kernel allows very few inotify watches.",
                "New files are found by scanning; raise fs.inotify.max_user_watches.",
            )
    if remedy := unreadable_remedy("photo.heic"):
        yield note("machine", "Photographs in HEIF (iPhones) cannot be read.", remedy)
