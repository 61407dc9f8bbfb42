from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.errors import DecodeError, StorageError, UsageError
from nstd.jobs.job import Job, Output, new_id
from nstd.jobs.ledger import Ledger
from nstd.jobs.spec import JobSpec, StyleChoice
from nstd.service import jobs_view, status
from nstd.service.config import Config, load
from nstd.service.http import HttpDoor, Sources
from nstd.service.lock import StateLock
from nstd.service.metrics import Metrics
from nstd.service.snapshot import Snapshot

NOW = 1_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = load(root=tmp_path)
    for path in config.folders.by_name().values():
        path.mkdir()
    return config


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    with Ledger(str(config.folders.state / status.LEDGER_FILE), clock=lambda: NOW) as ledger:
        yield ledger


def job(ledger: Ledger, name: str, **changes: object) -> str:
    spec = JobSpec(name, (StyleChoice("starry", library=True),), folder="starry", stem=name)
    blank = Job(new_id(NOW), "queued", spec, "starry", (), "move", NOW - 60, NOW - 50)
    made = dataclasses.replace(blank, **changes)  # type: ignore[arg-type]
    ledger.admit(made)
    return made.id


def failed(ledger: Ledger, name: str) -> str:
    number = job(ledger, name)
    ledger.begin_failing(number, DecodeError("It is damaged.", "Copy it again."), f"x-{number}")
    ledger.failed(number)
    return number


def test_a_folder_where_nothing_ever_ran_is_empty_and_down(tmp_path: Path) -> None:
    snapshot = status.gather(load(root=tmp_path / "none"), NOW)
    assert snapshot.state == "down"
    assert snapshot.pid is None
    assert all(folder.problem for folder in snapshot.folders)
    assert not (tmp_path / "none").exists()


def test_a_state_folder_that_one_may_not_look_into_is_told_from_an_empty_one(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    for ask in (status.gather, lambda config: status.ask(config, "retry", None)):
        with pytest.raises(StorageError, match="cannot be looked into: Perm") as caught:
            ask(config)
        assert "group" in caught.value.remedy


def test_a_stopped_daemon_is_read_from_its_ledger(config: Config, ledger: Ledger) -> None:
    queued = job(ledger, "queued.jpg", priority=3)
    done = job(ledger, "done.jpg")
    ledger.start(done)
    ledger.begin_delivery(
        done,
        [Output("starry/done.json", "", "report"), Output("starry/done.jpg", "", "picture")],
    )
    ledger.delivered(done, losses={"total": 2.0})
    ledger.done(done)
    bad = failed(ledger, "bad.jpg")
    later = job(ledger, "later.jpg")
    ledger.start(later)
    ledger.defer(later, NOW + 60, DecodeError("No memory.", "Wait."))
    snapshot = status.gather(config, NOW)
    assert snapshot.totals == {"done": 1, "failed": 1, "cancelled": 0}
    assert [(j.id, j.name, j.priority) for j in snapshot.queued] == [
        (queued, "starry/queued.jpg", 3)
    ]
    (ended,) = snapshot.recent
    assert (ended.id, ended.picture, ended.report) == (done, "starry/done.jpg", "starry/done.json")
    assert (ended.outcome, ended.seconds, ended.losses) == ("done", 60.0, {"total": 2.0})
    (failure,) = snapshot.failed
    assert (failure.id, failure.error, failure.remedy) == (bad, "It is damaged.", "Copy it again.")
    assert (failure.folder, failure.reason) == (f"x-{bad}", "decode")
    (deferred,) = snapshot.deferred
    assert (deferred.reason, deferred.retry_at) == ("No memory.", NOW + 60)
    assert snapshot.pending["queued"] == snapshot.pending["deferred"] == 1


def test_a_job_under_way_counts_as_running(ledger: Ledger) -> None:
    number = job(ledger, "a.jpg")
    ledger.start(number)
    (running,) = jobs_view.fields(ledger)["running"]
    assert (running.id, running.stage, running.started) == (number, "optimize", NOW)
    ledger.begin_delivery(number, [])
    (running,) = jobs_view.fields(ledger)["running"]
    assert running.stage == "deliver"


def test_files_in_the_inbox_of_a_stopped_daemon_wait_for_it(config: Config) -> None:
    (config.folders.inbox / "sub").mkdir()
    for name in ("a.jpg", "sub/b.png", ".hidden.jpg", "notes.txt"):
        (config.folders.inbox / name).write_bytes(b"x")
    snapshot = status.gather(config)
    assert sorted(file.name for file in snapshot.waiting) == ["a.jpg", "sub/b.png"]
    assert "not running" in snapshot.waiting[0].reason
    assert snapshot.pending["waiting"] == 2
    assert sum(snapshot.ignored.values()) == 2


def serve(config: Config, snapshot: Snapshot) -> HttpDoor:
    sources = Sources(
        Metrics().registry, lambda: snapshot, lambda: "", lambda: "", config.folders.outbox
    )
    door = HttpDoor("127.0.0.1:0", sources, state=config.folders.state)
    door.start()
    return door


def test_a_running_daemon_is_asked(config: Config) -> None:
    told = Snapshot(NOW, "ready", pid=os.getpid(), notes=("Hello.",))
    door = serve(config, told)
    try:
        assert status.gather(config).state == "down"  # the file alone proves nothing
        with StateLock(str(config.folders.state)):
            assert status.gather(config) == told
    finally:
        door.stop()


@pytest.mark.parametrize("listen", [None, "nonsense", "127.0.0.1:1", ""])
def test_a_daemon_that_does_not_answer_is_said_to_run(config: Config, listen: str | None) -> None:
    if listen is not None:
        (config.folders.state / "listen").write_text(listen)
    with StateLock(str(config.folders.state)):
        snapshot = status.gather(config, NOW)
    assert snapshot.state == "ready"
    assert snapshot.pid == os.getpid()
    assert "does not answer" in snapshot.notes[0]


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - read, not bound
        ("::", "::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_port_on_every_address_is_found_here(host: str, reached: str) -> None:
    assert status._reachable(host) == reached


# --- asking ------------------------------------------------------------------------------------


def test_a_wish_to_a_stopped_daemon_is_noted(config: Config, ledger: Ledger) -> None:
    number = failed(ledger, "a.jpg")
    (reply,) = status.ask(config, "retry", number[-6:])
    assert reply.line.startswith(f"{number}: noted")
    assert not reply.refused
    (request,) = ledger.requests()
    assert (request.kind, request.job) == ("retry", number)


def test_the_answer_of_a_running_daemon_is_passed_on(config: Config, ledger: Ledger) -> None:
    first, second = failed(ledger, "a.jpg"), failed(ledger, "b.jpg")
    times = iter(range(1000))

    def clock() -> float:
        for request in ledger.requests():
            ledger.answer(request.number, "" if request.job == first else "Its inputs are gone.")
        return float(next(times))

    with StateLock(str(config.folders.state)):
        replies = status.ask(config, "retry", None, clock=clock)
    assert set(replies) == {
        status.Reply(f"{first}: is queued again."),
        status.Reply(f"{second}: Its inputs are gone.", refused=True),
    }


def test_a_daemon_that_is_slow_to_answer_is_not_waited_for_for_ever(
    config: Config, ledger: Ledger
) -> None:
    number = job(ledger, "a.jpg")
    with StateLock(str(config.folders.state)):
        (reply,) = status.ask(config, "cancel", number, wait_s=0)
    assert "has not answered yet" in reply.line


def test_only_what_can_be_done_is_asked_for(config: Config, ledger: Ledger) -> None:
    queued, bad = job(ledger, "a.jpg"), failed(ledger, "b.jpg")
    with pytest.raises(UsageError, match="is queued, not failed"):
        status.ask(config, "retry", queued)
    with pytest.raises(UsageError, match="is failed already"):
        status.ask(config, "cancel", bad)
    with pytest.raises(UsageError, match="There is no job 'zzz'"):
        status.ask(config, "retry", "zzz")
    assert ledger.requests() == []


def test_a_failed_job_that_was_retried_is_not_retried_by_failed(
    config: Config, ledger: Ledger
) -> None:
    old, fresh = failed(ledger, "a.jpg"), failed(ledger, "b.jpg")
    job(ledger, "a.jpg", retry_of=old)
    replies = status.ask(config, "retry", None)
    assert [reply.line.partition(":")[0] for reply in replies] == [fresh]


def test_without_a_ledger_there_is_nothing_to_ask_for(config: Config) -> None:
    with pytest.raises(UsageError, match="There are no jobs"):
        status.ask(config, "cancel", "x")
    assert not (config.folders.state / status.LEDGER_FILE).exists()
