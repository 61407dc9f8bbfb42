from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from nstd.errors import ConfigError
from nstd.service.config import Config, find, load
from nstd.service.example import example
from nstd.service.settings import FOLDER_NAMES, Section


def write(folder: Path, text: str) -> Path:
    path = folder / "nstd.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_the_example_file_is_what_the_settings_say(root: Path) -> None:
    assert (root / "config.example.yaml").read_text(encoding="utf-8") == example()


def test_the_example_file_loads_and_equals_the_defaults(root: Path) -> None:
    assert load(root / "config.example.yaml") == Config()


def test_the_example_names_every_key() -> None:
    data = yaml.safe_load(example())
    for name, field in Config.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Section):
            assert list(data[name]) == list(model.model_fields), name


def test_every_setting_has_a_sentence() -> None:
    for field in Config.model_fields.values():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Section):
            for key, setting in model.model_fields.items():
                assert setting.description, key
                assert setting.description.endswith("."), key


def test_without_a_file_everything_has_its_default_below_the_root(tmp_path: Path) -> None:
    config = load(root=tmp_path)
    places = config.folders.by_name()
    assert set(places) == set(FOLDER_NAMES)
    assert all(place == tmp_path / name for name, place in places.items())
    assert config.inbox.settle_s == 2
    assert config.http.listen == "127.0.0.1:9464"


def test_an_empty_file_and_empty_sections_are_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")) == Config()
    assert load(write(tmp_path, "inbox:\nhttp:\n")) == Config()


def test_a_folder_may_lie_elsewhere(tmp_path: Path) -> None:
    config = load(write(tmp_path, "folders: {root: here, state: /var/lib/nstd}"))
    assert config.folders.inbox == tmp_path / "here" / "inbox"
    assert config.folders.state == Path("/var/lib/nstd")


def test_the_root_of_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "folders: {root: here}")
    assert load(path, root=tmp_path / "there").folders.inbox == tmp_path / "there" / "inbox"


def test_overrides_go_on_top_and_none_leaves_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {weights: builtin, device: cpu}")
    config = load(path, overrides={"model.device": "gpu", "model.weights": None})
    assert config.model.device == "gpu"
    assert config.model.weights == "builtin"


def test_overrides_are_validated_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.listen is 'nowhere'"):
        load(root=tmp_path, overrides={"http.listen": "nowhere"})


def test_weights_beside_the_config_are_found_from_anywhere(tmp_path: Path) -> None:
    config = load(write(tmp_path, "model: {weights: my/vgg.h5}"))
    assert config.model.weights == str(tmp_path / "my" / "vgg.h5")


def test_devices_may_be_named(tmp_path: Path) -> None:
    config = load(write(tmp_path, "model: {device: ['gpu:0', 'gpu:1']}"))
    assert config.model.device == ("gpu:0", "gpu:1")


def test_an_unknown_key_is_refused_with_its_line_and_the_likely_one(tmp_path: Path) -> None:
    message = refused(tmp_path, "queue:\n  capacity_jobs: 3\ninbox:\n  setle_s: 3\n")
    assert "line 4: there is no setting inbox.setle_s." in message
    assert "Did you mean settle_s?" in message


def test_an_unknown_section_is_refused_with_the_list(tmp_path: Path) -> None:
    message = refused(tmp_path, "outbx: {}")
    assert "there is no setting outbx" in message
    assert "outbox" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inbox: {settle_s: 99999}", "inbox.settle_s is 99999, and it should be less than"),
        ("inbox: {settle_s: -1}", "greater than or equal to 0"),
        ("inbox: {settle_s: '2'}", "inbox.settle_s is '2'"),
        ("inbox: {settle_s: .nan}", "finite"),
        ("inbox: {settle_s: .inf}", "inbox.settle_s is inf"),
        ("queue: {capacity_jobs: 1.5}", "queue.capacity_jobs is 1.5"),
        ("outbox: {preview: 1}", "boolean"),
        ("log: {level: loud}", "'debug', 'info', 'warning' or 'error'"),
        ("model: {device: 5}", "model.device is 5"),
        ("http: {listen: somewhere}", "ADDRESS:PORT"),
        ("folders: {inbox: [1]}", "it should be a path"),
        ("inbox: 3", "it should be a group of keys"),
        ("inbox: {settle_s: 1, settle_s: 2}", "settle_s is given twice"),
        ("inbox: [", "line 1"),
        ("- a\n- b\n", "sections of keys"),
        ("? [1]\n: 2", "a key must be a word"),
        ("on: 1", "a key must be a word"),
        ("log: !!python/name:os.system", "constructor"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    message = refused(tmp_path, text)
    assert words in message
    assert "\n" not in message


def test_a_huge_value_is_not_repeated_in_full(tmp_path: Path) -> None:
    assert len(refused(tmp_path, f"inbox: {{settle_s: '{'x' * 9000}'}}")) < 400


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"inbox: {default_style: caf\xe9}")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="larger than"):
        load(path)


@pytest.mark.parametrize("inner", ["outbox", "originals", "failed", "styles", "state"])
def test_a_folder_inside_the_inbox_is_refused(tmp_path: Path, inner: str) -> None:
    message = refused(tmp_path, f"folders: {{root: {tmp_path}, {inner}: inbox/x}}")
    assert f"folders.{inner}" in message
    assert "lies in folders.inbox" in message


def test_two_names_for_one_folder_are_seen_through(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").symlink_to(tmp_path / "inbox")
    assert "lies in" in refused(tmp_path, f"folders: {{root: {tmp_path}}}")


def test_failed_and_originals_may_lie_in_the_outbox(tmp_path: Path) -> None:
    config = load(write(tmp_path, "folders: {root: x, failed: outbox/failed}"))
    assert config.folders.failed == tmp_path / "x" / "outbox" / "failed"


def test_a_configuration_inside_the_share_is_refused(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    assert "users of the share may write" in refused(inbox, f"folders: {{root: {tmp_path}}}")


def test_the_file_is_found_by_option_then_environment_then_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTD_CONFIG", "/some/nstd.yaml")
    given = tmp_path / "given.yaml"
    assert find(given, None) == given
    assert find(None, None) == Path("/some/nstd.yaml")
    assert find(None, tmp_path) is None
    monkeypatch.delenv("NSTD_CONFIG")
    system = tmp_path / "system.yaml"
    monkeypatch.setattr("nstd.service.config.SYSTEM_CONFIG", system)
    assert find(None, None) is None
    system.touch()
    assert find(None, None) == system


def test_loading_leaves_the_folders_alone(tmp_path: Path) -> None:
    load(root=tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_the_option_that_finds_the_folders_again(tmp_path: Path) -> None:
    root = tmp_path / "my paintings"
    root.mkdir()
    assert load(None, root=root).folders.option == f"--root '{root}'"
    elsewhere = load(write(tmp_path, "folders: {root: here, state: /var/lib/nstd}"))
    assert elsewhere.folders.option == ""
