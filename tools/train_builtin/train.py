"""The training loop: from a seed to a file of features, stopped and resumed at will."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin import batches, cache, layout, tasks
from tools.train_builtin.network import COLOURS, Features, Kernels, whitened


@dataclass(frozen=True)
class Settings:
    """How the features are trained: everything follows from these numbers and the plan."""

    steps: int = 6000
    textures: int = 24
    scenes: int = 12
    replays: int = 2  # updates from one batch; each after the first sees it disturbed
    disturbance: float = 4 / 255
    noise: float = 0.04
    softened: int = 400  # steps after which disturbance and noise are half as strong
    peak: float = 2e-3
    warmup: int = 100
    cooldown: float = 0.22
    decay: float = 0.02
    pooling: str = "max"
    precision: str = "bfloat16"
    widths: tuple[int, ...] = layout.WIDTHS
    measured: int = 72  # textures, and as many scenes, that fit the start and the folding
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
        chosen, step = self.settings, tf.cast(step, tf.float32) / self.settings.replays
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
        start = self.blank() if begun else self.fitted()
        self.features = Features(start, settings.pooling)
        self.heads = tasks.Heads(plan.classes, plan.painters, settings.widths)
        self.optimizer = tf.keras.optimizers.AdamW(
            Rate(settings), weight_decay=settings.decay, beta_2=0.98, global_clipnorm=5.0
        )
        self.variables = [
            *self.features.trainable_variables,
            *self.heads.trainable_variables,
        ]
        self.optimizer.build(self.variables)
        self.kind = tf.as_dtype(settings.precision)
        self.done = tf.Variable(0, dtype=tf.int64, trainable=False)
        state = tf.train.Checkpoint(
            features=self.features, heads=self.heads, optimizer=self.optimizer, done=self.done
        )
        self.saver = tf.train.CheckpointManager(state, folder, max_to_keep=2)
        state.restore(self.saver.latest_checkpoint)
        self.step = tf.function(self.one_step, autograph=False)

    def blank(self) -> Kernels:
        """Return kernels of the right shapes, for a checkpoint to fill."""
        shapes = layout.layers(self.settings.widths)
        return {n: np.zeros((3, 3, i, o - COLOURS), np.float32) for n, i, o in shapes}

    def sample(self, number: int) -> Any:
        """Return crops that measure the network: textures, and scenes painted and clean."""
        count = self.settings.measured
        made = batches.batch(self.images, self.plan, number, count, count // 2)
        return batches.cut(batches.as_parts(made))["pictures"]

    def fitted(self) -> Kernels:
        """Return the kernels to start from, fitted to some of the images."""
        chosen = self.settings
        return whitened(
            self.sample(10**6),
            np.random.default_rng([self.plan.seed, 5]),
            chosen.pooling,
            patches=chosen.patches,
            widths=chosen.widths,
        )

    def one_step(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Learn from one batch, again and again; return the last losses by task.

        From the second time on the batch is disturbed the way that confuses the features most:
        each backward pass gives, besides the parameters' gradient, the picture's for nothing
        (Shafahi et al. 2019, "Adversarial training for free"). Features that cannot be fooled by
        a trace of noise cannot be satisfied with it either: to change what they see, the painter
        has to paint.
        """
        chosen = self.settings
        late = self.optimizer.iterations >= chosen.softened * chosen.replays
        share = tf.where(late, 0.5, 1.0)
        crops = batches.cut(parts, chosen.noise * share)
        reach = chosen.disturbance * share
        pictures = crops["pictures"]
        moved = tf.random.stateless_uniform(tf.shape(pictures), parts["seed"], -reach, reach)
        parted: dict[str, Any] = {}
        for _ in range(chosen.replays):
            seen = tf.clip_by_value(pictures + moved, 0.0, 1.0)
            with tf.GradientTape() as tape:
                tape.watch(seen)
                found, _ = self.features(seen, self.kind)
                parted = tasks.losses(self.heads, found, crops)
                total = tf.add_n([v for name, v in parted.items() if name != "accuracy"])
            slopes, up = tape.gradient(total, (self.variables, seen))
            self.optimizer.apply_gradients(zip(slopes, self.variables, strict=True))
            moved = tf.clip_by_value(moved + 1.25 * reach * tf.sign(up), -reach, reach)
            parted = {"total": total, **parted}
        return parted

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
                parted = self.step(batches.as_parts(batch))
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
        return self.features.folded(self.sample(10**6 + 1))

    def export(self, path: str) -> str:
        """Write the file of the features; return its sha256."""
        card = {
            "name": "nstd built-in features",
            "learned_from": "images generated by tools/train_builtin, and nothing else",
            "pooling": self.settings.pooling,
            "use": layout.USE,
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
