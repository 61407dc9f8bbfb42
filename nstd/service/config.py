"""Load the configuration: YAML in, one validated ``Config`` out, errors with key and line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nstd.errors import ConfigError
from nstd.service.places import identity
from nstd.service.settings import (
    FOLDER_NAMES,
    Folders,
    Http,
    Inbox,
    JobDefaults,
    Log,
    Model,
    Outbox,
    Queue,
    Retention,
    Section,
    Worker,
)

MAX_CONFIG_BYTES = 256 * 1024
SYSTEM_CONFIG = Path("/etc/nstd/nstd.yaml")
NAMED_WEIGHTS = ("imagenet", "builtin")
MAY_LIE_INSIDE = {("originals", "outbox"), ("failed", "outbox")}
"""(inner, outer) pairs that do no harm: nstd writes both and never reads them back."""

FORMS = {
    "string_pattern_mismatch": "have another form",
    "path_type": "be a path",
    "model_type": "be a group of keys",
    "dict_type": "be a group of keys",
}
"""Plain words for what pydantic says in its own."""

Key = tuple[str | int, ...]


class Config(Section):
    """Every setting of the daemon."""

    folders: Folders = Folders()
    inbox: Inbox = Inbox()
    queue: Queue = Queue()
    model: Model = Model()
    defaults: JobDefaults = JobDefaults()
    worker: Worker = Worker()
    outbox: Outbox = Outbox()
    retention: Retention = Retention()
    http: Http = Http()
    log: Log = Log()


def find(path: Path | None, root: Path | None) -> Path | None:
    """Return the config file to read: ``path``, else ``$NSTD_CONFIG``, else the system's.

    With a root and no explicit file, the environment and the system's file are not looked at:
    ``nstd run --root DIR`` means the same on every machine.
    """
    if path is not None:
        return path
    if root is not None:
        return None
    if named := os.environ.get("NSTD_CONFIG"):
        return Path(named)
    return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None


def load(
    path: Path | None = None,
    root: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Return the settings of ``path`` (none: the defaults) with ``root`` and ``overrides`` on top.

    ``overrides`` maps dotted keys to values (``{"model.device": "cpu"}``); None leaves a key alone.
    Raises ConfigError, with key and line, for everything that is not as ``settings.py`` says.
    """
    text = _read(path) if path is not None else ""
    source = str(path) if path is not None else "the command line"
    node = _compose(text, source)
    data = _construct(node, source)
    base = path.absolute().parent if path is not None else Path.cwd()
    _anchor(data, base)
    for dotted, value in {"folders.root": root and root.absolute(), **(overrides or {})}.items():
        if value is not None:
            _override(data, dotted, value)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise _plain(error.errors()[0], node, source) from error
    check_folders(config.folders)
    _check_place(path, config.folders)
    return config


def check_folders(folders: Folders) -> None:
    """Raise ConfigError when one folder is, or lies in, another: nstd would eat its own output.

    Real paths and inodes are compared, so that links and bind mounts do not hide it.
    """
    paths = folders.by_name()
    for inner in FOLDER_NAMES:
        for outer in FOLDER_NAMES:
            if inner == outer or (inner, outer) in MAY_LIE_INSIDE:
                continue
            if _lies_in(paths[inner], paths[outer]):
                raise ConfigError(
                    f"folders.{inner} ({paths[inner]}) lies in folders.{outer} ({paths[outer]}).",
                    "Give each folder a place of its own.",
                )


def _lies_in(inner: Path, outer: Path) -> bool:
    here, there = inner.resolve(), outer.resolve()
    if there == here or there in here.parents:
        return True
    target = identity(str(there))
    return target is not None and target in (identity(str(p)) for p in (here, *here.parents))


def _check_place(path: Path | None, folders: Folders) -> None:
    if path is None:
        return
    shared = {place.resolve() for place in folders.by_name().values()}
    if shared & set(path.resolve().parents):
        raise ConfigError(
            f"The configuration {path} lies in a folder that users of the share may write.",
            f"Move it, for example to {SYSTEM_CONFIG}.",
        )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the configuration {path}: {error.strerror}.",
            "Give a file with --config, or a folder with --root.",
        ) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"The configuration {path} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The configuration {path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8."
        ) from error


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "the file is not YAML"
        raise ConfigError(f"{source}{line}: {problem}.", "Mend the YAML there.") from error


def _construct(node: yaml.Node | None, source: str) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{source}: the configuration must be sections of keys.")
    _check_keys(node, source)
    loader = yaml.SafeLoader("")
    try:
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {getattr(error, 'problem', error)}.") from error
    # A section without keys ("inbox:") reads as null; people leave those behind.
    return {key: {} if value is None else value for key, value in data.items()}


def _check_keys(node: yaml.Node, source: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{source}, line {key.start_mark.line + 1}"
        if key.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{where}: a key must be a word.", "See config.example.yaml.")
        if key.value in seen:
            raise ConfigError(f"{where}: {key.value} is given twice.", "Remove one.")
        seen.add(key.value)
        _check_keys(value, source)


def _anchor(data: dict[str, Any], base: Path) -> None:
    """Make the paths that a file gives relative to that file, not to where nstd was started."""
    folders, model = data.get("folders"), data.get("model")
    if isinstance(folders, dict) and isinstance(root := folders.get("root"), str):
        folders["root"] = str(base / root)
    if isinstance(model, dict) and isinstance(weights := model.get("weights"), str):
        named = weights in NAMED_WEIGHTS or not weights
        model["weights"] = weights if named else str(base / weights)


def _override(data: dict[str, Any], dotted: str, value: Any) -> None:
    section, key = dotted.split(".")
    inner = data.setdefault(section, {})
    if isinstance(inner, dict):
        inner[key] = value


def _plain(error: ErrorDetails, node: yaml.Node | None, source: str) -> ConfigError:
    """Turn pydantic's first complaint into one sentence with the place and what is allowed."""
    key = _known_part(error["loc"])
    line = _line(node, key)
    where = f"{source}, line {line}" if line else source
    name = ".".join(str(part) for part in key)
    if error["type"] == "extra_forbidden":
        return ConfigError(f"{where}: there is no setting {name}.", _did_you_mean(key))
    value = _shown(error.get("input"))
    problem = FORMS.get(error["type"]) or error["msg"].removeprefix("Input should ")
    return ConfigError(f"{where}: {name} is {value}, and it should {problem}.", _about(Config, key))


def _shown(value: Any) -> str:
    text = "a group of keys" if isinstance(value, dict) else ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known_part(location: tuple[str | int, ...]) -> Key:
    """Drop the names of union branches, which pydantic appends to the place."""
    key: list[str | int] = []
    model: type[BaseModel] | None = Config
    for part in location:
        key.append(part)
        if model is None or part not in model.model_fields:
            break
        model = _section(model, str(part))
        if model is None:
            break
    return tuple(key)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation = model.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _line(node: yaml.Node | None, key: Sequence[str | int]) -> int | None:
    line = None
    for part in key:
        if not isinstance(node, yaml.MappingNode):
            break
        found = [(k, v) for k, v in node.value if k.value == part]
        if not found:
            break
        line = found[0][0].start_mark.line + 1
        node = found[0][1]
    return line


def _did_you_mean(key: Key) -> str:
    model: type[BaseModel] | None = Config
    for part in key[:-1]:
        model = _section(model, str(part)) if model and part in model.model_fields else None
    if model is None:
        return ""
    names = list(model.model_fields)
    close = difflib.get_close_matches(str(key[-1]), names, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names)}."


def _about(model: type[BaseModel], key: Key) -> str:
    for part in key:
        field = model.model_fields.get(str(part))
        if field is None:
            return ""
        inner = _section(model, str(part))
        if inner is None:
            allowed = [str(a) for a in get_args(field.annotation) if isinstance(a, str)]
            return f"Allowed: {', '.join(allowed)}." if allowed else (field.description or "")
        model = inner
    return ""
