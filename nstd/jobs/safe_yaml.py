"""YAML and JSON that strangers wrote: small, flat, and without the parts of YAML that bite.

Anchors, aliases, tags, merge keys, duplicate keys, deep nesting and long documents are refused
while the parser's events come in, before any value is built: a 341-byte merge-key bomb costs
``yaml.safe_load`` 42 s and 713 MB. Plain scalars mean what the YAML 1.2 core schema says, so that
``no`` is a word, ``010`` is ten and ``1:30`` is text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from nstd.errors import SidecarError
from nstd.jobs.text import shown

MAX_BYTES = 16 * 1024
MAX_NODES = 100
MAX_DEPTH = 4
MAX_DIGITS = 30

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float("inf") for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: float("-inf") for word in (".inf", ".Inf", ".INF")},
}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain values (dict, list, str, int, float, bool, None), and where each was written."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    """Line (from 1) by path; a mapping's entry stands at its key."""

    def line(self, path: Path) -> int | None:
        """Return the line of ``path``, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def load(data: bytes, name: str) -> Document:
    """Read a document by the extension of ``name``; raises SidecarError and nothing else."""
    if len(data) > MAX_BYTES:
        _refuse(name, None, f"is longer than {MAX_BYTES // 1024} KiB", "Shorten it.")
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError:
        _refuse(name, None, "is not UTF-8 text", "Save it as UTF-8.")
    if name.casefold().endswith(".json"):
        return _load_json(text, name)
    return _load_yaml(text, name)


def encoding_of(data: bytes) -> str:
    """Return UTF-16 where its mark stands in front (a choice of Windows editors), else UTF-8."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked else "utf-8-sig"


def _refuse(name: str, line: int | None, what: str, remedy: str) -> NoReturn:
    where = f", line {line}," if line else ""
    raise SidecarError(f"'{shown(name)}'{where} {what}.", remedy)


# --- YAML ------------------------------------------------------------------------------------


def _load_yaml(text: str, name: str) -> Document:
    reader = _Reader(name)
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        return reader.document(_checked(events, reader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it holds characters that YAML forbids"
        line = mark.line + 1 if mark else None
        _refuse(name, line, f"is not YAML ({shown(problem)})", "Write lines like `style: NAME`.")


def _checked(events: Iterator[Any], reader: _Reader) -> Iterator[Any]:
    """Pass events on; refuse what is never needed here, and too much of the rest."""
    nodes = documents = 0
    for event in events:
        reader.line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            reader.refuse("uses an anchor or an alias (& or *)", "Write it out, or quote it.")
        if getattr(event, "tag", None) is not None:
            reader.refuse("uses a tag (!)", "Leave the tag out, or quote the value.")
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > MAX_NODES:
            reader.refuse(f"holds more than {MAX_NODES} values", "Leave some out.")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            reader.refuse("starts a second document (---)", "Use one file per job.")
        yield event


class _Reader:
    """Builds plain values from checked events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 1
        self.lines: dict[Path, int] = {}

    def refuse(self, what: str, remedy: str) -> NoReturn:
        _refuse(self.name, self.line, what, remedy)

    def document(self, events: Iterator[Any]) -> Document:
        value: Any = None
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                value = self.value(event, events, ())
        return Document(value, self.lines)

    def value(self, event: Any, events: Iterator[Any], path: Path) -> Any:
        self.lines.setdefault(path, self.line)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if len(path) >= MAX_DEPTH:
            self.refuse(f"nests deeper than {MAX_DEPTH} levels", "Write it flat.")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(events, path)
        return self.mapping(events, path)

    def sequence(self, events: Iterator[Any], path: Path) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            values.append(self.value(event, events, (*path, len(values))))
        return values

    def mapping(self, events: Iterator[Any], path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.key(event)
            if key in values:
                self.refuse(f"gives '{shown(key)}' twice", "Keep one of the two.")
            self.lines[(*path, key)] = self.line
            values[key] = self.value(next(events), events, (*path, key))
        return values

    def key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse("uses a list or a mapping as a key", "Use one word as the key.")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            self.refuse("uses a merge key (<<)", "Write the keys out.")
        return key

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if len(text) > MAX_DIGITS and _FLOAT.fullmatch(text):
            self.refuse(f"holds a number of more than {MAX_DIGITS} digits", "Shorten it.")
        return _number(text)


def _number(text: str) -> Any:
    """Return what a plain scalar means in the core schema: a number, or itself."""
    if len(text) <= MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text)
        if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


# --- JSON ------------------------------------------------------------------------------------


def _load_json(text: str, name: str) -> Document:
    if not text.strip():
        return Document(None)

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in entries:
            if key in values:
                _refuse(name, _line_of(key, text), f"gives '{shown(key)}' twice", "Keep one.")
            values[key] = value
        return values

    def number(digits: str) -> Any:
        if len(digits) > MAX_DIGITS:
            _refuse(name, None, f"holds a number of more than {MAX_DIGITS} digits", "Shorten it.")
        return _number(digits)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_int=number, parse_float=number)
    except json.JSONDecodeError as error:
        _refuse(name, error.lineno, f"is not JSON ({error.msg})", "Check commas and quotes.")
    except RecursionError:
        _refuse(name, None, f"nests deeper than {MAX_DEPTH} levels", "Write it flat.")
    _check_size(value, name)
    return Document(value, _json_lines(value, text))


def _line_of(key: str, text: str) -> int | None:
    """Return the line of a JSON key; keys are unique, so its first place is its place."""
    found = re.search(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)
    return text.count("\n", 0, found.start()) + 1 if found else None


def _json_lines(value: Any, text: str) -> dict[Path, int]:
    keys = value if isinstance(value, dict) else {}
    return {(key,): line for key in keys if (line := _line_of(key, text))}


def _check_size(value: Any, name: str) -> None:
    level, nodes = [value], 0
    for _depth in range(MAX_DEPTH + 1):
        nodes += len(level)
        level = [child for each in level for child in _children(each)]
    if level:
        _refuse(name, None, f"nests deeper than {MAX_DEPTH} levels", "Write it flat.")
    if nodes > MAX_NODES:
        _refuse(name, None, f"holds more than {MAX_NODES} values", "Leave some out.")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list) else []
