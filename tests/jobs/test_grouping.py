from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.errors import SidecarError, StorageError, UnpairedError, UnsafeFileError, UnsupportedError
from nstd.jobs.grouping import Grouping, SidecarReader, group
from nstd.jobs.inputs import Candidate, InboxFile, LibraryStyle, Rules
from nstd.jobs.spec import StyleChoice

LIBRARY = {
    "starry-night": LibraryStyle("starry-night", ("/s/a.jpg",), {"style_weight": 40.0}),
    "Scream": LibraryStyle("Scream", ("/s/b.jpg",)),
    "empty": LibraryStyle("empty", (), problem="there is no image in its folder"),
}


def drop(path: str, *, settled: bool = True, since: float = 0.0, size: int = 5) -> InboxFile:
    folder, _, name = path.rpartition("/")
    why = "" if settled else "still being written: changed 1 s ago"
    return InboxFile(folder, name, size, 1, 1, 1, 1, since, settled=settled, why=why)


def sort(
    files: Sequence[str | InboxFile],
    sidecars: Mapping[str, bytes] | None = None,
    now: float = 100.0,
    library: Mapping[str, LibraryStyle] = LIBRARY,
    **rules: object,
) -> Grouping:
    texts = sidecars or {}
    return group(
        [drop(file) if isinstance(file, str) else file for file in files],
        read_sidecar=SidecarReader(lambda file: texts[file.path]),
        library=library,
        rules=Rules(**rules),  # type: ignore[arg-type]
        now=now,
    )


def only(grouping: Grouping) -> Candidate:
    assert len(grouping.candidates) == 1, grouping
    return grouping.candidates[0]


def names(candidate: Candidate) -> list[str]:
    return [file.path for file in candidate.files]


def waits(grouping: Grouping) -> dict[str, str]:
    return {each.file.path: each.reason for each in grouping.waiting}


# --- style folders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["starry-night", "Starry-Night", "starry-night/holiday", "holiday/starry-night"]
)
def test_a_photograph_in_a_style_folder_is_painted_in_that_style(folder: str) -> None:
    candidate = only(sort([f"{folder}/beach.jpg"]))
    assert candidate.error is None
    assert candidate.spec is not None
    assert candidate.spec.styles == (StyleChoice("starry-night", library=True),)
    assert candidate.spec.style_name == "starry-night"
    assert (candidate.spec.folder, candidate.spec.result_stem) == (folder, "beach")
    assert candidate.spec.params.style_weight == 40.0


def test_the_innermost_style_wins() -> None:
    candidate = only(sort(["starry-night/scream/beach.jpg"]))
    assert candidate.spec is not None
    assert candidate.spec.style_name == "Scream"


def test_a_folder_that_names_no_style_is_like_the_root() -> None:
    assert waits(sort(["holiday/beach.jpg", "beach.jpg"])).keys() == {
        "holiday/beach.jpg",
        "beach.jpg",
    }


def test_a_style_that_cannot_be_used_is_waited_for_then_said() -> None:
    assert "no image in its folder" in waits(sort(["empty/beach.jpg"]))["empty/beach.jpg"]
    error = only(sort(["empty/beach.jpg"], now=901)).error
    assert isinstance(error, UnpairedError)


# --- photographs without a style -------------------------------------------------------------


def test_a_lone_photograph_waits_then_fails_with_what_to_do() -> None:
    (waiting,) = sort(["beach.jpg"]).waiting
    assert waiting.deadline == 900
    assert "inbox/<style>/" in waiting.reason
    candidate = only(sort(["beach.jpg"], now=900))
    assert isinstance(candidate.error, UnpairedError)
    assert "inbox/<style>/" in candidate.error.remedy
    assert "starry-night" in candidate.error.remedy


def test_a_lone_photograph_is_painted_in_the_default_style() -> None:
    candidate = only(sort(["beach.jpg"], default_style="scream"))
    assert candidate.spec is not None
    assert candidate.spec.style_name == "Scream"
    assert "not in the library" in waits(sort(["beach.jpg"], default_style="x"))["beach.jpg"]


@pytest.mark.parametrize("folder", ["", "starry-night/"])
def test_a_known_kind_that_cannot_be_read_fails_with_the_remedy(folder: str) -> None:
    candidate = only(sort([f"{folder}beach.cr2"]))
    assert isinstance(candidate.error, UnsupportedError)
    assert "export" in candidate.error.remedy


@pytest.mark.parametrize("name", ["a\nb.jpg", "\udcff.png", "a\x1b.content.jpg", "x\n/a.jpg"])
def test_hostile_names_fail_by_name(name: str) -> None:
    candidate = only(sort([name]))
    assert isinstance(candidate.error, UnsafeFileError)
    assert candidate.error.message.isprintable()


def test_a_file_that_has_not_settled_waits_with_its_reason() -> None:
    grouping = sort([drop("starry-night/beach.jpg", settled=False)])
    assert waits(grouping) == {"starry-night/beach.jpg": "still being written: changed 1 s ago"}


def test_a_file_above_the_limit_stays_where_it_is() -> None:
    grouping = sort([drop("starry-night/beach.jpg", size=11)], max_file_bytes=10)
    assert "larger than 10 bytes" in waits(grouping)["starry-night/beach.jpg"]
    grouping = sort([drop("starry-night/beach.jpg", size=2**40)], max_file_bytes=256 * 2**20)
    assert "larger than 256 MiB" in waits(grouping)["starry-night/beach.jpg"]


# --- pairs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [".", "_", "-"])
@pytest.mark.parametrize("words", [("content", "style"), ("CONTENT", "Style")])
def test_a_pair_is_a_job(separator: str, words: tuple[str, str]) -> None:
    content, style = f"beach{separator}{words[0]}.jpg", f"beach{separator}{words[1]}.png"
    candidate = only(sort([style, content]))
    assert names(candidate) == [content, style]
    assert candidate.spec is not None
    assert candidate.spec.result_stem == "beach"
    assert candidate.spec.styles == (StyleChoice(style),)


def test_halves_may_be_spelt_each_in_its_way() -> None:
    assert len(names(only(sort(["beach_content.jpg", "Beach-STYLE.png"])))) == 2


def test_more_styles_and_a_mask_join_the_pair_in_order() -> None:
    files = ["b.content.jpg", "b.style10.jpg", "b.style2.jpg", "b.style.jpg", "b.mask.png"]
    spec = only(sort(files)).spec
    assert spec is not None
    assert [choice.image for choice in spec.styles] == [
        "b.style.jpg",
        "b.style2.jpg",
        "b.style10.jpg",
    ]
    assert spec.mask == "b.mask.png"


def test_pairs_of_two_folders_do_not_meet() -> None:
    grouping = sort(["x/b.content.jpg", "y/b.style.jpg"])
    assert grouping.candidates == ()
    assert len(grouping.waiting) == 2


def test_a_pair_waits_until_all_of_it_is_written() -> None:
    files = [drop("b.content.jpg"), drop("b.style.jpg"), drop("b.style2.jpg", settled=False)]
    assert sort(files).candidates == ()
    assert "b.style2.jpg" in waits(sort(files))["b.content.jpg"]


@pytest.mark.parametrize("half", ["b.content.jpg", "b.style.jpg", "b.mask.png"])
def test_half_a_pair_waits_then_fails_with_what_to_do(half: str) -> None:
    assert "half a pair" in waits(sort([half]))[half]
    error = only(sort([half], now=900)).error
    assert isinstance(error, UnpairedError)
    assert "b.content.jpg" in error.remedy


def test_a_late_half_buys_its_pair_more_time() -> None:
    files = [drop("b.style.jpg"), drop("b.mask.png", since=500)]
    assert sort(files, now=901).candidates == ()
    assert len(only(sort(files, now=1400)).files) == 2


def test_two_photographs_for_one_pair_fail_by_name() -> None:
    candidate = only(sort(["b.content.jpg", "b.content.png", "b.style.jpg"]))
    assert "b.content.png" in str(candidate.error)
    assert len(candidate.files) == 3


# --- sidecars --------------------------------------------------------------------------------


def test_a_sidecar_names_its_files_and_settings() -> None:
    text = b"content: beach.jpg\nstyle: [{image: Scream, weight: 2}, o.png]\nmask: m.png\nsize: 99"
    grouping = sort(["x.yaml", "beach.jpg", "o.png", "m.png"], {"x.yaml": text})
    candidate = only(grouping)
    assert names(candidate) == ["beach.jpg", "o.png", "m.png", "x.yaml"]
    assert [each.role for each in candidate.inputs] == ["content", "style", "mask", "sidecar"]
    spec = candidate.spec
    assert spec is not None
    assert spec.styles == (StyleChoice("Scream", 2.0, library=True), StyleChoice("o.png"))
    assert (spec.params.size, spec.mask, spec.result_stem) == (99, "m.png", "x")
    assert spec.style_name is None


def test_a_sidecars_style_defaults_to_its_folder_and_its_content_to_its_stem() -> None:
    spec = only(sort(["scream/a.jpg", "scream/a.yaml"], {"scream/a.yaml": b"size: 64"})).spec
    assert spec is not None
    assert (spec.style_name, spec.params.size, spec.content) == ("Scream", 64, "a.jpg")


def test_a_sidecar_may_bear_the_photographs_whole_name() -> None:
    spec = only(
        sort(["scream/a.jpg", "scream/a.jpg.json"], {"scream/a.jpg.json": b'{"size": 64}'})
    ).spec
    assert spec is not None
    assert (spec.params.size, spec.result_stem) == (64, "a")


def test_a_sidecar_without_a_style_takes_the_default_or_fails() -> None:
    files, texts = ["a.jpg", "a.yaml"], {"a.yaml": b"size: 64"}
    assert only(sort(files, texts, default_style="scream")).error is None
    candidate = only(sort(files, texts))
    assert isinstance(candidate.error, SidecarError)
    assert names(candidate) == ["a.jpg", "a.yaml"]


def test_a_sidecar_of_a_pairs_stem_adds_its_settings() -> None:
    candidate = only(sort(["a.content.jpg", "a.style.jpg", "a.yaml"], {"a.yaml": b"size: 64"}))
    assert candidate.spec is not None
    assert candidate.spec.styles == (StyleChoice("a.style.jpg"),)
    assert candidate.spec.params.size == 64


def test_names_are_matched_as_clients_spell_them() -> None:
    text = "content: CAFÉ.jpg\nstyle: scream".encode()
    assert names(only(sort(["cafe\u0301.jpg", "x.yaml"], {"x.yaml": text})))[0] == "cafe\u0301.jpg"


def test_one_file_may_be_content_and_style() -> None:
    candidate = only(sort(["a.jpg", "x.yaml"], {"x.yaml": b"content: a.jpg\nstyle: a.jpg"}))
    assert names(candidate) == ["a.jpg", "x.yaml"]


def test_a_library_style_may_be_named_by_its_image() -> None:
    files, texts = ["a.jpg", "a.yaml"], {"a.yaml": b"style: pic.png"}
    library = {"pic": LibraryStyle("pic", ("/styles/pic.png",))}
    spec = only(sort(files, texts, library=library)).spec
    assert spec is not None
    assert spec.styles == (StyleChoice("pic", library=True),)
    beside = only(sort([*files, "pic.png"], texts, library=library)).spec
    assert beside is not None
    assert beside.styles == (StyleChoice("pic.png"),)


def test_a_sidecar_waits_for_what_is_being_written() -> None:
    files = [drop("a.jpg", settled=False), drop("a.yaml")]
    grouping = sort(files, {"a.yaml": b"style: scream"}, now=5000)
    assert grouping.candidates == ()
    assert "a.jpg" in waits(grouping)["a.yaml"]


def test_a_photograph_waits_for_its_sidecar_that_is_being_written() -> None:
    grouping = sort([drop("scream/a.jpg"), drop("scream/a.yaml", settled=False)])
    assert "a.yaml" in waits(grouping)["scream/a.jpg"]


def test_a_sidecar_whose_files_never_come_fails_with_what_has_come() -> None:
    texts = {"a.yaml": b"content: b.jpg\nstyle: o.png"}
    grouping = sort(["a.yaml", "o.png"], texts)
    assert "b.jpg" in waits(grouping)["a.yaml"]
    assert waits(grouping).keys() == {"a.yaml", "o.png"}
    candidate = only(sort(["a.yaml", "o.png"], texts, now=900))
    assert isinstance(candidate.error, UnpairedError)
    assert sorted(names(candidate)) == ["a.yaml", "o.png"]


def test_an_unreadable_sidecar_takes_the_photograph_of_its_stem_along() -> None:
    candidate = only(
        sort(["scream/a.jpg", "scream/a.yaml"], {"scream/a.yaml": b"siez: [\nsize: 1"})
    )
    assert isinstance(candidate.error, SidecarError)
    assert names(candidate) == ["scream/a.jpg", "scream/a.yaml"]


def test_an_unreadable_sidecar_waits_for_its_photograph_to_be_written() -> None:
    files = [drop("a.jpg", settled=False), drop("a.yaml")]
    assert sort(files, {"a.yaml": b"size: x"}).candidates == ()


def test_an_unreadable_sidecar_leaves_to_others_what_they_name() -> None:
    texts = {"a.yaml": b"size: x", "b.yaml": b"content: a.jpg\nstyle: scream"}
    good, bad = sort(["a.jpg", "a.yaml", "b.yaml"], texts).candidates[::-1]
    if good.error:
        good, bad = bad, good
    assert names(good) == ["a.jpg", "b.yaml"]
    assert names(bad) == ["a.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"style: skream", "Did you mean 'Scream'"),
        (b"style: nothing-like-it", "There are: starry-night"),
        (b"content: notes.txt\nstyle: scream", "no image"),
        (b"content: ../a.jpg", "without a path"),
        (b"", "empty"),
    ],
)
def test_what_a_sidecar_gets_wrong_is_said_at_once(text: bytes, words: str) -> None:
    candidate = only(sort(["a.jpg", "a.yaml"], {"a.yaml": text}))
    assert words in str(candidate.error)
    assert sorted(names(candidate)) == ["a.jpg", "a.yaml"]


def test_a_folder_that_is_nearly_a_style_is_guessed() -> None:
    reason = waits(sort(["Starry Night/a.jpg"]))["Starry Night/a.jpg"]
    assert "'Starry Night' is no style: did you mean 'starry-night'?" in reason
    error = only(sort(["Starry Night/a.jpg"], now=901)).error
    assert "did you mean 'starry-night'?" in str(error)
    assert "did you mean" not in waits(sort(["holidays/a.jpg"]))["holidays/a.jpg"]


def test_two_photographs_of_a_sidecars_stem_need_a_name() -> None:
    candidate = only(sort(["a.jpg", "a.png", "a.yaml"], {"a.yaml": b"style: scream"}))
    assert "content:" in str(candidate.error)
    assert len(candidate.files) == 3


def test_a_file_with_none_of_our_keys_is_left_and_counted() -> None:
    grouping = sort(["scream/a.jpg", "scream/a.json"], {"scream/a.json": b'{"title": 1}'})
    assert names(only(grouping)) == ["scream/a.jpg"]
    assert grouping.ignored == {"sidecar": 1}


def test_a_photograph_beside_what_is_no_sidecar_is_told_so() -> None:
    texts = {"a.yaml": b"- style: starry-night"}
    assert "'a.yaml' holds none of the keys" in waits(sort(["a.jpg", "a.yaml"], texts))["a.jpg"]
    error = only(sort(["a.jpg", "a.yaml"], texts, now=901)).error
    assert "'a.yaml' holds none of the keys" in str(error)


def test_a_photograph_of_several_sidecars_serves_each_and_goes_with_the_last() -> None:
    texts = {
        f"{n}.yaml": b"content: p.jpg\nstyle: scream\nseed: %d" % i for i, n in enumerate("abc")
    }
    files = ["p.jpg", *texts]
    served = []
    while len(files) > 1:
        candidate = only(sort(files, texts))
        served.append(candidate.files[-1].name)
        stays = [each.file.name for each in candidate.inputs if each.stays]
        assert stays == (["p.jpg"] if len(served) < 3 else [])
        files = [f for f in files if f not in names(candidate) or f in stays]
    assert served == ["a.yaml", "b.yaml", "c.yaml"]
    assert files == []


def test_a_photograph_stays_for_a_sidecar_that_still_waits() -> None:
    texts = {
        "a.yaml": b"content: p.jpg\nstyle: scream",
        "b.yaml": b"content: p.jpg\nstyle: late.jpg",
    }
    candidate = only(sort(["p.jpg", "a.yaml", "b.yaml"], texts))
    assert [each.stays for each in candidate.inputs] == [True, False]
    late = sort(["p.jpg", "b.yaml"], texts)
    assert waits(late).keys() == {"p.jpg", "b.yaml"}


def test_a_sidecar_that_cannot_be_read_just_now_holds_the_others_back_for_a_while() -> None:
    def read(file: InboxFile) -> bytes:
        if file.name == "a.yaml":
            raise StorageError("a.yaml cannot be read.")
        return b"content: p.jpg\nstyle: scream"

    def look(now: float) -> Grouping:
        files = [drop("p.jpg"), drop("a.yaml"), drop("b.yaml")]
        reader = SidecarReader(read)
        return group(files, read_sidecar=reader, library=LIBRARY, rules=Rules(), now=now)

    assert look(10).candidates == ()
    assert names(only(look(900))) == ["p.jpg", "b.yaml"]


# --- files that were taken before, and lie there still ----------------------------------------


def taken(path: str) -> InboxFile:
    return replace(drop(path), taken=True)


def test_what_was_taken_before_makes_no_job_by_itself() -> None:
    files = [
        "scream/a.jpg",
        "b.content.jpg",
        "b.style.jpg",
        "c.yaml",
        "c.jpg",
        "d.yaml",
        "d.jpg",
        "l.jpg",
    ]
    texts = {"c.yaml": b"style: scream", "d.yaml": b"size: x"}
    assert sort([taken(file) for file in files], texts, now=1e9) == Grouping((), (), Counter())


def test_a_new_sidecar_may_name_what_was_taken_before() -> None:
    texts = dict.fromkeys(("a.yaml", "b.yaml"), b"content: p.jpg\nstyle: scream")
    candidate = only(sort([taken("p.jpg"), taken("a.yaml"), "b.yaml"], texts))
    assert names(candidate) == ["p.jpg", "b.yaml"]


def test_a_new_half_pairs_with_what_was_taken_before() -> None:
    candidate = only(sort([taken("b.content.jpg"), "b.style.jpg"]))
    assert names(candidate) == ["b.content.jpg", "b.style.jpg"]


def test_a_new_photograph_is_painted_as_its_old_sidecar_says() -> None:
    spec = only(sort(["scream/a.jpg", taken("scream/a.yaml")], {"scream/a.yaml": b"size: 64"})).spec
    assert spec is not None
    assert spec.params.size == 64


# --- order -----------------------------------------------------------------------------------


def test_candidates_come_by_priority_then_oldest_first() -> None:
    files = [
        drop("scream/new.jpg", since=9),
        drop("scream/old.jpg", since=1),
        drop("scream/vip.jpg", since=50),
        drop("scream/vip.yaml", since=51),
        drop("b.content.jpg", since=40),
        drop("b.style.jpg", since=0),
    ]
    grouping = sort(files, {"scream/vip.yaml": b"priority: 5"})
    order = [candidate.files[0].name for candidate in grouping.candidates]
    assert order == ["vip.jpg", "b.content.jpg", "old.jpg", "new.jpg"]


def test_a_sidecar_is_read_again_only_when_it_changes() -> None:
    reads = []

    def read(file: InboxFile) -> bytes:
        reads.append(file.name)
        return b"size: x"

    reader, file = SidecarReader(read), drop("a.yaml")
    for each in (file, file, replace(file, ctime_ns=2)):
        with pytest.raises(SidecarError):
            reader(each)
    assert len(reads) == 2
    reader.keep_only([])
    with pytest.raises(SidecarError):
        reader(file)
    assert len(reads) == 3


# --- whatever lies there ---------------------------------------------------------------------

FOLDERS = ["", "scream", "empty", "holiday"]
STEMS = ["a", "A", "b"]
ENDINGS = [
    ".jpg", ".png", ".cr2", ".content.jpg", "_style.png", "-style2.jpg", ".mask.png", ".yaml",
    ".json", "\n.jpg",
]  # fmt: skip
TEXTS = [
    b"size: 64", b"style: scream", b"content: a.jpg", b"content: b.png\nstyle: a.jpg", b"", b"x: 1",
    b"size: x", b"content: gone.jpg", b"style: empty", b"style: unknown", b"mask: a.mask.png",
    b"content: a.content.jpg\nstyle: [scream, b_style.png]\npriority: 3",
]  # fmt: skip


@st.composite
def inboxes(draw: st.DrawFn) -> tuple[list[InboxFile], dict[str, bytes]]:
    every = [
        f"{folder}/{stem}{ending}" if folder else f"{stem}{ending}"
        for folder, stem, ending in itertools.product(FOLDERS, STEMS, ENDINGS)
    ]
    chosen = draw(st.lists(st.sampled_from(every), max_size=14, unique=True))
    files = [
        drop(
            path, settled=draw(st.booleans()) or draw(st.booleans()), since=draw(st.integers(0, 99))
        )
        for path in chosen
    ]
    texts = {file.path: draw(st.sampled_from(TEXTS)) for file in files}
    return files, texts


@settings(max_examples=300, deadline=None)
@given(inboxes(), st.sampled_from([100.0, 5000.0]), st.sampled_from([None, "scream"]), st.randoms())
def test_every_file_is_in_one_place_whatever_the_order(
    inbox: tuple[list[InboxFile], dict[str, bytes]],
    now: float,
    default_style: str | None,
    shuffler: random.Random,
) -> None:
    files, texts = inbox
    grouping = sort(files, texts, now=now, default_style=default_style)
    placed = Counter(
        [file.path for candidate in grouping.candidates for file in candidate.files]
        + [each.file.path for each in grouping.waiting]
        + [file.path for file in grouping.ignored_files]
    )
    old = {file.path for file in files if file.taken}
    assert {path: n for path, n in placed.items() if path not in old} == {
        file.path: 1 for file in files if not file.taken
    }
    assert all(n == 1 for n in placed.values())
    assert all(any(not file.taken for file in each.files) for each in grouping.candidates)
    assert sum(grouping.ignored.values()) == len(grouping.ignored_files)
    for candidate in grouping.candidates:
        assert all(file.settled for file in candidate.files)
        assert (candidate.spec is not None) or (candidate.error is not None)
        assert len({file.folder for file in candidate.files}) == 1
    for waiting in grouping.waiting:
        assert waiting.reason
        assert waiting.reason.isprintable()
    shuffled = list(files)
    shuffler.shuffle(shuffled)
    again = sort(shuffled, texts, now=now, default_style=default_style)
    assert repr(again) == repr(grouping)  # errors are equal only in words


@settings(max_examples=100, deadline=None)
@given(inboxes())
def test_in_the_end_every_settled_file_is_a_job_or_foreign(
    inbox: tuple[list[InboxFile], dict[str, bytes]],
) -> None:
    """Admitting what can be admitted, again and again, leaves nothing behind but foreign files."""
    files = [replace(file, settled=True, taken=False) for file in inbox[0]]
    for _turn in range(50):
        grouping = sort(files, inbox[1], now=1e9)
        gone = {
            each.file.path
            for candidate in grouping.candidates
            for each in candidate.inputs
            if not each.stays
        }
        if not grouping.candidates:
            break
        files = [file for file in files if file.path not in gone]
    assert grouping.waiting == ()
    assert {file.path for file in files} == {file.path for file in grouping.ignored_files}
