"""Everything before the first tick: folders, weights, devices, ledger, recovery."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from nstd.engine import device, weights
from nstd.errors import ConfigError
from nstd.jobs import publish, recovery
from nstd.jobs.ledger import Ledger
from nstd.jobs.spool import Folders, Spool
from nstd.service import places, retries
from nstd.service.config import Config, check_folders
from nstd.service.house import House
from nstd.service.inbox import Inbox, Limits
from nstd.service.logs import job_context, logger
from nstd.service.metrics import Metrics
from nstd.service.mounts import Mounts
from nstd.service.outbox import Outbox
from nstd.service.painters import worker_settings
from nstd.service.settling import Patience
from nstd.service.status import LEDGER_FILE
from nstd.workers.executor import Executor
from nstd.workers.local import LocalExecutor
from nstd.workers.patience import Supervision

SPOOL, PREVIEWS = "spool", "previews"
MEMORY_SHARE = 0.8
ENGINE_VARIABLE = "NSTD_ENGINE"


def make_folders(config: Config) -> None:
    """Create what is missing; ConfigError for folders that cannot be used as they are."""
    for name, path in config.folders.by_name().items():
        try:
            publish.make_folder(str(path))
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise publish.storage_error(str(path), error) from error
            raise ConfigError(
                f"folders.{name} ({path}) cannot be made: {error.strerror}.",
                "Make it yourself, or name another place.",
            ) from error
    check_folders(config.folders)  # again: what did not exist could not be compared by inode
    kind = places.fstype(str(config.folders.state))
    if places.is_remote(kind):
        raise ConfigError(
            f"The state folder {config.folders.state} lies on a remote file system ({kind}).",
            "Put folders.state on a local disk: locks and the ledger need one.",
        )


def require_weights(config: Config, fetching: Callable[[str], None]) -> None:
    """See that the weights are here, fetching the ImageNet ones; WeightsError when they cannot be.

    The workers check every byte; here only that nobody waits for a worker that cannot start.
    """
    name = config.model.weights
    if os.environ.get(ENGINE_VARIABLE) or name == weights.BUILTIN:
        return
    if name == weights.IMAGENET:
        if not os.path.exists(weights.cached_path()):
            fetching(f"Fetching the ImageNet weights to {weights.cached_path()}.")
            weights.fetch()
    elif not os.path.isfile(os.path.expanduser(name)):
        weights.find(name)  # says in words what is missing


def find_devices(config: Config) -> list[str]:
    """Return the devices to paint on; DeviceError, ConfigError when there are none as asked."""
    if os.environ.get(ENGINE_VARIABLE):
        wish = config.model.device
        return list(wish) if isinstance(wish, tuple) else [device.CPU]
    return device.resolve(config.model.device)


def make_executor(config: Config) -> Executor:
    """Return the executor for the devices that the configuration asks for, not started yet."""
    return LocalExecutor(
        find_devices(config),
        worker_settings(config),
        supervision(config),
        log=lambda worker, line: logger().info("Worker says.", worker=worker, line=line),
    )


def supervision(config: Config) -> Supervision:
    """Return by which rules workers are looked after."""
    worker = config.worker
    memory = worker.max_memory_bytes
    return Supervision(
        start_timeout_s=worker.start_timeout_s,
        stall_s=worker.stall_s,
        max_jobs=worker.max_jobs,
        max_memory_bytes=_machine_memory() if memory == "auto" else memory,
    )


def _machine_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return int(MEMORY_SHARE * pages * page)
    return None


def make_house(config: Config, executor: Executor, now: Callable[[], float]) -> House:
    """Open the ledger and put the layers together."""
    folders = config.folders
    ledger = Ledger(str(folders.state / LEDGER_FILE), clock=now)
    places_of_jobs = Folders(
        spool=str(folders.state / SPOOL),
        inbox=str(folders.inbox),
        originals=str(folders.originals),
        failed=str(folders.failed),
    )
    return House(
        config=config,
        ledger=ledger,
        spool=Spool(
            places_of_jobs,
            ledger,
            keep_originals=config.outbox.keep_originals,
            retry=f"nstd retry {folders.option}".rstrip(),
            clock=now,
        ),
        outbox=Outbox(
            str(folders.outbox),
            notes=str(folders.state / PREVIEWS),
            previews=config.outbox.previews_folder,
        ),
        executor=executor,
        metrics=Metrics(),
        mounts=Mounts(str(folders.state)),
        now=now,
    )


def make_inbox(house: House) -> Inbox:
    """Return the inbox as configured."""
    path = str(house.config.folders.inbox)
    inbox = Inbox(
        path,
        taken=house.ledger.already_taken,
        recognises=house.spool.recognises,
        mount=house.mounts.of(path),
    )
    tune_inbox(inbox, house.config)
    return inbox


def tune_inbox(inbox: Inbox, config: Config) -> None:
    """Give the inbox the patience and the limits of the configuration."""
    inbox.patience = Patience(config.inbox.settle_s, config.inbox.incomplete_timeout_s)
    inbox.limits = Limits(max_depth=config.inbox.max_depth)


def recover(house: House) -> None:
    """Put right what a crash has left, before anything new begins."""
    for note in recovery.recover(house.spool):
        logger().warning("Recovered.", what=note)
    for job in house.ledger.daemon_died():
        with job_context(job.id):
            error = retries.after_daemon_death(job, house.retries)
            if error is None:
                logger().warning("The daemon died while it painted this; it goes on.")
            else:
                house.spool.set_aside(job.id, error)
                logger().error("Job failed.", error=str(error))
    _sweep(house)


def _sweep(house: House) -> None:
    """Remove half-written files: ours by their names."""
    delivering = house.ledger.jobs("delivering")
    house.outbox.sweep({job.spec.folder for job in delivering if job.spec is not None})
    publish.sweep(str(house.config.folders.state))
