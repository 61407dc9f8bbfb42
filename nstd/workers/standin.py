"""A small deterministic engine without TensorFlow, for tests of everything around the engine.

``NSTD_ENGINE=standin`` selects it in workers, and every report then names it. It mixes colours
instead of painting; what matters is that it steps, reports, checkpoints, resumes bit for bit and
can be cancelled as the real one. ``NSTD_STANDIN`` holds faults to act out, as ``key=value`` words:

``step_s=0.05``      seconds per step                ``start_s=1``   seconds until it is ready
``start=crash``      die while starting              ``start=weights|gpu``   fail to start in words
``at=3``             the step at which ``do`` happens, counted over the whole job
``do=crash|kill|exit|stall|hog|oom|gpu|nan|bug``     what happens there
``hog_bytes=...``    how much memory ``do=hog`` takes  ``once=/path``  only if it creates that file
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from nstd.engine.progress import Checkpoint, Losses, Result, StepReport
from nstd.errors import (
    CancelledError,
    DeviceError,
    DivergedError,
    InputError,
    MemoryExhaustedError,
    WeightsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nstd.engine.params import StyleParams
    from nstd.engine.progress import Image, Listener, StyleImage

ENGINE_VARIABLE = "NSTD_ENGINE"
FAULTS_VARIABLE = "NSTD_STANDIN"
FOREVER_S = 3600.0
SHA256 = hashlib.sha256(b"nstd stand-in").hexdigest()


@dataclass(frozen=True)
class Faults:
    """What the stand-in acts out; the default is to work well and at full speed."""

    step_s: float = 0.0
    start_s: float = 0.0
    start: str = ""
    at: int = -1
    do: str = ""
    hog_bytes: int = 512 * 2**20
    once: str = ""

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Read ``key=value`` words; ValueError for a key that does not exist."""
        faults = cls()
        for word in text.split():
            key, _, value = word.partition("=")
            if not hasattr(faults, key):
                raise ValueError(f"{FAULTS_VARIABLE} knows no {key!r}")
            faults = replace(faults, **{key: type(getattr(faults, key))(value)})
        return faults


class Standin:
    """Looks to a worker like ``Stylizer``."""

    def __init__(self, device: str = "cpu", faults: Faults | None = None) -> None:
        self._device = device
        self._faults = Faults.parse(os.environ.get(FAULTS_VARIABLE, ""))
        self._faults = self._faults if faults is None else faults
        self._start()

    def facts(self) -> dict[str, Any]:
        """Return what the report says of the engine: plainly that this is not it."""
        return {
            "device": self._device,
            "engine": "standin",
            "weights": {"name": "standin", "sha256": SHA256},
        }

    def stylize(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        *,
        listener: Listener,
        resume: Checkpoint | None = None,
        job_hash: str = "",
    ) -> Result:
        """Mix the content towards the styles' mean colour, with all the manners of a real run."""
        run = _Run(content, styles, params, job_hash)
        if resume is not None:
            run.restore(resume)
        clock = _Clock(listener, run)
        while run.step < params.iterations:
            if listener.cancelled():
                clock.checkpoint()
                raise CancelledError("The job was cancelled.")
            _act_out(self._faults, run.step)
            run.advance()
            time.sleep(self._faults.step_s)
            clock.tick()
        return run.result()

    def _start(self) -> None:
        time.sleep(self._faults.start_s)
        if self._faults.start and _may(self._faults.once):
            if self._faults.start == "weights":
                raise WeightsError("The stand-in has no weights.", "Take NSTD_STANDIN away.")
            if self._faults.start == "gpu":
                raise DeviceError("The stand-in sees no GPU.", "Take NSTD_STANDIN away.")
            os.abort()


class _Run:
    """The state of one job: two levels, an image, and a momentum that a resume must keep."""

    def __init__(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        job_hash: str,
    ) -> None:
        self.params, self.job_hash = params, job_hash
        self.height, self.width = content.shape[:2]
        self._content = content
        weights = np.array([style.weight for style in styles], np.float64)
        means = np.array([style.pixels.mean(axis=(0, 1)) for style in styles]) / 255.0
        self._colour = (means * (weights / weights.sum())[:, None]).sum(axis=0).astype(np.float32)
        self._began, self._earlier_s = time.monotonic(), 0.0
        self.step, self.level, self.pixel_steps = 0, 0, 0
        self.history: list[tuple[int, Losses]] = []
        self._enter_level()

    def _shape(self) -> tuple[int, int]:
        return (
            (self.height, self.width) if self.level else (-(-self.height // 2), -(-self.width // 2))
        )

    def _enter_level(self) -> None:
        h, w = self._shape()
        picture = Pillow.fromarray(self._content).resize((w, h), Pillow.Resampling.BOX)
        self._target = np.asarray(picture, np.float32) / 255.0
        self.image = self._target.copy()
        self.momentum: NDArray[np.float32] = np.zeros_like(self.image)

    def advance(self) -> None:
        """Make one step; the last half of the steps belongs to the full size."""
        if self.level == 0 and self.step >= self.params.iterations // 2:
            self.level = 1
            self._enter_level()
        noise = np.random.default_rng((self.params.seed, self.step)).random(3, np.float32) - 0.5
        goal = 0.5 * self._target + 0.5 * self._colour + 0.01 * noise
        self.momentum = np.float32(0.7) * self.momentum + (goal - self.image).astype(np.float32)
        self.image = self.image + np.float32(0.2) * self.momentum
        self.step += 1
        self.pixel_steps += self.image.shape[0] * self.image.shape[1]
        self.history.append((self.step, self._losses()))

    def _losses(self) -> Losses:
        content = float(np.mean((self.image - self._target) ** 2))
        style = float(np.mean((self.image - self._colour) ** 2))
        return Losses(content + style, content, style, 0.0)

    def seconds(self) -> float:
        return self._earlier_s + time.monotonic() - self._began

    def report(self) -> StepReport:
        steps, seconds = self.params.iterations, self.seconds()
        eta_s = seconds / self.step * (steps - self.step) if self.step else None
        losses = self.history[-1][1] if self.history else None
        h, w = self.image.shape[:2]
        return StepReport(
            self.step, steps, self.level, 2, h, w, losses, seconds, eta_s, self.pixel_steps
        )

    def pixels(self) -> Image:
        picture = Pillow.fromarray(np.clip(self.image * 255 + 0.5, 0, 255).astype(np.uint8))
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Pillow.Resampling.BILINEAR)
        return np.asarray(picture)

    def checkpoint(self) -> Checkpoint:
        facts = {
            "step": self.step,
            "level": self.level,
            "pixel_steps": self.pixel_steps,
            "seconds": self.seconds(),
            "history": [[step, losses.to_dict()] for step, losses in self.history],
        }
        return Checkpoint(self.job_hash, facts, {"image": self.image, "momentum": self.momentum})

    def restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.job_hash != self.job_hash:
            raise InputError("The checkpoint belongs to another job.")
        facts = checkpoint.facts
        self.step, self.level = int(facts["step"]), int(facts["level"])
        self.pixel_steps, self._earlier_s = int(facts["pixel_steps"]), float(facts["seconds"])
        self._enter_level()
        self.history = [(int(step), Losses(**losses)) for step, losses in facts["history"]]
        self.image = checkpoint.arrays["image"]
        self.momentum = checkpoint.arrays["momentum"]

    def result(self) -> Result:
        plan: Mapping[str, Any] = {"engine": "standin", "tiles": None}
        last = self.history[-1][1] if self.history else self._losses()
        seconds = {"prepare": 0.0, "compile": 0.0, "optimize": self.seconds()}
        notes = ("Painted by the stand-in of the tests, not by a network.",)
        return Result(self.pixels(), last, self.history, self.step, seconds, plan, notes)


class _Clock:
    """Calls the listener back as often as it asked for."""

    def __init__(self, listener: Listener, run: _Run) -> None:
        self._listener, self._run = listener, run
        self._level, self._first = run.level, run.step
        self._last = dict.fromkeys(("report", "checkpoint", "preview"), time.monotonic())
        listener.report(run.report())

    def tick(self) -> None:
        """Look at the clock after a step."""
        edges = {self._first + 1, self._run.params.iterations}
        at_edge = self._run.level != self._level or self._run.step in edges
        self._level = self._run.level
        if self._due("report", self._listener.report_s) or at_edge:
            self._listener.report(self._run.report())
        if self._due("checkpoint", self._listener.checkpoint_s) or at_edge:
            self.checkpoint()
        if self._due("preview", self._listener.preview_s) and self._listener.preview is not None:
            self._listener.preview(self._run.pixels())

    def checkpoint(self) -> None:
        """Hand out a checkpoint now, if anybody wants it."""
        if self._listener.checkpoint is not None:
            self._listener.checkpoint(self._run.checkpoint())

    def _due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._last[what] < every_s:
            return False
        self._last[what] = now
        return True


def _may(once: str) -> bool:
    """Tell whether a fault is still to be acted out: ``once`` marks that it was."""
    if not once:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _hog(size: int) -> None:
    blocks = [np.ones(2**20, np.uint8) for _ in range(size // 2**20)]
    time.sleep(FOREVER_S)
    blocks.clear()


def _fail(error: Exception) -> None:
    raise error


def _act_out(faults: Faults, step: int) -> None:
    if step != faults.at or not faults.do or not _may(faults.once):
        return
    acts: dict[str, Callable[[], Any]] = {
        "crash": os.abort,
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "exit": lambda: sys.exit(1),
        "stall": lambda: time.sleep(FOREVER_S),
        "hog": lambda: _hog(faults.hog_bytes),
        "oom": lambda: _fail(MemoryExhaustedError("The stand-in's memory is exhausted.")),
        "gpu": lambda: _fail(DeviceError("The stand-in's GPU has died.")),
        "nan": lambda: _fail(DivergedError("The stand-in's loss is not a number.")),
        "bug": lambda: _fail(ZeroDivisionError("/srv/secret/path")),
    }
    acts[faults.do]()
