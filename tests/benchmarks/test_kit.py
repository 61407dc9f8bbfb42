"""What the benchmarks share: fair turns, honest figures, readable JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kit
import numpy as np
import pytest

COMMANDS = ("steps_per_second", "time_to_quality", "memory_by_size", "throughput")


def test_things_take_turns_and_their_first_calls_are_thrown_away() -> None:
    calls: list[str] = []

    def thing(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = kit.side_by_side({"a": lambda: thing("a"), "b": lambda: thing("b")}, 2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert found["a"].values == (3.0, 5.0)
    assert found["b"].values == (4.0, 6.0)


def test_a_figure_says_its_median_and_its_range() -> None:
    figure = kit.Figure((3.0, 1.0, 2.0))
    assert figure.to_dict() == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    assert str(figure) == "2 (1 to 3)"


def test_the_json_holds_figures_and_the_name_of_the_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    kit.finish(out, "steps", {"seconds": kit.Figure((1.0,))})
    assert json.loads(out.read_text()) == {
        "benchmark": "steps",
        "seconds": {"median": 1.0, "min": 1.0, "max": 1.0, "n": 1},
    }


def test_a_folder_of_pictures_is_read_by_name(tmp_path: Path) -> None:
    from nstd.photo.encode import encode

    grey = encode(np.full((20, 30, 3), 128, np.uint8), format="jpg")
    for name in ("content-bay", "style-oil", "other"):
        (tmp_path / f"{name}.jpg").write_bytes(grey)
    contents, styles = kit.pictures(tmp_path)
    assert list(contents) == ["bay"]
    assert list(styles) == ["oil"]
    assert kit.sized(contents["bay"], 15).shape == (10, 15, 3)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="content-"):
        kit.pictures(tmp_path)


def test_the_peak_is_at_least_what_is_resident() -> None:
    resident = kit.resident_bytes()  # first: it may grow between the two looks
    assert kit.peak_bytes() >= resident > 2**20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_benchmark_explains_its_options(command: str, root: Path) -> None:
    script = root / "benchmarks" / f"{command}.py"
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--weights", "--images", "--out"):
        assert option in done.stdout
