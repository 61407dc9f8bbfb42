"""Parameters: presets, layer weights, and their way through JSON."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.engine import params
from nstd.engine.params import PRESETS, STYLE_LAYERS, StyleParams
from nstd.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    preset = params.preset(name)
    assert preset.preset == name
    assert StyleParams.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r"no preset 'quick'.*draft, standard, fine"):
        params.preset("quick")


@settings(deadline=None)
@given(st.floats(0.0, 1.0))
def test_layer_weights_sum_to_one_and_never_grow_with_depth(strength: float) -> None:
    weights = StyleParams(style_strength=strength).layer_weights()
    assert [name for name, _ in weights] == list(STYLE_LAYERS)
    assert sum(weight for _, weight in weights) == pytest.approx(1.0)
    values = [weight for _, weight in weights]
    assert all(shallow >= deep * (1 - 1e-12) for shallow, deep in pairwise(values))


def test_strength_zero_keeps_every_line() -> None:
    weights = [weight for _, weight in StyleParams(style_strength=0.0).layer_weights()]
    assert weights == pytest.approx([n / 341 for n in (256, 64, 16, 4, 1)])


def test_strength_one_gives_all_layers_the_same_weight() -> None:
    weights = [weight for _, weight in StyleParams(style_strength=1.0).layer_weights()]
    assert weights == pytest.approx([0.2] * 5)


def test_layers_named_with_weights_replace_the_strength() -> None:
    chosen = StyleParams(
        style_strength=1.0, style_layers=(("block1_conv1", 3.0), ("block2_conv1", 1.0))
    )
    assert chosen.layer_weights() == (("block1_conv1", 0.75), ("block2_conv1", 0.25))


def test_parameters_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.preset("tiny").size = 99  # type: ignore[misc]


USE = {
    "content_layers": [["block2_conv2", 2.0], ["block3_conv4", 1.0]],
    "tv_share": 0.25,
    "style_strength": 0.5,
}


def test_features_choose_the_content_layers_and_what_tv_and_strength_mean() -> None:
    asked = dataclasses.replace(params.preset("standard"), tv_weight=8.0, style_strength=0.5)
    suited = params.suited(asked, USE)
    assert suited == dataclasses.replace(
        asked,
        content_layers=(("block2_conv2", 2.0), ("block3_conv4", 1.0)),
        tv_weight=2.0,
        style_strength=0.75,
    )
    assert params.suited(dataclasses.replace(asked, style_strength=1.0), USE).style_strength == 1.0


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("tutorial")])
def test_features_leave_a_tutorial_as_it_is(name: str) -> None:
    assert params.suited(params.preset(name), USE) == params.preset(name)


def test_features_leave_layers_that_were_chosen() -> None:
    chosen = StyleParams(content_layers=(("block3_conv1", 1.0),))
    assert params.suited(chosen, USE) == chosen


def test_features_without_a_wish_are_used_as_vgg19_is() -> None:
    assert params.suited(StyleParams(), {}) == StyleParams()


def test_what_ran_otherwise_than_asked_is_named_and_nothing_else() -> None:
    asked = StyleParams(tv_weight=10.0, precision="auto")
    used = dataclasses.replace(asked, tv_weight=1.0, precision="bfloat16")
    assert params.adapted(asked, used) == {"tv_weight": 1.0, "precision": "bfloat16"}
    assert params.adapted(asked, asked) == {}
