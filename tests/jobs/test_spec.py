from __future__ import annotations

import json

import pytest

from nstd.engine.params import PRESETS
from nstd.jobs.spec import JobSpec, OutputSpec, StyleChoice


def test_a_spec_survives_json() -> None:
    spec = JobSpec(
        content="beach.content.jpg",
        styles=(
            StyleChoice("starry-night", 2.0, library=True, files=("style/0.jpg", "style/1.jpg")),
            StyleChoice("scream.jpg", files=("input/scream.jpg",)),
        ),
        mask="beach.mask.png",
        params=PRESETS["tutorial-blog"],
        priority=-3,
        output=OutputSpec("png", 80, "sea"),
        folder="holiday/rome",
        stem="beach",
    )
    assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("spec", "stem"),
    [
        (JobSpec("beach.jpg", ()), "beach"),
        (JobSpec("beach.content.jpg", (), stem="beach"), "beach"),
        (JobSpec("beach.jpg", (), stem="a", output=OutputSpec(name="sea")), "sea"),
        (JobSpec("beach", ()), "beach"),
    ],
)
def test_the_results_stem_is_what_was_asked_for(spec: JobSpec, stem: str) -> None:
    assert spec.result_stem == stem


def test_titles_are_safe_to_print() -> None:
    spec = JobSpec("a\x1b[2J\udcff.jpg", (StyleChoice("s\n"),), folder="x\u202ey")
    assert spec.title == "x\\u202ey/a\\x1b[2J\\xff.jpg"
    assert spec.style_title == "s\\n"
