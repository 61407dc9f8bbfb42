"""The training loop: from a seed to a file of features, stopped and resumed at will."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin import batches, cache, layout, tasks
from tools.train_builtin.network import Features, whitened


@dataclass(frozen=True)
class Settings:
    """How the features are trained: everything follows from these numbers and the plan."""

    steps: int = 1350
    textures: int = 24
    scenes: int = 12
    peak: float = 2e-3
    warmup: int = 100
    cooldown: float = 0.22
    decay: float = 0.02
    pooling: str = "max"
    whitening: float = 1.0
    widths: tuple[int, ...] = layout.WIDTHS
    measured: int = 96  # textures, and half as many scenes, that fit the start
    patches: int = 30_000
    checkpoint_s: float = 90.0


class Rate(tf.keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Up for ``warmup`` steps, level, and straight down to zero over the last ``cooldown`` share.

    Level until late, so that a run can be given more or fewer steps while it goes.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of ``step``."""
        chosen, step = self.settings, tf.cast(step, tf.float32)
        rising = (step + 1) / chosen.warmup
        falling = (chosen.steps - step) / (chosen.cooldown * chosen.steps)
        return chosen.peak * tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return what the schedule is made of."""
        return asdict(self.settings)


class Training:
    """Features, heads and optimizer of one run, with their checkpoint in ``folder``."""

    def __init__(
        self, images: cache.Images, plan: cache.Plan, settings: Settings, folder: str
    ) -> None:
        self.images, self.plan, self.settings = images, plan, settings
        tf.keras.utils.set_random_seed(plan.seed)
        begun = tf.train.latest_checkpoint(folder) is not None
        start = layout.random_weights(0, settings.widths) if begun else self.fitted()
        self.features = Features(start, settings.pooling)
        self.heads = tasks.Heads(plan.classes, settings.widths)
        self.optimizer = tf.keras.optimizers.AdamW(
            Rate(settings), weight_decay=settings.decay, beta_2=0.98, global_clipnorm=5.0
        )
        self.variables = [
            *self.features.trainable_variables,
            *self.heads.trainable_variables,
        ]
        self.optimizer.build(self.variables)
        self.done = tf.Variable(0, dtype=tf.int64, trainable=False)
        state = tf.train.Checkpoint(
            features=self.features, heads=self.heads, optimizer=self.optimizer, done=self.done
        )
        self.saver = tf.train.CheckpointManager(state, folder, max_to_keep=2)
        state.restore(self.saver.latest_checkpoint)
        self.step = tf.function(self.one_step, autograph=False)

    def fitted(self) -> layout.Weights:
        """Return the weights to start from, fitted to some of the images."""
        chosen, count = self.settings, self.settings.measured
        first = batches.batch(self.images, self.plan, 10**6, count, count // 2)
        return whitened(
            first.pictures,
            np.random.default_rng([self.plan.seed, 5]),
            chosen.pooling,
            power=chosen.whitening,
            patches=chosen.patches,
            widths=chosen.widths,
        )

    def one_step(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Learn from one batch; return the losses by task."""
        with tf.GradientTape() as tape:
            found, _ = self.features(parts["pictures"])
            parted = tasks.losses(self.heads, found, parts)
            total = tf.add_n([value for name, value in parted.items() if name != "accuracy"])
        slopes = tape.gradient(total, self.variables)
        self.optimizer.apply_gradients(zip(slopes, self.variables, strict=True))
        return {"total": total, **parted}

    def run(self, limit: int | None = None, say: Any = print) -> int:
        """Train to the end (or for ``limit`` steps more); return the steps done so far."""
        first = int(self.done.numpy())
        last = min(self.settings.steps, first + limit) if limit else self.settings.steps
        began = saved = time.monotonic()
        sizes = self.settings.textures, self.settings.scenes
        try:
            for step, batch in enumerate(
                batches.ahead(self.images, self.plan, range(first, last), *sizes), first + 1
            ):
                parted = self.step(tasks.as_parts(batch))
                self.done.assign(step)
                if step % 50 == 0 or step == last:
                    pace = (time.monotonic() - began) / (step - first)
                    shown = " ".join(f"{name} {float(v):.3f}" for name, v in parted.items())
                    say(f"step {step}/{self.settings.steps} {pace:.2f} s/step {shown}")
                if time.monotonic() - saved > self.settings.checkpoint_s:
                    self.saver.save()
                    saved = time.monotonic()
        finally:
            self.saver.save()
        return int(self.done.numpy())

    def weights(self) -> layout.Weights:
        """Return the trained convolutions, normalisation folded in."""
        count = self.settings.measured
        last = batches.batch(self.images, self.plan, 10**6 + 1, count, count)
        return self.features.folded(last.pictures)

    def export(self, path: str) -> str:
        """Write the file of the features; return its sha256."""
        card = {
            "name": "nstd built-in features",
            "learned_from": "images generated by tools/train_builtin, and nothing else",
            "pooling": self.settings.pooling,
            "trained_to": "block5_conv4",
            "plan": asdict(self.plan),
            "training": {**asdict(self.settings), "steps_done": int(self.done.numpy())},
            "tensorflow": tf.__version__,
        }
        return layout.save(path, self.weights(), card)


def threads(count: int) -> None:
    """Use ``count`` processor cores: fixed, since the order of sums depends on it."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
