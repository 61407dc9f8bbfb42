"""The daemon as a process: configuration, lock, signals, and another try where the disk is full."""

from __future__ import annotations

import time
from collections.abc import Callable

from nstd.errors import NoSpaceError, NstdError
from nstd.jobs import publish
from nstd.service import lease, logs, startup
from nstd.service.config import Config
from nstd.service.daemon import EXTEND_S, Daemon
from nstd.service.lock import StateLock
from nstd.service.logs import logger
from nstd.service.systemd import Notifier
from nstd.service.wake import Signals

ROOM_PAUSE_S = 5.0
"""Between two starts on a full disk."""


def run(load: Callable[[], Config], *, drain: bool = False) -> int:
    """Run a daemon in this process until it is told to stop; return the exit code.

    ``load`` reads the configuration, at the start and again at each SIGHUP. Raises the NstdError
    that refuses the start, with its exit code.
    """
    try:
        while True:
            try:
                return _run(load, drain=drain)
            except NoSpaceError as error:
                if drain:  # whoever asks for an end gets one
                    raise
                _wait_for_room(error)
    except NstdError as error:
        Notifier().failed(str(error))
        raise


def _wait_for_room(error: NoSpaceError) -> None:
    """Rest before the next start: a disk that was full when the daemon died is still full."""
    logger().warning("The start waits for room.", reason=str(error))
    notifier = Notifier()
    notifier.extend_timeout(EXTEND_S)
    notifier.status(str(error))
    time.sleep(ROOM_PAUSE_S)


def _run(load: Callable[[], Config], *, drain: bool) -> int:
    config = load()
    logs.configure(config.log.format, config.log.level)
    publish.arm_from_environment()
    lease.prepare()
    startup.make_folders(config)
    with StateLock(str(config.folders.state)):
        startup.require_weights(config, lambda text: logger().info(text))
        executor = startup.make_executor(config)
        daemon = Daemon(config, executor=executor, drain=drain, reload=load)
        logs.configure(config.log.format, config.log.level, count=daemon.house.metrics.logged)
        return _live(daemon)


def _live(daemon: Daemon) -> int:
    signals = Signals(daemon.flags, daemon.wake)
    signals.install()
    try:
        daemon.start()
        return daemon.run()
    finally:
        daemon.stop()
        signals.restore()
        daemon.wake.close()
