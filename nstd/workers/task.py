"""One job inside a worker: its folder in, picture and report out.

The only importer of ``engine.stylizer``, and only when an engine is built: whoever imports this
module does not load TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nstd.engine.progress import Listener, StepReport
from nstd.errors import (
    CancelledError,
    ConfigError,
    DeviceError,
    MemoryExhaustedError,
    NstdError,
)
from nstd.jobs import publish
from nstd.photo import encode
from nstd.workers import standin
from nstd.workers.executor import (
    Event,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobNote,
    JobProgress,
    JobStage,
    JobStarted,
    PreviewReady,
    Task,
)
from nstd.workers.jobfolder import request_of
from nstd.workers.keeper import Keeper
from nstd.workers.painting import Painter, Painting, PaintRequest, Source, Watch, paint
from nstd.workers.wire import RESUMED, Sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from nstd.engine.progress import Checkpoint, Image
    from nstd.workers.decoder import Decoder
    from nstd.workers.settings import PaintSettings, WorkerSettings

__all__ = [
    "Control", "PaintRequest", "Painter", "Painting", "Source", "Watch",
    "as_nstd_error", "build_engine", "paint", "pixels_together", "request_of", "run_task",
]  # fmt: skip

RESULT = "result"
REPORT = "report.json"
REPORTS_PER_S = 4


def build_engine(settings: WorkerSettings, device: str, *, may_download: bool = False) -> Painter:
    """Load the network onto ``device``; WeightsError or DeviceError when that cannot be.

    ``NSTD_ENGINE=standin`` gives the stand-in of the tests, which every report names.
    """
    wish = os.environ.get(standin.ENGINE_VARIABLE, "")
    if wish == "standin":
        return standin.Standin(device)
    if wish:
        raise ConfigError(
            f"{standin.ENGINE_VARIABLE} asks for an engine {wish!r} that does not exist.",
            "Remove it from the environment; it is for tests.",
        )
    from nstd.engine import device as devices  # noqa: PLC0415
    from nstd.engine import weights  # noqa: PLC0415

    found = weights.find(settings.weights, may_download=may_download)
    opened = devices.open_device(device)  # loads TensorFlow: seconds
    from nstd.engine import stylizer  # noqa: PLC0415

    return stylizer.Stylizer(
        found,
        device=opened,
        memory_bytes=settings.memory_bytes,
        cache_dir=settings.cache_dir,
    )


def pixels_together(painter: Painter) -> int:
    """Return how many pixels a batch may have in the engine's memory; 0 where it does not say."""
    ask = getattr(painter, "pixels_together", None)
    return 0 if ask is None else int(ask())


@dataclass
class Control:
    """Flags that the child's reader sets and the job looks at between two steps."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def interrupted(self) -> bool:
        """Tell whether the job is to end now, for either reason."""
        return self.cancelled.is_set() or self.stopping.is_set()


@dataclass(frozen=True)
class Post:
    """Where one job's events go; ``hint`` may drop what it is given when nobody reads."""

    worker: str
    device: str
    send: Callable[[Event], None]
    hint: Callable[[Event], None]


def run_task(
    task: Task,
    painter: Painter,
    settings: PaintSettings,
    *,
    post: Post,
    control: Control,
    decoder: Decoder | None = None,
) -> NstdError | None:
    """Paint one job and report how it ended; return the error that ended it, None if none did."""
    job_id = task.job_id
    post.send(JobStarted(job_id, post.worker, post.device))
    try:
        finished = _finish(task, painter, settings, post, control, decoder)
    except CancelledError as error:
        if control.stopping.is_set() and not control.cancelled.is_set():
            post.send(JobHandedBack(job_id))
            return None
        return _failed(job_id, error, post)
    except Exception as error:  # noqa: BLE001 - one bad job never ends the worker
        return _failed(job_id, as_nstd_error(error, job_id), post)
    post.send(finished)
    return None


def as_nstd_error(error: BaseException, job_id: str = "") -> NstdError:
    """Return ``error`` as one of ours; an unforeseen one goes whole to the log only."""
    if isinstance(error, NstdError):
        return error
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return MemoryExhaustedError(
            "There was not enough memory for this picture.",
            "Ask for a smaller size, or give nstd more memory.",
        )
    if type(error).__module__.startswith("tensorflow") and name in _DEVICE_ERRORS:
        return DeviceError("The device failed while it painted.", "See the log and `nvidia-smi`.")
    print(f"job {job_id}: unforeseen {name}", file=sys.stderr)  # noqa: T201 - the child's log
    traceback.print_exception(error, file=sys.stderr)
    return NstdError(
        f"Painting failed for a reason that nstd did not foresee ({name}).",
        "The daemon's log has the details; `nstd retry` tries again.",
    )


_DEVICE_ERRORS = {"InternalError", "UnavailableError", "UnknownError", "AbortedError"}
"""How TensorFlow calls a dead or wedged GPU."""


def _failed(job_id: str, error: NstdError, post: Post) -> NstdError:
    post.send(JobFailed(job_id, error.reason, error.message, error.remedy, error.retry))
    return error


def _finish(  # noqa: PLR0917 - private, and called once
    task: Task,
    painter: Painter,
    settings: PaintSettings,
    post: Post,
    control: Control,
    decoder: Decoder | None,
) -> JobFinished:
    job_id, job_dir = task.job_id, task.job_dir
    publish.sweep(job_dir)
    if control.interrupted():
        raise CancelledError("The job was cancelled.")
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        post.send(JobNote(job_id, text))

    def resume(job_hash: str) -> Checkpoint | None:
        checkpoint = keeper.load(job_hash) if task.resume else None
        if checkpoint is not None:
            note("Goes on from its checkpoint.")
            post.send(Sign(RESUMED, job_id))
        return checkpoint

    hits, misses = _cache_counts(painter)
    keeper = Keeper(job_dir, urgent=control.stopping.is_set, note=note)
    reporter = _Reporter(job_id, post)
    painting = paint(
        request_of(job_id, job_dir, task.spec),
        painter,
        listener=_listener(keeper, reporter, settings, control),
        settings=settings,
        watch=Watch(
            begin=lambda phase: post.send(Sign(phase, job_id)),
            stage=lambda stage, seconds: _ended(job_id, stage, seconds, reporter, post),
            resume=resume,
            notes=notes,
        ),
        decoder=decoder,
    )
    now_hits, now_misses = _cache_counts(painter)
    cache = {"hits": now_hits - hits, "misses": now_misses - misses}
    return _write(job_id, job_dir, painting, {"style_cache": cache})


def _cache_counts(painter: Painter) -> tuple[int, int]:
    """Return how often the engine has found a style's statistics, and how often it has not."""
    return getattr(painter, "cache_hits", 0), getattr(painter, "cache_misses", 0)


def _listener(
    keeper: Keeper, reporter: _Reporter, settings: PaintSettings, control: Control
) -> Listener:
    def preview(pixels: Image) -> None:
        path = keeper.preview(pixels)
        if path is not None:
            reporter.preview(path)

    return Listener(
        report=reporter.report,
        checkpoint=keeper.checkpoint,
        preview=preview if settings.previews else None,
        cancelled=control.interrupted,
        checkpoint_s=settings.checkpoint_s,
        preview_s=settings.preview_s,
        report_s=1 / REPORTS_PER_S,
    )


def _ended(job_id: str, stage: str, seconds: float, reporter: _Reporter, post: Post) -> None:
    if stage == "optimize":
        reporter.flush()
    post.send(JobStage(job_id, stage, seconds))


class _Reporter:
    """Passes reports on, four a second at most, and never loses the first step or the last.

    The first step counts: a job that ends its worker from then on has only itself to blame.
    """

    def __init__(self, job_id: str, post: Post) -> None:
        self._job_id, self._post = job_id, post
        self._sent_at = float("-inf")
        self._held: StepReport | None = None
        self._first: int | None = None
        self._stepped = False

    def report(self, report: StepReport) -> None:
        now = time.monotonic()
        self._first = report.step if self._first is None else self._first
        first_step = not self._stepped and report.step > self._first
        self._stepped = self._stepped or first_step
        # A little slack: the engine counts the same quarter second on a clock of its own.
        if now - self._sent_at < 0.9 / REPORTS_PER_S and not first_step:
            self._held = report
            return
        self._sent_at, self._held = now, None
        self._post.hint(JobProgress(self._job_id, self._post.worker, report))

    def preview(self, path: str) -> None:
        self._post.hint(PreviewReady(self._job_id, path))

    def flush(self) -> None:
        if self._held is not None:
            self._post.send(JobProgress(self._job_id, self._post.worker, self._held))
            self._held = None


def _write(
    job_id: str, job_dir: str, painting: Painting, more_facts: dict[str, Any]
) -> JobFinished:
    """Make picture and report durable in ``result/``, the picture last."""
    folder = os.path.join(job_dir, RESULT)
    with publish.guard(RESULT):
        publish.make_folder(folder)
    publish.sweep(folder)
    report = json.dumps(painting.report, indent=2, ensure_ascii=False, allow_nan=False)
    data = report.encode("utf-8", "backslashreplace")
    publish.write_atomic(folder, REPORT, data, replace=True)
    picture = f"picture.{encode.extension(painting.format)}"
    publish.write_atomic(folder, picture, painting.data, replace=True)
    result = painting.result
    facts: dict[str, Any] = {
        "format": painting.format,
        "width": painting.width,
        "height": painting.height,
        "losses": result.losses.to_dict(),
        "steps": result.steps,
        "seconds": dict(result.seconds),
        **more_facts,
    }
    return JobFinished(job_id, os.path.join(folder, picture), os.path.join(folder, REPORT), facts)
