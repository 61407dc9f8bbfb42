from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstd.errors import SidecarError
from nstd.jobs.safe_yaml import MAX_BYTES, MAX_NODES, load


def value(text: str, name: str = "a.yaml") -> object:
    return load(text.encode(), name).value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-5", -5), ("+5", 5), ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5), ("no", "no"), ("yes", "yes"), ("on", "on"), ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"), ("1_000", "1_000"), ("true", True), ("False", False),
        ("null", None), ("~", None), ('"5"', "5"), ("'true'", "true"), ("0b11", "0b11"), (".", "."),
        ("-.inf", -math.inf), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, expected: object) -> None:
    found = value(f"key: {text}")
    assert found == {"key": expected}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(expected)


LAUGHS = "a: &a [x,x]\nb: &b [*a,*a]\n" + "".join(
    f"{chr(ord(c) + 1)}: &{chr(ord(c) + 1)} [*{c},*{c}]\n" for c in "bcdefgh"
)
MERGES = "a: &a {x: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*a, *a]}}\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "anchor"),
        (MERGES, "anchor"),
        ("&a [*a]", "anchor"),
        ("a: *b", "anchor"),
        ("<<: {a: 1}", "merge"),
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: !!str 5", "tag"),
        ("! a", "tag"),
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("[" * 6000, "nests deeper"),
        ("a: [[[[[1]]]]]", "nests deeper"),
        ("- " * 6000 + "x", "nests deeper"),
        ("[" + "1," * 200 + "]", "more than 100 values"),
        ("a: 1\n---\nb: 2", "second document"),
        ("? [a]\n: 1", "as a key"),
        ("a: " + "9" * 5000, "digits"),
        ("a: [", "not YAML"),
        ("a: \x07", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\tb: c", "not YAML"),
        ("%TAG ! tag:evil,2000:\n--- !x a", "tag"),
        ("x" * (MAX_BYTES + 1), "longer than 16 KiB"),
    ],
)
def test_what_bites_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(SidecarError, match=words) as caught:
        value(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 8000, "nests deeper"),
        ('{"a":' * 3000, "nests deeper"),
        ('{"a": [[[[[1]]]]]}', "nests deeper"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" + "1," * 200 + "1]", "more than 100 values"),
        ("9" * 5000, "digits"),
        ("{", "not JSON"),
        ("{'a': 1}", "not JSON"),
    ],
)
def test_json_is_held_to_the_same_limits(text: str, words: str) -> None:
    with pytest.raises(SidecarError, match=words) as caught:
        value(text, "a.json")
    assert caught.value.remedy


def test_a_line_is_known_for_every_entry() -> None:
    document = load(b"# one\na: 1\nb:\n  - x\n  - {c: 1,\n     d: 2}\n", "a.yaml")
    assert document.line(("a",)) == 2
    assert document.line(("b", 0)) == 4
    assert document.line(("b", 1, "d")) == 6
    assert document.line(("b", 1, "d", "deeper")) == 6
    assert document.line(("absent",)) == 2  # the mapping itself
    assert load(b'{"a": 1,\n\n"b": 2}', "a.json").line(("b",)) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_windows_editors_save_is_read(encoding: str) -> None:
    assert load("a: é😀\r\nb: 2\r\n".encode(encoding), "a.yaml").value == {"a": "é😀", "b": 2}


def test_other_encodings_are_refused_in_words() -> None:
    with pytest.raises(SidecarError, match="UTF-8"):
        load("a: é".encode("latin-1"), "a.yaml")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def depth(something: object) -> int:
    if isinstance(something, dict):
        return 1 + max(map(depth, something.values()), default=0)
    if isinstance(something, list):
        return 1 + max(map(depth, something), default=0)
    return 0


@given(plain.filter(lambda v: depth(v) <= 4))
def test_json_within_the_limits_is_read_as_it_is(something: object) -> None:
    text = json.dumps(something)
    try:
        assert load(text.encode(), "a.json").value == something
    except SidecarError as error:
        assert "values" in error.message or "digits" in error.message  # noqa: PT017
        assert len(text) > MAX_NODES
