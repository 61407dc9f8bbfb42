from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nstd.service.page import render, words
from nstd.service.snapshot import (
    EndedJob,
    FolderView,
    QueuedJob,
    RunningJob,
    Snapshot,
    WaitingFile,
    WorkerView,
)

EVIL = "<script>alert(1)</script>\"'&\n\x1b[31m\u202e\udcff.jpg"
VIEWS = [render.live, render.static]


def everything(name: str = "beach.jpg") -> Snapshot:
    job = RunningJob(
        "ID1",
        name,
        name,
        "w0",
        "optimize",
        950.0,
        step=60,
        steps=120,
        level=2,
        levels=5,
        width=512,
        height=384,
        seconds=47.0,
        eta_s=33.0,
        losses={"total": 82.1, "style": 61.0},
        history=((1, 90.0), (2, 85.0), (3, 80.0)),
        preview=f"previews/{name}",
    )
    done = EndedJob(
        "ID4", name, name, "done", 980.0, 61.0, picture=f"x/{name}", report=f"x/{name}.json"
    )
    failed = EndedJob("ID5", name, name, "failed", 970.0, error=name, remedy=name, folder=name)
    return Snapshot(
        taken=1000.0,
        state="ready",
        version="1.0",
        started=0.0,
        notes=(name,),
        weights=name,
        device="cpu",
        pending={"queued": 70, "running": 1, "waiting": 1, "deferred": 1},
        totals={"done": 7, "failed": 30},
        running=(job,),
        queued=(QueuedJob("ID2", name, name, 900.0, priority=3),),
        deferred=(QueuedJob("ID3", name, name, 900.0, attempts=2, retry_at=1095.0, reason=name),),
        waiting=(WaitingFile(name, name, 700.0, 1600.0),),
        recent=(done,),
        failed=(failed,),
        workers=(WorkerView("w0", "busy", "cpu", problem=name),),
        folders=(FolderView("inbox", f"/srv/{name}", 12 * 2**30, problem=name),),
        ignored={"temp": 3, "hidden": 0, "extension": 2},
        no_images=(name,),
        styles=(name,),
    )


class Checker(HTMLParser):
    """Collects tags, and complains about what is closed without having been opened."""

    VOID = frozenset({"meta", "img", "link", "br", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["beach.jpg", EVIL])
def test_the_page_is_well_formed_whatever_files_are_called(
    view: Callable[[Snapshot], str], name: str
) -> None:
    page = Checker(view(everything(name)))
    assert page.open == []
    assert page.tags.count("script") == 1


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_names_are_text(view: Callable[[Snapshot], str]) -> None:
    page = view(everything(EVIL))
    assert "<script>alert" not in page
    assert not {"\x1b", "\u202e", "\udcff"} & set(page)
    assert "\\x1b[31m\\u202e\\xff" in Checker(page).words
    page.encode()


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_needs_nothing_from_elsewhere(view: Callable[[Snapshot], str]) -> None:
    page = view(everything())
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_the_live_page_takes_pictures_from_the_daemon_by_job() -> None:
    assert set(Checker(render.live(everything(EVIL))).urls) == {
        "/preview/ID1",
        "/picture/ID4",
        "/report/ID4",
    }


def test_the_file_links_beside_itself_and_nowhere_else() -> None:
    urls = Checker(render.static(everything("a b%#?.jpg"))).urls
    assert "./previews/a%20b%25%23%3F.jpg" in urls
    assert all(url.startswith("./") for url in urls)


def test_a_name_cannot_become_a_scheme_or_a_host() -> None:
    assert words.link("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    assert words.link("//evil/x") == ".///evil/x"
    assert words.link("a\udcffb") == "./a%FFb"


@pytest.mark.parametrize("view", VIEWS)
def test_everything_that_matters_is_said(view: Callable[[Snapshot], str]) -> None:
    page = Checker(view(everything("beach.jpg"))).words
    for text in (
        "painting",
        "50 %",
        "step 60 of 120",
        "level 3 of 5",
        "512 × 384 px",
        "about 33 s left",
        "0:47 so far",
        "82.1",
        "1 picture is being painted, 71 more wait in the queue",
        "given up in 10 min",
        "in 2 min",
        "priority 3",
        "nstd retry ID5",
        "failed/beach.jpg",
        "the first 1 of 70",
        "and 29 earlier",
        "took 61 s",
        "12 GiB free",
        "3 temporary",
        "2 of no image type (",
        "nstd 1.0 with beach.jpg weights, up for 17 min",
    ):
        assert text in page, text


@pytest.mark.parametrize("view", VIEWS)
def test_old_failures_stand_behind_the_pictures(view: Callable[[Snapshot], str]) -> None:
    house = everything()
    failed = tuple(dataclasses.replace(house.failed[0], id=f"F{n}") for n in range(9))
    page = Checker(view(dataclasses.replace(house, failed=failed))).words
    places = [page.index(text) for text in ("F0", "F2", "Lately finished", "Failed earlier", "F8")]
    assert places == sorted(places)
    assert page.index("F3") > page.index("Failed earlier")
    assert "and 27 earlier" in page


def test_an_empty_house_invites() -> None:
    page = Checker(render.live(Snapshot(0.0, "ready", styles=("starry-night",)))).words
    assert "Nothing to do." in page
    assert "starry-night" in page
    assert "Put a photograph into one of these folders" in page
    assert "Put a painting into styles/" in Checker(render.live(Snapshot(0.0, "ready"))).words


def test_the_title_shows_the_progress() -> None:
    assert "<title>50 % · beach.jpg · nstd</title>" in render.live(everything())
    assert "<title>nstd · not running</title>" in render.static(Snapshot(0.0, "down"))


def test_the_policy_allows_exactly_the_script_that_is_inside() -> None:
    for script in ("live.js", "stale.js"):
        assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", render.policy(script))
    assert render.policy("live.js") != render.policy("stale.js")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (41.4, "41 s"),
        (89, "89 s"),
        (725, "12 min"),
        (11_000, "3 h"),
        (200_000, "2 days"),
    ],
)
def test_lengths_of_time_are_said_in_words(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (12 * 2**30, "12 GiB")]
)
def test_sizes_are_said_in_words(count: int, text: str) -> None:
    assert words.size(count) == text


def test_a_sparkline_needs_two_points_and_survives_odd_losses() -> None:
    assert words.sparkline([(1, 5.0)]) == ""
    assert words.sparkline([(1, 0.0), (2, -1.0), (3, 4.0)]) == ""
    flat = words.sparkline([(1, 5.0), (2, 5.0)])
    assert "NaN" not in flat.upper().replace("NAME", "")
    assert flat.count("<path") == 2


def test_a_diverged_loss_is_called_what_it_is() -> None:
    assert words.number(float("nan")) == "not a number"
    assert words.number(None) == "not a number"
    assert words.number(82.123) == "82.1"


@pytest.mark.browser
def test_a_browser_shows_the_file_without_a_complaint(chromium: str, tmp_path: Path) -> None:
    page = tmp_path / "status.html"
    page.write_text(render.static(everything(EVIL)), encoding="utf-8")
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in "".join(
        line for line in done.stderr.splitlines(keepends=True) if "ERR_FILE_NOT_FOUND" not in line
    )
    # The page is of the year 1970: its script says that nobody renews it.
    assert '<p class="stale" role="alert">' in done.stdout
