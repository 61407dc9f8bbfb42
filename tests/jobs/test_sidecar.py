from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.errors import SidecarError
from nstd.jobs.settings import table
from nstd.jobs.sidecar import KEYS, Sidecar, SidecarStyle, parse_sidecar, settings_from
from nstd.jobs.spec import OutputSpec
from nstd.jobs.text import shown

EXAMPLE = b"""
content: beach.jpg                # a bare file name beside the sidecar
style: [{image: starry-night, weight: 2}, scream.jpg]
mask: sky.png
preset: standard
size: 512
iterations: 120
content_weight: 1
style_weight: 20.0
tv_weight: 0.05
optimizer: lbfgs
init: content
pooling: max
preserve_color: none
seed: 0
priority: 7
output: {format: jpeg, quality: 90, name: beach-starry}
"""


def error_of(data: bytes, name: str = "beach.yaml") -> SidecarError:
    with pytest.raises(SidecarError) as caught:
        parse_sidecar(data, name)
    return caught.value


def test_every_key_of_the_manual_is_understood() -> None:
    sidecar = parse_sidecar(EXAMPLE, "beach.yaml")
    assert sidecar is not None
    assert sidecar.content == "beach.jpg"
    assert sidecar.mask == "sky.png"
    assert sidecar.styles == (
        SidecarStyle(image="starry-night", weight=2.0),
        SidecarStyle(image="scream.jpg"),
    )
    assert sidecar.settings["iterations"] == 120
    assert sidecar.settings["content_weight"] == 1.0
    assert sidecar.priority == 7
    assert sidecar.output == OutputSpec("jpg", 90, "beach-starry")


def test_json_says_the_same_as_yaml() -> None:
    as_json = json.dumps(yaml.safe_load(EXAMPLE)).encode()
    expected = parse_sidecar(EXAMPLE, "beach.yaml")
    assert expected is not None
    assert parse_sidecar(as_json, "beach.yaml") == expected
    assert parse_sidecar(as_json, "beach.json") == replace(expected, name="beach.json")


@pytest.mark.parametrize(
    "text", ["style: a", "style: {image: a}", "style: [a]", "style: [{image: a}]"]
)
def test_a_single_style_may_be_written_in_four_ways(text: str) -> None:
    sidecar = parse_sidecar(text.encode(), "a.yml")
    assert sidecar is not None
    assert sidecar.styles == (SidecarStyle(image="a"),)


def test_a_key_with_nothing_behind_it_is_left_to_its_default() -> None:
    assert parse_sidecar(b"style: a\nsize:\noutput:", "a.yaml") == Sidecar(
        "a.yaml", styles=(SidecarStyle(image="a"),)
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"title: my trip\npeople: 3", "photo exports write such files"),
        (b'{"title": "x", "photoTakenTime": {"timestamp": "1"}}', ""),
        (b"[1, 2]", "a list"),
        (b"just words", "text"),
        (b"anchors: &a [1]\nother: *a", "even where the YAML is not to our taste"),
        (b'{"caption": "style: none"}', "a mention in a value is none"),
        (b"\x00\x01\x02", "binary"),
        (b'{"x":' + b" " * 40_000 + b"1}", "long"),
        (b'{"photo": {"meta": {"a": {"b": {"c": {"size": 12}}}}}}', "deep, and not ours there"),
        (b'{"exif": {"size": 1}, "x": "' + b"y" * 40_000 + b'"}', "long, and not ours there"),
        (b'{"job": "20260101-000000-abcdef", "outcome": "failed", "style": ""}', "error.json"),
        (b'{"report": 1, "job": "x", "content": {"a": {"b": {"c": {"d": 1}}}}}', "a report"),
    ],
)
def test_a_file_with_none_of_our_keys_is_no_sidecar(data: bytes, words: str) -> None:
    assert parse_sidecar(data, "beach.json") is None, words


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"# later\n", b"\xef\xbb\xbf"])
def test_an_empty_sidecar_is_an_error_that_says_what_to_write(data: bytes) -> None:
    error = error_of(data)
    assert "empty" in error.message
    assert "content:" in error.remedy


def test_an_unknown_key_is_named_with_its_line_and_a_guess() -> None:
    error = error_of(b"content: beach.jpg\nstlye: x\n")
    assert error.message == "'beach.yaml', line 2, has the unknown key 'stlye'."
    assert error.remedy.startswith("Did you mean 'style'? Known keys: content, style, mask, ")


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_is_named_with_key_line_and_what_is_allowed(key: str) -> None:
    error = error_of(f"content: a.jpg\nstyle: b\n{key}: [[1]]\n".encode().replace(
        f"{key}: a.jpg\n".encode(), b"\n").replace(f"{key}: b\n".encode(), b"\n"))  # fmt: skip
    assert key in error.message
    assert "line" in error.message
    assert error.remedy.startswith("Allowed: ")
    if key in table():
        assert table()[key].allowed in error.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size: 1000000", "from 32 to 8192"),
        ("iterations: 1000000000", "from 1 to 20000"),
        ("style_weight: .nan", "a number from 0"),
        ("style_weight: .inf", "a number from 0"),
        ("size: '512'", "a whole number"),
        ("size: 512.0", "a whole number"),
        ("size: yes", "a whole number"),
        ("seed: true", "a whole number"),
        ("seed: -1", "from 0"),
        ("preset: finee", "Did you mean 'fine'"),
        ("output: {format: gif}", "jpg, png, webp, tiff"),
        ("output: {quality: 0}", "from 1 to 100"),
        ("output: {name: a/b}", "without path"),
        ("output: {name: ..}", "without path"),
        ("output: {name: .hidden}", "leading dot"),
        ("output: {name: CON}", "Windows"),
        ('output: {name: "a\\nb"}', "file name"),
        ("output: {size: 5}", "Known keys: format, quality, name"),
        ("style: {image: a, weight: 0}", "above 0"),
        ("style: {weight: 1}", "library style"),
        ("style: [a, b, c, d, e, f, g, h, i]", "at most 8"),
        ("style: [[a]]", "style"),
    ],
)
def test_values_out_of_bounds_fail_with_what_is_allowed(text: str, words: str) -> None:
    assert words in str(error_of(f"content: a.jpg\n{text}".encode()))


@pytest.mark.parametrize("key", ["content", "mask", "style"])
@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg",
        "/etc/passwd",
        "a/b.jpg",
        "..",
        ".",
        "a\\b.jpg",
        "a\nb.jpg",
        "a\x00.jpg",
        "x" * 256,
        "",
    ],
)
def test_no_name_can_lead_to_another_folder(key: str, name: str) -> None:
    error = error_of(json.dumps({key: name}).encode(), "a.json")
    assert "file name" in error.remedy


def test_hostile_text_is_escaped_and_shortened_in_messages() -> None:
    error = error_of(json.dumps({"style": "a", "\x1b[2J\u202e" + "x" * 500: 1}).encode(), "a.json")
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)
    assert len(error.message) < 200


def test_an_extension_in_the_outputs_name_is_dropped() -> None:
    sidecar = parse_sidecar(b"style: a\noutput: {name: sea.view.JPG}", "a.yaml")
    assert sidecar is not None
    assert sidecar.output.name == "sea.view"


def test_a_styles_own_settings_are_settings_only() -> None:
    assert settings_from(b"style_weight: 30\nsize:\n", "style.yaml") == {"style_weight": 30.0}
    assert settings_from(b"", "style.yaml") == {}
    for wrong in (b"content: a.jpg", b"- 1", b"size: big", b"size: ["):
        with pytest.raises(SidecarError):
            settings_from(wrong, "style.yaml")


# --- whatever comes in -----------------------------------------------------------------------

words = st.sampled_from(
    [*KEYS, "image", "weight", "format", "quality", "name", "<<", "&a", "*a", "!t", "---", "...",
     ": ", "- ", "? ", "[", "]", "{", "}", ",", "\n", "\n  ", "#", "'", '"', "|", ">", "%", "@",
     ".nan", ".inf", "1e999", "512", "-1", "beach.jpg", "../x", "\t", "\u202e", "\ud7ff", "\x85"]
)  # fmt: skip
soup = st.lists(words, max_size=60).map(lambda parts: "".join(parts).encode())
names = st.sampled_from(["a.yaml", "a.yml", "a.json", "A.JSON", "\udcff\n.yaml"])


def settles(data: bytes, name: str) -> None:
    begin = time.process_time()
    try:
        result = parse_sidecar(data, name)
    except SidecarError as error:
        assert error.message  # noqa: PT017
        assert error.remedy  # noqa: PT017
        assert shown(str(error)) == str(error)  # noqa: PT017
    else:
        assert result is None or isinstance(result, Sidecar)
    assert time.process_time() - begin < 5  # a guard against bombs, not a measurement


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | soup | st.text(max_size=200).map(str.encode), names)
def test_any_bytes_give_a_sidecar_or_none_or_an_error_in_words(data: bytes, name: str) -> None:
    settles(data, name)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), values, max_size=8))
def test_any_values_behind_our_keys_are_judged_in_words(something: dict[str, object]) -> None:
    settles(json.dumps(something).encode(), "a.json")
    settles(yaml.safe_dump(something, allow_unicode=True).encode("utf-8", "replace"), "a.yaml")


FILLERS = (
    *(b"[", b"{", b"- ", b"? ", b"a: ", b"'", b'"', b"&a ", b"*a ", b"!", b"#", b"\n", b" ", b"\t"),
    *(
        b"|",
        b"%",
        b"{a: ",
        b"[a, ",
        b": ",
        b"\\",
        b"x",
        b"\xe2\x80\xa8",
        b"---\n",
        b'"\\u',
        b"<<: ",
    ),
)


@pytest.mark.parametrize("filler", FILLERS)
def test_no_filling_of_sixteen_kibibytes_takes_long(filler: bytes) -> None:
    for head in (b"style: ", b"style: a\nsize: ", b'{"style": '):
        data = (head + filler * 16_384)[: 16 * 1024]
        settles(data, "a.yaml")
        settles(data, "a.json")
