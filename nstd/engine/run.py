"""One picture on its way through the pyramid: steps, reports, checkpoints, the guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nstd.engine.optimizers import LBFGS, Adam, Common, start
from nstd.engine.palette import recoloured
from nstd.engine.progress import (
    Checkpoint,
    Image,
    Listener,
    Losses,
    Result,
    StepReport,
    StyleImage,
)
from nstd.engine.targets import Reader, TargetMaker, by_region, resize, shares_of, to_pixels
from nstd.engine.tiling import alive
from nstd.errors import CancelledError, DivergedError

if TYPE_CHECKING:
    from nstd.engine.loop import Memory, StepLoop
    from nstd.engine.params import StyleParams
    from nstd.engine.pyramid import PyramidLevel
    from nstd.engine.turns import Seat

_LOOK_EVERY = 10
"""Steps between two looks at the plateau; chunks end there, so results never depend on timing."""
_ROLLBACKS = 6
_HISTORY = 500
_STAGES = ("prepare", "compile", "optimize")


@dataclass(frozen=True)
class Backend:
    """How one level is computed: what measures, what steps."""

    reader: Reader
    optimizer: Adam | LBFGS
    loop: StepLoop
    most: int = 1
    """Pictures of the level's size that may step in one batch."""


@dataclass
class Run:
    """The state of one optimization; ``paint`` runs it to its end."""

    content: Image
    styles: Sequence[StyleImage]
    params: StyleParams
    levels: Sequence[PyramidLevel]
    targets: TargetMaker
    backends: Callable[[PyramidLevel], Backend]
    seat: Seat
    listener: Listener
    clock: Callable[[], float]
    job_hash: str
    smaller: int = 0
    """How often memory ran out before in spite of the plan."""
    history: list[tuple[int, Losses]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))
    level_index: int = 0
    level_losses: list[float] = field(default_factory=list)
    steps_run: list[int] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    rollbacks: int = 0
    pixel_steps: int = 0
    _stepped: bool = False
    """Whether the first steps were reported, for which everybody waits."""
    _per_pixel: float = 0.0
    """Seconds a step and pixel, a moving estimate: sizes chunks and the ETA, never the result."""

    def paint(self, resume: Checkpoint | None) -> Result:
        """Optimize every level and return the picture."""
        self._began = self._reported = self._saved = self._previewed = self.clock()
        token = alive.set(self.sign_of_life)
        try:
            common, memory = self._restore(resume) if resume else self._fresh()
            while True:
                level = self.levels[self.level_index]
                common, memory = self._paint_level(level, common, memory)
                if self.level_index + 1 == len(self.levels):
                    return self._result(common)
                common, memory = self._next_level(common, memory)
        finally:
            alive.reset(token)

    # --- levels ------------------------------------------------------------------------------

    def _fresh(self) -> tuple[Common, Memory]:
        level = self.levels[0]
        image = self._first_image(level)
        return self._start(image), self.backends(level).optimizer.init(image)

    def _start(self, image: tf.Tensor, scale: float = 1.0, step: int = 0) -> Common:
        return start(image, scale, step, averaged=bool(self.params.average))

    def _first_image(self, level: PyramidLevel) -> tf.Tensor:
        size = (level.height, level.width)
        if self.params.init == "content":
            image = resize(self.content, *size)
            return self._recoloured(image) if self.params.recolour else image
        if self.params.init == "style":
            return resize(self.styles[0].pixels, *size)
        noise = np.random.default_rng(self.params.seed).random((1, *size, 3), np.float32)
        return tf.constant(noise)

    def _recoloured(self, image: tf.Tensor) -> tf.Tensor:
        regions = by_region(self.styles)
        shares = shares_of(regions, image.shape[1], image.shape[2])
        return tf.constant(recoloured(image.numpy(), regions, [each.numpy() for each in shares]))

    def _next_level(self, common: Common, memory: Memory) -> tuple[Common, Memory]:
        before = self.levels[self.level_index]
        self.level_index += 1
        after = self.levels[self.level_index]

        def grow(images: tf.Tensor) -> tf.Tensor:
            return tf.image.resize(images, (after.height, after.width), "bicubic")

        image = grow(self._outcome(common))
        optimizer = self.backends(after).optimizer
        memory = optimizer.carry(memory, grow, after.pixels / before.pixels)
        self.level_losses = []
        return self._start(image, _one(common.scale)), memory

    def _outcome(self, common: Common) -> tf.Tensor:
        """Return the image that a level hands on: the last, the best or the averaged one."""
        if self.params.keep == "best":
            return common.best
        taken = _one(common.step)
        if self.params.keep == "average" and self.params.average and taken:
            return common.average / (1.0 - self.params.average**taken)
        return common.image

    def _paint_level(
        self, level: PyramidLevel, common: Common, memory: Memory
    ) -> tuple[Common, Memory]:
        started = self.clock()
        with self.seat.alone():
            backend = self.backends(level)
            self.sign_of_life()
            content = resize(self.content, level.height, level.width)
            targets = self.targets.build(content, level, backend.reader)
            del content  # an image of float32 for as long as the level lasts
            prepared = self.clock()
            backend.loop.prepare((common, memory, targets))
        self.seconds["prepare"] += prepared - started
        self.seconds["compile"] += self.clock() - prepared
        if len(self.steps_run) <= self.level_index:
            self.steps_run.append(0)
            self.tiles.append(backend.reader.tile)
        while not self._level_done(level, common):
            common, memory = self._chunk(backend, common, memory, targets)
            self._tell(level, common, memory)
        return common, memory

    def _level_done(self, level: PyramidLevel, common: Common) -> bool:
        taken = _one(common.step)
        if taken >= level.steps:
            return True
        losses = self.level_losses
        if not self.params.plateau or taken % _LOOK_EVERY or len(losses) <= _LOOK_EVERY:
            return False
        last, before = min(losses[-_LOOK_EVERY:]), min(losses[:-_LOOK_EVERY])
        return before - last < self.params.plateau * before

    # --- steps -------------------------------------------------------------------------------

    def _chunk(
        self, backend: Backend, common: Common, memory: Memory, targets: Any
    ) -> tuple[Common, Memory]:
        level = self.levels[self.level_index]
        taken = _one(common.step)
        until = min(level.steps, taken + _LOOK_EVERY - taken % _LOOK_EVERY)
        predicted = self._per_pixel * level.pixels
        count = max(1, min(until - taken, int(0.5 / predicted) if predicted > 0 else 1))
        started = self.clock()
        common, memory, terms = self.seat.steps(
            backend.loop, (common, memory, targets), count, level=level.index, most=backend.most
        )
        rows = terms.numpy()  # (steps, 4, 1); waits for the device
        spent = self.clock() - started
        self.seconds["optimize"] += spent
        if len(rows):  # none: the device had no turn for this run yet
            self._per_pixel = spent / len(rows) / level.pixels
        healthy = _one(common.healthy)
        if not healthy:
            rows = rows[:-1]  # the loop stops at the step that went wrong
        for row in rows[..., 0]:
            self.history.append((sum(self.steps_run), Losses(*(float(value) for value in row))))
            self.steps_run[self.level_index] += 1
            self.level_losses.append(float(row[0]))
        self.pixel_steps += len(rows) * level.pixels
        return (common, memory) if healthy else self._roll_back(common, backend.optimizer)

    def _roll_back(self, common: Common, optimizer: Adam | LBFGS) -> tuple[Common, Memory]:
        """Go back to the level's best image with half the step and no memory of the curvature."""
        self.rollbacks += 1
        step = sum(self.steps_run)
        if self.rollbacks > _ROLLBACKS:
            raise DivergedError(
                f"The loss stayed without bounds after {_ROLLBACKS} roll backs (step {step}).",
                "Lower style_weight or learning_rate, or choose another optimizer.",
            )
        self.notes.append(f"Step {step}: the loss ran away; rolled back and halved the step.")
        best = tf.where(tf.math.is_finite(common.best), common.best, tf.zeros_like(common.best))
        taken = len(self.level_losses)
        fresh = self._start(best, _one(common.scale) / 2.0, taken)
        if self.params.average:  # as if it had been there all along
            fresh = fresh._replace(average=best * (1.0 - self.params.average**taken))
        return fresh, optimizer.init(best)

    # --- telling -----------------------------------------------------------------------------

    def _tell(self, level: PyramidLevel, common: Common, memory: Memory) -> None:
        now = self.clock()
        at_end = self._level_done(level, common)
        if now - self._reported >= self.listener.report_s or at_end or not self._stepped:
            self._reported, self._stepped = now, True
            self.listener.report(self._report(level, now))
        stopped = self.listener.cancelled()
        save = self.listener.checkpoint
        if save and (stopped or at_end or now - self._saved >= self.listener.checkpoint_s):
            save(self._checkpoint(common, memory))
            self._saved = self.clock()
        if stopped:
            raise CancelledError("The picture was stopped between two steps.")
        if self.listener.preview and now - self._previewed >= self.listener.preview_s:
            self.listener.preview(to_pixels(self._outcome(common)))
            self._previewed = self.clock()

    def sign_of_life(self) -> None:
        """Report, a few times a second at most, from inside a long step or before the first."""
        now = self.clock()
        if now - self._reported >= max(1.0, self.listener.report_s):
            self._reported = now
            level = self.levels[self.level_index]
            self.listener.report(replace(self._report(level, now), losses=None))

    def _report(self, level: PyramidLevel, now: float) -> StepReport:
        left = (level.steps - (self.steps_run[level.index :] or [0])[0]) * level.pixels
        left += sum(later.steps * later.pixels for later in self.levels[level.index + 1 :])
        return StepReport(
            step=sum(self.steps_run),
            steps=sum(each.steps for each in self.levels),
            level=level.index,
            levels=len(self.levels),
            height=level.height,
            width=level.width,
            losses=self.history[-1][1] if self.history else None,
            seconds=sum(self.seconds.values()) or now - self._began,
            eta_s=left * self._per_pixel if self._per_pixel else None,
            pixel_steps=self.pixel_steps,
            compile_s=self.seconds["compile"],
        )

    # --- checkpoints -------------------------------------------------------------------------

    def _checkpoint(self, common: Common, memory: Memory) -> Checkpoint:
        # views, not copies, of tensors that never change: at 4096 pixels each image is 160 MB
        arrays = {f"common.{name}": np.asarray(value) for name, value in common._asdict().items()}
        arrays |= {f"memory.{name}": np.asarray(value) for name, value in memory.items()}
        facts = {
            "level": self.level_index,
            "steps_run": list(self.steps_run),  # a copy: a checkpoint stays as it is
            "tiles": list(self.tiles),
            "level_losses": list(self.level_losses),
            "history": [(step, losses.to_dict()) for step, losses in self.history],
            "notes": list(self.notes),
            "rollbacks": self.rollbacks,
            "seconds": dict(self.seconds),
            "pixel_steps": self.pixel_steps,
            "batch": self.seat.largest,
            "seed": self.params.seed,
            "smaller": self.smaller,
        }
        return Checkpoint(self.job_hash, facts, arrays)

    def _restore(self, checkpoint: Checkpoint) -> tuple[Common, Memory]:
        facts = checkpoint.facts
        self.level_index = int(facts["level"])
        self.steps_run = list(facts["steps_run"])
        self.tiles = list(facts["tiles"])
        self.level_losses = list(facts["level_losses"])
        self.history = [(step, Losses(**losses)) for step, losses in facts["history"]]
        self.notes = list(facts["notes"])
        self.rollbacks = int(facts["rollbacks"])
        self.seconds |= facts["seconds"]
        self.pixel_steps = int(facts["pixel_steps"])
        self.seat.largest = max(self.seat.largest, int(facts.get("batch", 1)))
        # checkpoints of earlier versions hold scalars where there is one value an image now
        held = {
            name: tf.constant(np.atleast_1d(value)) for name, value in checkpoint.arrays.items()
        }
        common = Common(*(held.pop(f"common.{name}") for name in Common._fields))
        checkpoint.close()
        memory = {name.removeprefix("memory."): value for name, value in held.items()}
        optimizer = self.backends(self.levels[self.level_index]).optimizer
        return common, optimizer.adopt(memory)

    # --- the end -----------------------------------------------------------------------------

    def _result(self, common: Common) -> Result:
        thin = max(1, -(-len(self.history) // _HISTORY))
        finest = [losses for _, losses in self.history[-len(self.level_losses) :]]
        best = min(finest, key=lambda each: each.total)
        final = best if self.params.keep == "best" else finest[-1]
        image = self._outcome(common)
        if image.shape[1:3] != self.content.shape[:2]:  # too narrow for the network
            image = tf.image.resize(image, self.content.shape[:2], "area")
        return Result(
            pixels=to_pixels(image),
            losses=final,
            history=self.history[::thin],
            steps=sum(self.steps_run),
            seconds=self.seconds,
            plan={
                "precision": self.params.precision,
                "batch": self.seat.largest,
                "levels": [
                    {"height": lv.height, "width": lv.width, "steps": taken, "tile": tile}
                    for lv, taken, tile in zip(
                        self.levels, self.steps_run, self.tiles, strict=False
                    )
                ],
            },
            notes=self.notes,
        )


def _one(values: tf.Tensor) -> Any:
    """Return the value of a run's only image, from (1,)."""
    return values.numpy().item()
