from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from nstd.engine.params import PRESETS, StyleParams
from nstd.jobs.settings import SETTING_NAMES, Settings, resolve, table


def test_every_preset_can_be_named() -> None:
    assert table()["preset"].choices == tuple(PRESETS)


def test_every_setting_is_a_parameter_of_the_engine_of_the_same_type() -> None:
    fields = {field.name for field in dataclasses.fields(StyleParams)}
    for name, row in table().items():
        assert name in fields
        assert isinstance(row.default, row.kind)


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_every_setting_has_a_sentence_and_what_is_allowed(name: str) -> None:
    row = table()[name]
    assert row.help.endswith((".", "overrides it."))
    assert row.choices or (row.minimum is not None and row.maximum is not None)
    assert "from" in row.allowed or "one of" in row.allowed


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_bounds_hold_on_both_sides(name: str) -> None:
    row = table()[name]
    if row.choices:
        for choice in row.choices:
            Settings.model_validate({name: choice})
        with pytest.raises(ValidationError):
            Settings.model_validate({name: "something else"})
        return
    assert row.minimum is not None
    assert row.maximum is not None
    for value in (row.minimum, row.maximum):
        Settings.model_validate({name: row.kind(value)})
    wrong: list[object] = [row.minimum - 1, row.maximum * 2 + 1, float("nan"), True, "1"]
    for each in wrong:
        with pytest.raises(ValidationError):
            Settings.model_validate({name: each})


def test_the_presets_own_values_are_within_the_bounds() -> None:
    for params in PRESETS.values():
        Settings.model_validate({name: getattr(params, name) for name in SETTING_NAMES})


def test_what_is_more_specific_wins() -> None:
    params = resolve(
        {"size": 300}, {"size": 200, "seed": 2}, {"size": 100, "seed": 1, "tv_weight": 9}
    )
    assert (params.size, params.seed, params.tv_weight) == (300, 2, 9)
    assert params.preset == "standard"


def test_a_named_preset_leaves_configured_defaults_behind_but_not_the_styles_settings() -> None:
    params = resolve({"preset": "draft"}, {"style_weight": 40.0}, {"preset": "fine", "size": 2000})
    assert params == dataclasses.replace(PRESETS["draft"], style_weight=40.0)


def test_a_configured_preset_holds_where_nobody_names_another() -> None:
    assert resolve({}, {}, {"preset": "fine"}) == PRESETS["fine"]
    assert resolve({}) == PRESETS["standard"]


def test_a_size_given_to_a_squeezing_preset_is_the_square_it_squeezes_to() -> None:
    assert resolve({"preset": "tutorial-blog", "size": 96}).squeeze == (96, 96)
    assert resolve({"preset": "tutorial-blog"}).squeeze == (224, 224)
