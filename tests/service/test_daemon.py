"""The loop, tick by tick, with pretended workers and a clock in hand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from structlog.testing import capture_logs

from nstd.engine.device import Machine
from nstd.errors import DeviceError, StorageError, WeightsError
from nstd.jobs.inputs import Candidate
from nstd.jobs.job import Job
from nstd.jobs.ledger import Ledger
from nstd.service import logs, menu, places, upkeep
from nstd.workers.executor import JobFinished, WorkerFailed, WorkerGone
from tests.service.kit import Bench, picture, refusing


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()


def small(tmp_path: Path, **settings: object) -> Bench:
    return Bench(tmp_path, **settings)


# --- the way of a photograph ---------------------------------------------------------------------


def test_a_photograph_in_a_style_folder_becomes_a_picture(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.paint()
    assert bench.outbox() == ["starry/beach.jpg", "starry/beach.json"]
    assert bench.listing("originals") == ["starry/beach.jpg"]
    assert bench.listing("inbox") == []
    assert bench.listing("state/spool") == []
    assert bench.job().state == "done"


def test_the_library_is_the_menu_of_the_inbox(bench: Bench) -> None:
    bench.style("starry")
    bench.tick()
    assert (bench.root / "inbox" / "starry").is_dir()
    bench.style("scream")
    bench.tick(20.0)
    assert (bench.root / "inbox" / "scream").is_dir()


def test_nothing_is_touched_before_it_has_settled(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.tick(1.0)
    bench.tick(1.0)
    assert bench.jobs() == []
    assert bench.listing("inbox") == ["starry/beach.jpg"]
    (waiting,) = bench.daemon.upkeep.snapshot.waiting
    assert waiting.settling
    assert "may still be written" in waiting.reason


def test_a_photograph_without_a_style_waits_and_then_fails_with_what_to_do(bench: Bench) -> None:
    bench.drop("beach.jpg")
    bench.settle()
    assert bench.jobs() == []
    (waiting,) = bench.daemon.upkeep.snapshot.waiting
    assert "style" in waiting.reason
    bench.tick(1000.0)
    bench.tick(1.0)
    assert bench.job().state == "failed"
    (text,) = [bench.root / "failed" / n for n in bench.listing("failed") if n.endswith(".txt")]
    assert "inbox/<style>/" in text.read_text()
    assert bench.listing("inbox") == []


def test_a_damaged_sidecar_takes_its_photograph_along_and_the_next_job_runs(bench: Bench) -> None:
    bench.style()
    bench.drop("beach.jpg")
    (bench.root / "inbox" / "beach.yaml").write_text("content: beach.jpg\nstile: starry\n")
    bench.drop("starry/next.jpg")
    bench.settle()
    bench.paint()
    names = [os.path.basename(name) for name in bench.listing("failed")]
    assert sorted(names) == ["beach.jpg", "beach.yaml", "error.json", "error.txt"]
    assert bench.outbox() == ["starry/next.jpg", "starry/next.json"]


def test_unsafe_files_stay_and_say_why(bench: Bench) -> None:
    bench.style()
    os.mkfifo(bench.root / "inbox" / "pipe.jpg")
    bench.drop("starry/next.jpg")
    bench.settle()
    bench.paint()
    (waiting,) = bench.daemon.upkeep.snapshot.waiting
    assert "a pipe" in waiting.reason
    assert bench.outbox() == ["starry/next.jpg", "starry/next.json"]


HOSTILE = [
    b"new\nline.jpg", b"esc\x1b[31mape.jpg", "\u202egpj.exe.jpg".encode(), b"\xff\xfe.jpg",
    b"-rf.jpg", b"a" * 251 + b".jpg", "🏖 beach.jpg".encode(), b"CON.jpg", b"a:b.jpg",
    b"' OR 1=1 --.jpg", b"<script>alert(1)</script>.jpg", b"%s%n.jpg", b"error.txt.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_ends_in_one_place_and_the_next_job_runs(bench: Bench, name: bytes) -> None:
    bench.style()
    source = bench.drop("source.jpg")
    target = os.path.join(os.fsencode(bench.root), b"inbox", b"starry", name)
    os.makedirs(os.path.dirname(target))
    source.rename(os.fsdecode(target))
    bench.settle()
    bench.paint(10)
    bench.drop("starry/next.jpg")
    bench.settle()
    bench.paint()
    assert sorted(job.state for job in bench.jobs()) in (["done", "done"], ["done", "failed"])
    assert "starry/next.jpg" in bench.outbox()
    assert bench.listing("inbox") == []
    assert bench.listing("state/spool") == []
    bench.tick(20.0)
    page = (bench.root / "outbox" / "status.html").read_text()
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert bench.daemon.upkeep.snapshot.to_json().isascii()


@pytest.mark.parametrize("folder", [b"\xff\xfe", b"new\nline", "\u202egpj".encode(), b"a" * 255])
def test_a_hostile_folder_name_takes_nothing_down(bench: Bench, folder: bytes) -> None:
    bench.style()
    source = bench.drop("source.jpg")
    target = os.path.join(os.fsencode(bench.root), b"inbox", b"starry", folder, b"beach.jpg")
    os.makedirs(os.path.dirname(target))
    source.rename(os.fsdecode(target))
    bench.settle()
    bench.paint(10)
    bench.drop("starry/next.jpg")
    bench.settle()
    bench.paint()
    assert sorted(job.state for job in bench.jobs()) in (["done", "done"], ["done", "failed"])
    assert "starry/next.jpg" in bench.outbox()


# --- the queue -----------------------------------------------------------------------------------


def test_a_full_queue_leaves_files_in_the_inbox_and_each_is_painted_once(tmp_path: Path) -> None:
    bench = small(tmp_path, **{"queue.capacity_jobs": 3})
    bench.style()
    for number in range(10):
        bench.drop(f"starry/{number}.jpg")
    bench.settle()
    assert len(bench.listing("inbox")) == 7
    snapshot = bench.daemon.upkeep.snapshot
    assert snapshot.pending["waiting"] == 7
    assert "the queue is full" in snapshot.waiting[0].reason
    bench.paint()
    assert len(bench.outbox()) == 20
    assert len(bench.executor.history) == 10
    assert bench.listing("inbox") == []
    bench.stop()


def test_jobs_start_by_priority_and_then_by_age(tmp_path: Path) -> None:
    bench = small(tmp_path, **{"queue.capacity_jobs": 1})
    bench.style()
    bench.drop("starry/b.jpg")
    bench.tick(1.0)
    bench.drop("starry/a.jpg")
    bench.drop("starry/urgent.jpg")
    side = bench.root / "inbox" / "starry" / "urgent.yaml"
    side.write_text("content: urgent.jpg\npriority: 5\n")
    bench.settle()
    bench.paint()
    titles = [bench.daemon.house.ledger.get(job).title for job in bench.executor.history]
    assert titles == ["starry/urgent.jpg", "starry/b.jpg", "starry/a.jpg"]
    bench.stop()


def test_a_file_that_begins_to_change_in_the_queue_settles_anew(tmp_path: Path) -> None:
    bench = small(tmp_path, **{"queue.capacity_jobs": 1})
    bench.style()
    bench.drop("starry/a.jpg")
    late = bench.drop("starry/b.jpg")
    bench.settle()
    with late.open("ab") as file:
        file.write(b"more")
        file.flush()
        bench.paint(5)
        assert len(bench.executor.history) == 1
    bench.settle()
    bench.paint()
    assert len(bench.executor.history) == 2
    bench.stop()


# --- errors --------------------------------------------------------------------------------------


def test_a_passing_error_is_tried_again_after_a_pause(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "gpu", retry=True)
    bench.tick(1.0)
    assert bench.job().state == "deferred"
    assert bench.daemon.upkeep.snapshot.deferred[0].reason == "It failed: gpu."
    bench.tick(1.0)
    assert bench.job().state == "deferred"
    bench.tick(20.0)
    assert bench.job().state == "running"
    bench.paint()
    assert bench.job().state == "done"


def test_attempts_are_bounded(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    for _ in range(5):
        bench.executor.fail(bench.job().id, "oom", retry=True)
        bench.tick(1.0)
        bench.tick(2000.0)
    job = bench.job()
    assert (job.state, job.reason) == ("failed", "attempts")
    assert "5 times" in job.message


def test_an_error_of_the_input_fails_at_once(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "decode", retry=False)
    bench.tick(1.0)
    job = bench.job()
    assert (job.state, job.reason) == ("failed", "decode")
    assert len(bench.listing("failed")) == 3


def test_a_job_that_ends_its_worker_twice_is_set_aside(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.die(bench.job().id)
    bench.tick(1.0)
    assert bench.job().state == "deferred"
    bench.tick(100.0)
    bench.executor.die(bench.job().id)
    bench.tick(1.0)
    assert (bench.job().state, bench.job().reason) == ("failed", "stuck")


def test_a_worker_that_dies_before_the_first_step_does_not_count(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    for _ in range(3):
        bench.executor.die(bench.job().id, stepped=False)
        bench.tick(1.0)
        bench.tick(1000.0)
    assert bench.job().state == "running"
    assert bench.job().worker_deaths == 0


def test_an_exception_in_one_part_does_not_stop_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    monkeypatch.setattr(
        bench.daemon.requests, "look", lambda _now: (_ for _ in ()).throw(ValueError("boom"))
    )
    bench.settle()
    bench.paint()
    assert bench.job().state == "done"


def test_a_start_without_any_worker_ends_with_the_workers_reason(bench: Bench) -> None:
    bench.executor._events.clear()
    words = ("There are no weights.", "Fetch them.")
    bench.executor.say(WorkerFailed("w0", "cpu", "weights", *words, retry=False))
    bench.tick()
    with pytest.raises(WeightsError, match=r"There are no weights\."):
        bench.daemon._refuse_hopeless_start()


def test_workers_that_die_at_their_start_again_and_again_end_the_daemon(bench: Bench) -> None:
    bench.executor._events.clear()
    for _ in range(3):
        bench.executor.say(WorkerGone("w0", "crash", None, stepped=False))
    bench.tick()
    with pytest.raises(DeviceError, match="3 times"):
        bench.daemon._refuse_hopeless_start()


def test_a_job_that_no_worker_has_is_queued_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(
            bench.executor, "submit", lambda _task: (_ for _ in ()).throw(ValueError("boom"))
        )
        bench.settle()
        bench.tick(11.0)
    bench.tick(11.0)
    bench.tick(1.0)
    bench.paint()
    assert bench.job().state == "done"


def test_an_event_that_cannot_be_dealt_with_fails_its_job_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    with monkeypatch.context() as patch:
        patch.setattr(
            bench.daemon.endings,
            "begin_delivery",
            lambda *_: (_ for _ in ()).throw(ValueError("boom")),
        )
        bench.executor.finish(bench.job().id)
        bench.tick(1.0)
    assert bench.job().state == "failed"


# --- the disk ------------------------------------------------------------------------------------


def test_a_full_disk_pauses_admission_and_it_goes_on_by_itself(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    with refusing(errno.ENOSPC, "write"):
        bench.settle()
        bench.tick(5.0)
        assert bench.jobs() == []
        assert bench.listing("inbox") == ["starry/beach.jpg"]
        assert bench.daemon.upkeep.snapshot.state == "paused"
        assert any("no room" in note for note in bench.daemon.upkeep.snapshot.notes)
        assert bench.listing("state/spool") == []
    for _ in range(4):
        bench.tick(60.0)
    bench.paint()
    assert bench.job().state == "done"
    assert bench.daemon.upkeep.snapshot.state == "ready"


def test_a_full_outbox_keeps_the_picture_and_delivers_it_later(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.finish(bench.job().id)
    with refusing(errno.ENOSPC, "write"):
        for _ in range(10):
            bench.tick(30.0)
        assert bench.job().state == "delivering"
        assert bench.outbox() == []
        assert bench.daemon.upkeep.snapshot.state == "paused"
    for _ in range(3):
        bench.tick(60.0)
    assert bench.job().state == "done"
    assert bench.outbox() == ["starry/beach.jpg", "starry/beach.json"]
    assert bench.daemon.upkeep.snapshot.state == "ready"


def test_an_unwritable_place_of_one_job_does_not_stop_the_next(bench: Bench) -> None:
    bench.style()
    (bench.root / "outbox" / "starry").symlink_to("/tmp")
    bench.drop("starry/beach.jpg")
    bench.drop("next.content.jpg")
    bench.drop("next.style.jpg")
    bench.settle()
    for _ in range(4):
        for job_id in list(bench.executor.tasks):
            bench.executor.finish(job_id)
        bench.tick(1.0)
    assert bench.outbox() == ["next.jpg", "next.json", "starry"]
    notes = " ".join(bench.daemon.upkeep.snapshot.notes)
    assert "link" in notes
    (bench.root / "outbox" / "starry").unlink()
    for _ in range(3):
        bench.tick(60.0)
    assert bench.outbox() == ["next.jpg", "next.json", "starry/beach.jpg", "starry/beach.json"]


def test_a_refused_failure_folder_is_tried_again(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "decode", retry=False)
    with refusing(errno.EROFS, "mkdir"):
        bench.tick(1.0)
        assert bench.job().state == "failing"
    bench.tick(10.0)
    assert bench.job().state == "failed"
    assert len(bench.listing("failed")) == 3


def test_what_a_worker_said_is_not_lost_when_the_ledger_cannot_take_it(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.finish(bench.job().id)
    with refusing(errno.ENOSPC, "commit"):
        for _ in range(5):
            bench.tick(1.0)
        assert bench.job().state == "running"
    for _ in range(3):
        bench.tick(60.0)
    assert bench.job().state == "done"


def test_one_file_that_cannot_be_read_waits_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/bad.jpg")
    bench.drop("starry/good.jpg")
    real = bench.daemon.house.spool.admit

    def admit(candidate: Candidate, *rest: Any) -> Job:
        if candidate.title == "starry/bad.jpg":
            raise StorageError("The file system refused 'bad.jpg' (Input/output error).")
        return real(candidate, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(bench.daemon.house.spool, "admit", admit)
        bench.settle()
        bench.paint(3)
        assert bench.outbox() == ["starry/good.jpg", "starry/good.json"]
        assert bench.listing("inbox") == ["starry/bad.jpg"]
        (waiting,) = bench.daemon.upkeep.snapshot.waiting
        assert "Input/output error" in waiting.reason
        assert bench.daemon.upkeep.snapshot.state == "ready"
    bench.tick(60.0)
    bench.tick(1.0)
    bench.paint()
    assert len(bench.outbox()) == 4


def test_a_style_library_that_cannot_be_read_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.tick()

    def refuse(_path: str) -> None:
        raise StorageError("The file system refused 'styles' (Input/output error).")

    monkeypatch.setattr(menu, "scan_library", refuse)
    bench.drop("starry/a.jpg")
    bench.tick(10.0)
    bench.settle()
    bench.paint()
    assert bench.job().state == "done"
    assert any("styles" in note for note in bench.daemon.upkeep.snapshot.notes)


def test_too_little_room_pauses_the_queue_before_the_disk_is_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "_free_bytes", lambda _path: 1000)
        bench.tick(10.0)
        bench.settle()
        assert bench.jobs() == []
        notes = bench.daemon.upkeep.snapshot.notes
        assert any("free_space_floor_bytes" in note for note in notes)
    bench.tick(10.0)
    bench.tick(1.0)
    bench.paint()
    assert bench.job().state == "done"


# --- the inbox itself ----------------------------------------------------------------------------


def test_an_inbox_that_somebody_deletes_is_made_anew_with_its_menu(bench: Bench) -> None:
    bench.style()
    bench.tick()
    shutil.rmtree(bench.root / "inbox")
    bench.tick(20.0)
    bench.tick(20.0)
    assert (bench.root / "inbox" / "starry").is_dir()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.paint()
    assert bench.job().state == "done"


def test_an_unmounted_inbox_is_not_made_anew_and_not_called_empty(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.tick()
    bench.daemon.gathering.inbox.mount = "/srv/share"
    monkeypatch.setattr(places, "is_mounted", lambda _root: False)
    shutil.rmtree(bench.root / "inbox")
    bench.tick(20.0)
    assert not (bench.root / "inbox").exists()
    assert "mounted" in bench.daemon.why_not_ready()


def test_an_unmounted_outbox_is_not_written_into(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.finish(bench.job().id)
    bench.daemon.house.mounts._known[str(bench.root / "outbox")] = "/srv/out"
    with monkeypatch.context() as patch:
        patch.setattr(places, "is_mounted", lambda root: root != "/srv/out")
        for _ in range(3):
            bench.tick(30.0)
        assert bench.outbox() == []
        assert "/srv/out" in " ".join(bench.daemon.upkeep.snapshot.notes)
    monkeypatch.setattr(places, "is_mounted", lambda _root: True)
    for _ in range(3):
        bench.tick(60.0)
    assert bench.job().state == "done"


def test_copy_intake_never_touches_the_inbox(tmp_path: Path) -> None:
    bench = small(tmp_path, **{"inbox.intake": "copy"})
    bench.style()
    bench.drop("starry/beach.jpg")
    before = os.stat(tmp_path / "inbox").st_mtime_ns, os.stat(tmp_path / "inbox/starry").st_mtime_ns
    bench.settle()
    bench.paint()
    bench.tick(100.0)
    after = os.stat(tmp_path / "inbox").st_mtime_ns, os.stat(tmp_path / "inbox/starry").st_mtime_ns
    assert before == after
    assert bench.outbox() == ["starry/beach.jpg", "starry/beach.json"]
    assert bench.listing("originals") == []
    bench.restart()
    bench.settle()
    assert len(bench.jobs()) == 1
    bench.stop()


def test_in_copy_intake_a_photograph_is_painted_again_when_it_is_dropped_again(
    tmp_path: Path,
) -> None:
    bench = small(tmp_path, **{"inbox.intake": "copy"})
    bench.style()
    path = bench.drop("starry/beach.jpg")
    data = path.read_bytes()

    def jobs() -> int:
        bench.tick(10.0)
        bench.settle()
        bench.paint()
        return len(bench.jobs())

    assert jobs() == 1
    path.chmod(0o600)
    assert jobs() == 1
    os.utime(path, (1e9, 1e9))  # a sync tool gives it its old times
    assert jobs() == 1
    path.write_bytes(data)
    assert jobs() == 2
    path.unlink()
    bench.tick(10.0)
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    assert jobs() == 3
    bench.stop()


def test_in_copy_intake_a_new_sidecar_may_name_a_photograph_that_was_painted_before(
    tmp_path: Path,
) -> None:
    bench = small(tmp_path, **{"inbox.intake": "copy"})
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.paint()
    again = tmp_path / "inbox" / "starry" / "beach.yaml"
    again.write_text("content: beach.jpg\nseed: 7\n")
    bench.tick(10.0)
    bench.settle()
    bench.paint()
    assert len(bench.jobs()) == 2
    bench.tick(2000.0)
    bench.settle()
    assert len(bench.jobs()) == 2
    bench.stop()


def test_a_synced_inbox_is_copied_from_by_default(bench: Bench) -> None:
    (bench.root / "inbox" / ".stfolder").mkdir()
    bench.style()
    bench.drop("starry/beach.jpg")
    with capture_logs() as said:
        bench.tick(100.0)
    assert [(line["tool"], line["intake"]) for line in said if "tool" in line] == [
        ("Syncthing", "copy")
    ]
    bench.settle()
    bench.paint()
    assert bench.listing("inbox") == ["starry/beach.jpg"]
    assert bench.job().intake == "copy"


def test_the_same_bytes_again_are_another_job(bench: Bench) -> None:
    bench.style()
    path = bench.drop("starry/beach.jpg")
    data = path.read_bytes()
    bench.settle()
    bench.paint()
    path.write_bytes(data)
    bench.settle()
    bench.paint()
    assert len(bench.jobs()) == 2
    assert bench.outbox() == [
        "starry/beach-2.jpg",
        "starry/beach-2.json",
        "starry/beach.jpg",
        "starry/beach.json",
    ]


# --- what commands ask ---------------------------------------------------------------------------


def ask(bench: Bench, kind: str, job_id: str) -> str | None:
    with Ledger(str(bench.root / "state" / "ledger.sqlite3")) as ledger:
        number = ledger.request(kind, job_id)  # type: ignore[arg-type]
        bench.tick(1.0)
        bench.tick(1.0)
        return ledger.answered(number)


def test_a_queued_job_can_be_cancelled(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.drop("starry/b.jpg")
    bench.settle()
    queued = next(job for job in bench.jobs() if job.state == "queued")
    assert ask(bench, "cancel", queued.id) == ""
    assert bench.daemon.house.ledger.get(queued.id).state == "cancelled"
    assert "cancelled" in ask(bench, "cancel", queued.id).lower()  # type: ignore[union-attr]


def test_a_running_job_can_be_cancelled(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    assert ask(bench, "cancel", bench.job().id) == ""
    assert bench.executor.cancelled == [bench.job().id]
    bench.executor.fail(bench.job().id, "cancelled", retry=False)
    bench.tick(1.0)
    assert bench.job().state == "cancelled"
    assert any(name.endswith("a.jpg") for name in bench.listing("failed"))


def test_a_failed_job_can_be_tried_again(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    first = bench.job()
    bench.executor.fail(first.id, "decode", retry=False)
    bench.tick(1.0)
    assert ask(bench, "retry", first.id) == ""
    bench.paint()
    assert bench.outbox() == ["starry/a.jpg", "starry/a.json"]
    assert bench.listing("failed") == []


def test_who_mends_a_style_and_tries_again_does_not_wait_for_the_library(bench: Bench) -> None:
    broken = bench.root / "styles" / "broken"
    broken.mkdir()
    bench.drop("broken/a.jpg")
    bench.settle()
    bench.tick(1000.0)
    bench.tick(1.0)
    assert "no image in its folder" in bench.job().message
    picture(broken / "now.jpg")
    assert ask(bench, "retry", bench.job().id) == ""


def test_a_deferred_job_can_be_hurried(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "gpu", retry=True)
    bench.tick(0.1)
    assert ask(bench, "retry", bench.job().id) == ""
    assert bench.job().state == "running"


def test_a_request_about_nothing_is_answered_in_words(bench: Bench) -> None:
    answer = ask(bench, "cancel", "no-such-job")
    assert answer
    assert "no-such-job" in answer


# --- restarts ------------------------------------------------------------------------------------


def test_a_stop_hands_the_running_job_back_without_a_mark(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.restart()
    job = bench.job()
    assert (job.state, job.attempts, job.daemon_deaths) == ("queued", 0, 0)
    bench.tick(1.0)
    bench.tick(1.0)
    bench.paint()
    assert bench.outbox() == ["starry/a.jpg", "starry/a.json"]


def test_a_job_that_was_running_when_the_daemon_died_goes_on(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.restart(crash=True)
    assert bench.job().daemon_deaths == 1
    bench.tick(1.0)
    bench.tick(1.0)
    bench.paint()
    assert bench.job().state == "done"


def test_a_job_in_whose_company_the_daemon_died_too_often_is_set_aside(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    for _ in range(5):
        bench.restart(crash=True)
        bench.tick(1.0)
        bench.tick(1.0)
    assert (bench.job().state, bench.job().reason) == ("failed", "stuck")


def test_a_picture_that_was_not_delivered_before_a_crash_is_delivered_after_it(
    bench: Bench,
) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.executor.finish(bench.job().id)
    with refusing(errno.EIO, "rename"):
        bench.tick(1.0)
    assert bench.job().state == "delivering"
    bench.restart(crash=True)
    bench.tick(1.0)
    assert bench.job().state == "done"
    assert bench.executor.history == []
    assert bench.outbox() == ["starry/a.jpg", "starry/a.json"]


def test_canaries_that_a_crash_left_are_removed(bench: Bench) -> None:
    (bench.root / "inbox" / ".nstd-canary-0123456789ab.tmp").touch()
    bench.restart(crash=True)
    bench.tick(1.0)
    assert bench.listing("inbox") == []


def test_a_clock_that_is_set_back_keeps_nobody_waiting(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "gpu", retry=True)
    bench.tick(1.0)
    assert bench.job().state == "deferred"
    bench.daemon.clock._step = -50_000.0  # as SteadyClock tells after such a step
    bench.at -= 50_000.0
    bench.tick(1.0)
    bench.tick(1.0)
    assert bench.job().state == "running"


def test_a_wish_noted_while_nstd_was_down_is_fulfilled_when_it_starts(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    bench.executor.fail(bench.job().id, "decode", retry=False)
    bench.tick(1.0)
    bench.stop()
    with Ledger(str(bench.root / "state" / "ledger.sqlite3")) as ledger:
        (first,) = ledger.recent(10)
        number = ledger.request("retry", first.id)
    bench.restart(crash=True)
    bench.tick(1.0)
    bench.tick(1.0)
    assert bench.daemon.house.ledger.answered(number) == ""
    bench.paint()
    assert bench.outbox() == ["starry/beach.jpg", "starry/beach.json"]


# --- configuration -------------------------------------------------------------------------------


def test_a_reload_changes_what_may_change(bench: Bench) -> None:
    bench.tick()
    bench.settings = {"queue.capacity_jobs": 7, "inbox.settle_s": 5.0}
    bench.daemon.reload()
    assert bench.daemon.house.config.queue.capacity_jobs == 7
    assert bench.daemon.gathering.inbox.patience.settle_s == 5.0


def test_a_reload_says_what_only_a_restart_changes(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.tick()
    before = bench.daemon.house.config
    bench.settings = {
        "folders.originals": tmp_path / "elsewhere",
        "outbox.previews_folder": "looks",
        "inbox.polling": "never",
        "http.enabled": True,
        "http.listen": "127.0.0.1:0",
    }
    logs.configure("json", "info")
    bench.daemon.reload()
    config = bench.daemon.house.config
    assert config.folders == before.folders
    assert config.outbox.previews_folder == "previews"
    assert '["folders.originals", "outbox.previews_folder"]' in capsys.readouterr().err
    assert bench.daemon.watcher.health.mode == "events"
    address = (tmp_path / "state" / "listen").read_text().strip()
    with urlopen(f"http://{address}/healthz", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "settings", [{"model.weights": "/none.h5"}, {"model.device": "gpu"}, {"http.listen": "x:70000"}]
)
def test_a_reload_that_could_not_paint_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr("nstd.engine.device.look", lambda *_: Machine())
    bench.tick()
    before = bench.daemon.house.config
    bench.settings = {"queue.capacity_jobs": 7, "http.enabled": True, **settings}
    bench.daemon.reload()
    assert bench.daemon.house.config == before
    registry = bench.daemon.house.metrics.registry
    assert registry.get_sample_value("nstd_config_last_reload_successful") == 0


def test_the_style_cache_is_counted_once_a_job(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    (job_id,) = bench.executor.tasks
    bench.executor.tasks.clear()
    cache = {"style_cache": {"hits": 3, "misses": 2}}
    bench.executor.say(JobFinished(job_id, "result/picture.jpg", "result/report.json", cache))
    bench.tick(1.0)
    counted = bench.daemon.house.metrics.registry.get_sample_value
    assert counted("nstd_style_cache_total", {"result": "hit"}) == 3
    assert counted("nstd_style_cache_total", {"result": "miss"}) == 2
    assert len(bench.daemon.dispatch.durations) == 1


def test_a_wrong_configuration_is_not_taken_over(bench: Bench) -> None:
    bench.tick()
    bench.settings = {"queue.capacity_jobs": -7}
    bench.daemon.reload()
    assert bench.daemon.house.config.queue.capacity_jobs == 64
    registry = bench.daemon.house.metrics.registry
    assert registry.get_sample_value("nstd_config_last_reload_successful") == 0


def test_a_daemon_becomes_ready_whatever_goes_wrong_in_a_view(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(bench.daemon.upkeep, "show", broken)
        bench.tick(1.0)
    bench.tick(1.0)
    assert bench.daemon.facts.state == "ready"


# --- what is shown -------------------------------------------------------------------------------


def test_a_running_job_is_shown_with_its_progress(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.executor.step(bench.job().id, 4)
    bench.tick(2.0)
    (running,) = bench.daemon.upkeep.snapshot.running
    assert (running.name, running.style, running.step, running.steps) == (
        "starry/a.jpg",
        "starry",
        4,
        10,
    )
    assert running.losses is not None
    page = (bench.root / "outbox" / "status.html").read_text()
    assert "a.jpg" in page or bench.daemon.upkeep.snapshot.state


def test_a_queued_job_is_shown_with_an_estimate_once_there_is_experience(bench: Bench) -> None:
    bench.style()
    for name in ("a", "b", "c"):
        bench.drop(f"starry/{name}.jpg")
    bench.settle()
    bench.tick(1.0)
    assert bench.daemon.upkeep.snapshot.queued[0].eta_s is None
    bench.tick(99.0)
    bench.executor.finish(next(iter(bench.executor.tasks)))
    bench.tick(1.0)
    bench.tick(1.0)
    (queued,) = bench.daemon.upkeep.snapshot.queued
    assert queued.eta_s is not None
    assert queued.eta_s > 100.0


def test_metrics_follow_the_jobs(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.drop("lone.jpg")
    bench.settle()
    bench.executor.step(bench.job().id, 4)
    bench.tick(2.0)
    get = bench.daemon.house.metrics.registry.get_sample_value
    assert get("nstd_jobs_pending", {"state": "running"}) == 1
    assert get("nstd_jobs_pending", {"state": "waiting"}) == 1
    assert get("nstd_optimizer_steps_total") == 4
    bench.paint()
    assert get("nstd_jobs_total", {"outcome": "done"}) == 1
    assert get("nstd_end_to_end_seconds_count") == 1
    assert get("nstd_workers", {"state": "idle"}) == 1


def test_readiness_needs_a_look_at_the_inbox_and_a_worker(tmp_path: Path) -> None:
    bench = small(tmp_path)
    assert "inbox" in bench.daemon.why_not_ready()
    bench.executor._events.clear()
    bench.tick()
    assert "worker" in bench.daemon.why_not_ready()
    bench.executor.start()
    bench.tick(1.0)
    assert bench.daemon.why_not_ready() == ""
    assert bench.daemon.facts.state == "ready"
    bench.stop()


def test_the_first_steps_are_shown_at_once(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/beach.jpg")
    bench.settle()
    assert [job.step for job in bench.daemon.upkeep.snapshot.running] == [0]
    bench.executor.step(bench.job().id)
    bench.tick()
    assert [job.step for job in bench.daemon.upkeep.snapshot.running] == [1]
