"""Jobs of a kind share a worker; nobody waits longer for it than for one round of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nstd.service.company import Companies
from tests.service.kit import Bench, picture

WIDE, TALL = (64, 48), (48, 64)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, places=3, **{"worker.batch": 3})
    made.style()
    made.tick()
    yield made
    made.stop()


def drop(bench: Bench, name: str, shape: tuple[int, int] = WIDE, **settings: Any) -> None:
    """Put a photograph into the inbox, with a sidecar where it asks for something."""
    picture(bench.root / "inbox" / f"{name}.jpg", shape)
    values = {"content": f"{name}.jpg", "style": "starry", **settings}
    text = "".join(f"{key}: {value}\n" for key, value in values.items())
    (bench.root / "inbox" / f"{name}.yaml").write_text(text)
    bench.tick(0.01)  # first seen in this order


def come(bench: Bench, *names: str, **settings: Any) -> None:
    """Let photographs arrive one after the other, and settle."""
    for name in names:
        drop(bench, name, TALL if name.startswith("tall") else WIDE, **settings)
        bench.daemon.watcher.hint()
        bench.tick(1.1)
    bench.settle()


def painting(bench: Bench) -> list[str]:
    return [name_of(bench, job_id) for job_id in bench.executor.tasks]


def name_of(bench: Bench, job_id: str) -> str:
    spec = bench.daemon.house.ledger.get(job_id).spec
    assert spec is not None
    return spec.result_stem


def id_of(bench: Bench, name: str) -> str:
    return next(job.id for job in bench.jobs() if name_of(bench, job.id) == name)


def finish(bench: Bench, *names: str) -> None:
    for name in names:
        bench.executor.finish(id_of(bench, name))
    bench.tick(1.0)
    bench.tick(1.0)


def hold(bench: Bench) -> None:
    """Keep the queue from being handed out while it fills."""
    bench.executor.slots = 0


def release(bench: Bench) -> None:
    bench.executor.slots = 1
    bench.tick(1.0)


# --- who shares ----------------------------------------------------------------------------------


def test_jobs_of_a_kind_run_together_up_to_the_number_of_places(bench: Bench) -> None:
    come(bench, "a", "b", "c", "d")
    assert painting(bench) == ["a", "b", "c"]
    finish(bench, "b")
    assert painting(bench) == ["a", "c", "d"]
    bench.paint()
    assert {job.state for job in bench.jobs()} == {"done"}
    assert bench.outbox() == sorted(f"{n}.{k}" for n in "abcd" for k in ("jpg", "json"))


@pytest.mark.parametrize(
    "settings",
    [{"size": 256}, {"iterations": 7}, {"style_weight": 3.0}, {"priority": -1}],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_jobs_that_ask_for_something_else_do_not(bench: Bench, settings: dict[str, Any]) -> None:
    come(bench, "a")
    come(bench, "b", **settings)
    assert painting(bench) == ["a"]


def test_another_style_or_seed_is_no_reason_to_wait(bench: Bench) -> None:
    bench.style("scream")
    come(bench, "a")
    come(bench, "b", seed=5)
    come(bench, "c", style="scream")
    assert painting(bench) == ["a", "b", "c"]


def test_pictures_of_another_shape_do_not_share(bench: Bench) -> None:
    come(bench, "wide", "tall")
    assert painting(bench) == ["wide"]


def test_a_turned_photograph_has_the_shape_in_which_it_is_seen(
    bench: Bench, tmp_path: Path
) -> None:
    from PIL import Image

    come(bench, "tall")
    drop(bench, "turned", WIDE)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise(WIDE, 60).convert("RGB").save(bench.root / "inbox/turned.jpg", exif=exif)
    bench.settle()
    assert painting(bench) == ["tall", "turned"]


def test_auto_leaves_large_pictures_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, places=3)
    bench.style()
    come(bench, "a", "b", size=1024)
    assert painting(bench) == ["a"]
    finish(bench, "a")
    finish(bench, "b")
    come(bench, "c", "d", size=512)
    assert painting(bench) == ["c", "d"]
    bench.stop()


def test_one_at_a_time_where_that_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, places=3, **{"worker.batch": 1})
    bench.style()
    come(bench, "a", "b")
    assert painting(bench) == ["a"]
    bench.stop()


# --- in which order ------------------------------------------------------------------------------


def test_jobs_behind_the_next_one_join_their_like_only_while_a_round_gathers(bench: Bench) -> None:
    hold(bench)
    come(bench, "wide1", "tall1", "wide2", "tall2")
    release(bench)
    assert painting(bench) == ["wide1", "wide2"]
    come(bench, "wide3")
    assert painting(bench) == ["wide1", "wide2", "wide3"]
    finish(bench, "wide2")
    come(bench, "wide4")  # there is room, but tall1 has waited for a round already
    assert painting(bench) == ["wide1", "wide3"]
    finish(bench, "wide1", "wide3")
    assert painting(bench) == ["tall1", "tall2"]
    finish(bench, "tall1", "tall2")
    assert painting(bench) == ["wide4"]


def test_nobody_less_urgent_slips_in_before_a_more_urgent_one(bench: Bench) -> None:
    come(bench, "wide1")
    hold(bench)
    come(bench, "tall1", priority=5)
    come(bench, "wide2")
    release(bench)
    assert painting(bench) == ["wide1"]
    finish(bench, "wide1")
    assert painting(bench) == ["tall1"]


def test_the_next_in_the_queue_joins_its_like_at_any_time(bench: Bench) -> None:
    come(bench, "a", "b")
    finish(bench, "a")
    come(bench, "c")
    assert painting(bench) == ["b", "c"]


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_worker_that_dies_with_three_jobs_loses_none_and_blames_none(bench: Bench) -> None:
    come(bench, "a", "b", "c")
    for job_id in bench.executor.tasks:
        bench.executor.step(job_id)
    bench.executor.die_with_all()
    bench.tick(1.0)
    assert painting(bench) == ["a"]  # and from now on each is alone
    assert [job.worker_deaths for job in bench.jobs()] == [0, 0, 0]
    for name in ("a", "b", "c"):
        assert painting(bench) == [name]
        finish(bench, name)
    assert [job.state for job in bench.jobs()] == ["done"] * 3
    assert bench.outbox() == sorted(f"{n}.{k}" for n in "abc" for k in ("jpg", "json"))
    assert bench.executor.history.count(id_of(bench, "a")) == 2


def test_alone_a_job_shows_whether_it_was_its_fault(bench: Bench) -> None:
    come(bench, "bad", "good")
    bench.executor.die_with_all()
    bench.tick(1.0)
    assert painting(bench) == ["bad"]
    bench.executor.die(id_of(bench, "bad"))
    bench.tick(1.0)
    finish(bench, "good")
    bench.tick(1000.0)
    assert painting(bench) == ["bad"]
    bench.executor.die(id_of(bench, "bad"))
    bench.tick(1.0)
    bench.tick(1.0)
    assert bench.daemon.house.ledger.get(id_of(bench, "bad")).reason == "stuck"
    assert bench.daemon.house.ledger.get(id_of(bench, "bad")).worker_deaths == 2
    assert bench.daemon.house.ledger.get(id_of(bench, "good")).state == "done"


def test_a_job_that_failed_for_a_passing_reason_comes_back_alone(bench: Bench) -> None:
    come(bench, "a", "b")
    bench.executor.fail(id_of(bench, "a"), "oom", retry=True)
    bench.tick(1.0)
    bench.tick(1000.0)
    assert painting(bench) == ["b"]
    finish(bench, "b")
    assert painting(bench) == ["a"]
    come(bench, "c")
    assert painting(bench) == ["a"]


def test_one_that_fails_or_is_cancelled_leaves_the_others_running(bench: Bench) -> None:
    come(bench, "a", "b", "c")
    bench.executor.fail(id_of(bench, "a"), "decode", retry=False)
    assert bench.daemon.dispatch.cancel(id_of(bench, "b"))
    bench.executor.fail(id_of(bench, "b"), "cancelled", retry=False)
    bench.tick(1.0)
    bench.tick(1.0)
    states = {name: bench.daemon.house.ledger.get(id_of(bench, name)).state for name in "abc"}
    assert states == {"a": "failed", "b": "cancelled", "c": "running"}


def test_a_stop_gives_all_of_them_back_to_the_queue(bench: Bench) -> None:
    come(bench, "a", "b", "c")
    bench.restart()
    assert [(job.state, job.attempts) for job in bench.jobs()] == [("queued", 0)] * 3
    bench.tick(1.0)
    assert painting(bench) == ["a", "b", "c"]


def test_after_a_crash_of_the_daemon_each_goes_on_alone(bench: Bench) -> None:
    come(bench, "a", "b")
    bench.restart(crash=True)
    bench.tick(1.0)
    assert painting(bench) == ["a"]
    finish(bench, "a")
    assert painting(bench) == ["b"]


def test_a_job_whose_end_cannot_be_dealt_with_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    come(bench, "a", "b")
    monkeypatch.setattr(
        bench.daemon.house.ledger, "requeue", lambda *_: (_ for _ in ()).throw(ValueError("boom"))
    )
    bench.executor.die_with_all()
    bench.tick(1.0)
    bench.tick(1.0)
    assert [job.state for job in bench.jobs()] == ["failed", "failed"]


# --- what is shown -------------------------------------------------------------------------------


def test_the_snapshot_shows_every_job_of_a_worker(bench: Bench) -> None:
    come(bench, "a", "b")
    bench.tick(1.0)
    (worker,) = bench.daemon.upkeep.snapshot.workers
    assert worker.jobs == (id_of(bench, "a"), id_of(bench, "b"))
    assert worker.job == id_of(bench, "a")


def test_what_is_known_of_shapes_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nstd.service.company.MAX_KNOWN", 2)
    come(bench, "a")
    companies, job = Companies(bench.daemon.house), bench.job()
    job = dataclasses.replace(job, attempts=0)
    for number in range(5):
        assert companies.of(dataclasses.replace(job, id=f"{number}"))
    assert len(companies._shapes) <= 2
