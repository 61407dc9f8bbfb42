"""Coverage-guided fuzzing of the door that sidecars come through.

``pip install atheris``, then ``python -m tests.hostile.sidecars.guided FOLDER -runs=1000000``. The
folder keeps what reaches new code, and is filled with whole sidecars first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["nstd.jobs", "nstd.engine.params", "yaml", "json"]):
    from tests.hostile.sidecars.fuzz import NAMES, SEEDS, judge


def look(data: bytes) -> None:
    """Read ``data`` as YAML and as JSON; anything but words is a find."""
    for name in (NAMES[0], NAMES[2]):
        _, wrong = judge(data, name)
        if wrong:
            raise AssertionError(wrong)


def main() -> None:
    """Fill the corpus folder where it is empty, and run."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        for number, data in enumerate(SEEDS):
            (folder / f"seed-{number}").write_bytes(data)
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
