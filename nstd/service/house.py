"""What the parts of the loop share: the layers below, what is paused, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nstd.errors import NoSpaceError, NstdError, StorageError
from nstd.jobs.ledger import Ledger
from nstd.jobs.spool import Spool
from nstd.service.config import Config
from nstd.service.logs import logger
from nstd.service.metrics import Metrics
from nstd.service.mounts import Mounts
from nstd.service.outbox import Outbox
from nstd.service.retries import RetryRules
from nstd.workers.executor import Executor


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong."""

    label: str
    """Of the metric ``nstd_paused``."""
    words: str
    blocks: bool


@dataclass
class Pauses:
    """What is wrong, and whether the queue rests for it; it moves again when that is gone."""

    causes: dict[str, Cause] = field(default_factory=dict)

    def set(self, what: str, label: str, words: str, *, blocks: bool = True) -> None:
        """Note that something is wrong."""
        if what not in self.causes:
            text = "The queue pauses." if blocks else "Something does not work yet."
            logger().warning(text, reason=words)
        self.causes[what] = Cause(label, words, blocks)

    def note(self, what: str, error: NstdError) -> None:
        """Note that a disk refused, which is a reason to wait."""
        label = "no_space" if isinstance(error, NoSpaceError) else "io"
        self.set(what, label, str(error))

    def clear(self, what: str) -> None:
        """Note that it is well again."""
        cause = self.causes.pop(what, None)
        if cause is not None and cause.blocks and not self:
            logger().info("The queue goes on.")

    def __bool__(self) -> bool:
        return self.but_for("")

    def but_for(self, what: str) -> bool:
        """Whether the queue rests for anything else than ``what``."""
        return any(cause.blocks for name, cause in self.causes.items() if name != what)

    @property
    def words(self) -> tuple[str, ...]:
        """The sentences, for the status; each once."""
        return tuple(dict.fromkeys(cause.words for cause in self.causes.values()))

    @property
    def label(self) -> str | None:
        """The first cause for which the queue rests, for the metric."""
        return next((cause.label for cause in self.causes.values() if cause.blocks), None)


@dataclass
class House:
    """Everything that is wired together, for the parts of the loop."""

    config: Config
    ledger: Ledger
    spool: Spool
    outbox: Outbox
    executor: Executor
    metrics: Metrics
    mounts: Mounts
    now: Callable[[], float]
    pauses: Pauses = field(default_factory=Pauses)

    @property
    def retries(self) -> RetryRules:
        """The rules of the configuration as it stands."""
        worker = self.config.worker
        return RetryRules(
            max_attempts=worker.max_attempts,
            retry_s=worker.retry_s,
            retry_max_s=worker.retry_max_s,
            max_worker_deaths=worker.max_worker_deaths,
            max_daemon_deaths=worker.max_daemon_deaths,
        )

    def require(self, *names: str) -> None:
        """Raise StorageError where the file system of one of these folders is not mounted."""
        folders = self.config.folders.by_name()
        for name in names:
            if missing := self.mounts.missing(str(folders[name])):
                raise StorageError(missing)
