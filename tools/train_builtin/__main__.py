"""``python -m tools.train_builtin``: draw the images, train, and write the file of features."""

from __future__ import annotations

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin while TensorFlow's work

from tools.train_builtin import cache, train  # TensorFlow reads the line above

FOLDER = os.path.join(tempfile.gettempdir(), "nstd-builtin")


def main() -> None:
    """Read the options and train; running again resumes from the last checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_builtin", description=__doc__)
    parser.add_argument("--data", default=os.path.join(FOLDER, "images"), help="the drawn images")
    parser.add_argument("--run", default=os.path.join(FOLDER, "run"), help="the checkpoints")
    parser.add_argument("--out", default="nstd/engine/builtin.npz", help="the file to write")
    parser.add_argument("--seed", type=int, default=cache.Plan.seed)
    parser.add_argument("--scenes", type=int, default=cache.Plan.scenes)
    parser.add_argument("--steps", type=int, default=train.Settings.steps)
    parser.add_argument("--replays", type=int, default=train.Settings.replays)
    parser.add_argument("--disturbance", type=float, default=train.Settings.disturbance)
    parser.add_argument("--precision", choices=["bfloat16", "float32"],
                        default=train.Settings.precision,
                        help="float32 where the processor has no bfloat16 units")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--limit", type=int, help="stop (resumably) after that many steps")
    chosen = parser.parse_args()
    train.threads(2)
    plan = cache.Plan(seed=chosen.seed, scenes=chosen.scenes)
    images = cache.load(chosen.data, plan, chosen.workers)
    settings = train.Settings(
        steps=chosen.steps,
        replays=chosen.replays,
        disturbance=chosen.disturbance,
        precision=chosen.precision,
    )
    training = train.Training(images, plan, settings, chosen.run)
    done = training.run(chosen.limit, lambda line: print(line, flush=True))
    print(f"{done} steps; {chosen.out} sha256 {training.export(chosen.out)}")


if __name__ == "__main__":
    main()
