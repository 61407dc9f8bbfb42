from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from nstd.errors import CancelledError, ConfigError, DecodeError, DeviceError, UsageError
from nstd.jobs import ledger_file, publish
from nstd.jobs.inputs import InboxFile
from nstd.jobs.job import (
    ENDED,
    TRANSITIONS,
    IllegalTransitionError,
    Job,
    Output,
    State,
    StoredInput,
    new_id,
)
from nstd.jobs.ledger import Ledger
from nstd.jobs.spec import JobSpec, StyleChoice
from nstd.jobs.taken import Taken

NUMBERS = itertools.count()


def job(**changes: Any) -> Job:
    number = next(NUMBERS)
    inputs = (StoredInput("beach.jpg", "content", "ab" * 32, 5, False, 2**64 - 1, 2**63, 1, 2),)  # noqa: FBT003
    spec = JobSpec("beach.jpg", (StyleChoice("starry-night", library=True),), folder="x")
    values: dict[str, Any] = {
        "id": f"job-{number:06d}",
        "state": "queued",
        "spec": spec,
        "folder": "x",
        "inputs": inputs,
        "intake": "move",
        "since": float(number),
        "admitted": float(number),
    }
    return Job(**{**values, **changes})


def inbox_file(name: str = "beach.jpg", **changes: Any) -> InboxFile:
    file = InboxFile("x", name, 5, 10, 20, 2**64 - 1, 2**63 + 1, 0.0, settled=True)
    return replace(file, **changes)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(str(tmp_path / "ledger.sqlite3"), lambda: 1000.0) as opened:
        yield opened


def test_a_job_comes_back_as_it_went_in(ledger: Ledger) -> None:
    whole = job(
        priority=3,
        retry_at=5.5,
        outputs=(Output("x/beach.jpg", "cd" * 32, "picture"),),
        facts={"seconds": {"decode": 0.1}},
        folder="no\udcffutf8",
    )
    ledger.admit(whole)
    assert ledger.get(whole.id) == whole
    without_spec = job(spec=None, reason="sidecar", message="No.", remedy="Mend it.")
    ledger.admit(without_spec)
    assert ledger.get(without_spec.id) == without_spec
    assert without_spec.error is not None
    assert without_spec.error.remedy == "Mend it."


def test_what_was_admitted_is_there_after_a_crash(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite3")
    one = job()
    ledger = Ledger(path)
    ledger.admit(one, [Taken.of(inbox_file(), one.id, remove=True, at=0)])
    with Ledger(path) as again:  # the first is never closed
        assert again.get(one.id).state == "queued"
        assert [taken.job for taken in again.to_remove()] == [one.id]
    ledger.close()


def test_a_commit_that_never_happens_leaves_nothing(ledger: Ledger) -> None:
    def die(name: str) -> None:
        if name == "commit":
            raise KeyboardInterrupt

    publish.hook = die
    try:
        with pytest.raises(KeyboardInterrupt):
            ledger.admit(job(id="a"), [Taken.of(inbox_file(), "a", remove=False, at=0)])
    finally:
        publish.hook = publish._no_hook
    assert ledger.unfinished() == []
    assert not ledger.already_taken(inbox_file())


def test_highest_priority_goes_first_then_who_came_first(ledger: Ledger) -> None:
    for name, priority, since in [("a", 0, 5), ("b", 0, 4), ("c", 9, 9), ("d", -1, 1)]:
        ledger.admit(job(id=name, priority=priority, since=float(since)))
    order = []
    while (turn := ledger.next_job(0)) is not None:
        order.append(turn.id)
        ledger.start(turn.id)
    assert order == ["c", "b", "a", "d"]


def test_a_deferred_job_waits_for_its_time(ledger: Ledger) -> None:
    ledger.admit(job(id="a"))
    ledger.start("a")
    ledger.defer("a", 50.0, DeviceError("The GPU is gone.", "Wait."))
    assert ledger.next_job(49) is None
    assert ledger.next_retry() == 50
    turn = ledger.next_job(50)
    assert turn is not None
    assert (turn.reason, turn.message, turn.attempts) == ("gpu", "The GPU is gone.", 1)
    assert ledger.start("a").attempts == 2


def test_a_job_that_is_handed_back_has_not_lost_an_attempt(ledger: Ledger) -> None:
    ledger.admit(job(id="a"))
    ledger.start("a")
    assert ledger.hand_back("a").attempts == 0


def test_deaths_are_counted_apart(ledger: Ledger) -> None:
    for name in "ab":
        ledger.admit(job(id=name))
    ledger.start("a")
    assert ledger.worker_died("a") == 1
    assert ledger.worker_died("a") == 2
    (returned,) = ledger.daemon_died()
    assert (returned.state, returned.worker_deaths, returned.daemon_deaths) == ("queued", 2, 1)
    assert ledger.get("b").daemon_deaths == 0


def test_a_delivery_is_recorded_before_and_after(ledger: Ledger) -> None:
    ledger.admit(job(id="a"))
    ledger.start("a")
    outputs = [Output("beach.jpg", "00", "picture"), Output("beach.json", "11", "report")]
    assert ledger.begin_delivery("a", outputs).outputs == tuple(outputs)
    again = [Output("beach-2.jpg", "00", "picture")]
    assert ledger.begin_delivery("a", again).outputs == tuple(again)
    assert ledger.delivered("a", seconds={"queue": 1.0}).outcome == "done"
    done = ledger.done("a")
    assert (done.state, done.ended, done.facts) == ("done", 1000.0, {"seconds": {"queue": 1.0}})


@pytest.mark.parametrize(
    ("error", "end"), [(DecodeError("Torn."), "failed"), (CancelledError("Stopped."), "cancelled")]
)
def test_how_a_job_fails_is_recorded_before_its_folder_is_made(
    ledger: Ledger, error: DecodeError | CancelledError, end: str
) -> None:
    ledger.admit(job(id="a"))
    failing = ledger.begin_failing("a", error, "beach-a")
    assert (failing.state, failing.outcome, failing.failed_folder) == ("failing", end, "beach-a")
    assert ledger.failed("a").state == end


def test_every_state_is_counted_and_unfinished_ones_are_pending(ledger: Ledger) -> None:
    assert set(ledger.counts()) == set(get_args(State))
    for name in "abc":
        ledger.admit(job(id=name, since=float(ord(name))))
    ledger.start("a")
    ledger.begin_delivery("a", [])
    assert ledger.pending() == {"queued": 2, "running": 1, "deferred": 0}
    assert ledger.oldest() == {"queued": float(ord("b")), "running": float(ord("a"))}
    assert ledger.counts()["delivering"] == 1


def test_a_job_is_found_by_the_beginning_or_the_end_of_its_id(ledger: Ledger) -> None:
    ledger.admit(job(id="20250101-000000-abcdef"))
    ledger.admit(job(id="20250101-000000-uvwxyz"))
    assert ledger.find("uvwxyz").id.endswith("uvwxyz")
    assert ledger.find("20250101-000000-a").id.endswith("abcdef")
    for text in ("2025", "absent", "", "%"):
        with pytest.raises(UsageError, match="job"):
            ledger.find(text)


def test_history_tells_what_happened_in_order(ledger: Ledger) -> None:
    ledger.admit(job(id="a"))
    ledger.start("a")
    ledger.defer("a", 1, DeviceError("The\x1b GPU is gone."))
    assert ledger.history("a") == [
        (1000.0, "queued", ""),
        (1000.0, "running", ""),
        (1000.0, "deferred", "The\\x1b GPU is gone."),
    ]


def test_a_copied_file_is_known_until_any_of_its_numbers_changes(ledger: Ledger) -> None:
    file = inbox_file(name="caf\udce9.jpg")
    assert not ledger.already_taken(file)
    ledger.remember([Taken.of(file, "a", remove=False, at=0)])
    assert ledger.already_taken(file)
    for change in ("size", "mtime_ns", "ctime_ns", "dev", "inode"):
        assert not ledger.already_taken(replace(file, **{change: getattr(file, change) - 1}))
    assert not ledger.already_taken(replace(file, name="other.jpg"))
    assert ledger.forget_taken(lambda path: path == file.path) == 1
    assert not ledger.already_taken(file)


def test_what_left_the_inbox_is_forgotten_but_not_its_successor(ledger: Ledger) -> None:
    first = Taken.of(inbox_file(), "a", remove=True, at=0)
    second = Taken.of(inbox_file(size=6), "b", remove=True, at=0)
    ledger.remember([first])
    ledger.remember([second])
    ledger.removed([first])
    assert ledger.to_remove() == [second]
    ledger.removed([second])
    assert ledger.to_remove() == []


def test_commands_ask_and_get_an_answer(ledger: Ledger) -> None:
    number = ledger.request("cancel", "a")
    (asked,) = ledger.requests()
    assert (asked.number, asked.kind, asked.job) == (number, "cancel", "a")
    assert ledger.answered(number) is None
    ledger.answer(number, "It is done already.")
    assert ledger.answered(number) == "It is done already."
    assert ledger.requests() == []


def test_old_rows_are_forgotten_and_unfinished_ones_never(tmp_path: Path) -> None:
    now = [0.0]
    with Ledger(str(tmp_path / "l"), lambda: now[0]) as ledger:
        for name in "abcd":
            now[0] += 10
            ledger.admit(job(id=name))
            if name != "d":
                ledger.begin_failing(name, DecodeError("x"), name)
                ledger.failed(name)
        assert ledger.prune(before=15) == 1
        assert ledger.prune(keep=1) == 1
        assert [each.id for each in ledger.recent(9)] == ["c"]
        assert ledger.history("b") == []
        assert [each.id for each in ledger.unfinished()] == ["d"]


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_id(1_700_000_000 + number / 100) for number in range(200)]
    assert ids == sorted(ids)
    assert len({new_id(5.0) for _ in range(50)}) > 45
    assert new_id(0.999).startswith("19700101-000000-z7")


# --- versions --------------------------------------------------------------------------------


def test_an_older_ledger_is_brought_up_to_date_with_all_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "ledger.sqlite3")
    old = sqlite3.connect(path)
    old.executescript(ledger_file.MIGRATIONS[0])
    old.execute(f"PRAGMA application_id = {ledger_file.APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO taken VALUES (x'61', '1 2 3 4 5', 'a', 0, 0)")
    old.commit()
    old.close()
    with Ledger(path) as ledger:
        ledger.admit(job(id="a"))
        assert ledger.history("a")
        file = InboxFile("", "a", 3, 4, 5, 1, 2, 0.0, settled=True)
        assert ledger.already_taken(file)


def test_a_newer_ledger_is_refused_in_words(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite3")
    Ledger(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {ledger_file.VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="newer nstd"):
        Ledger(path)


def someone_elses(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (someone_elses, "not a ledger"),
        (
            lambda path: path.write_bytes(b"no database at all, but long enough to see" * 20),
            "damaged",
        ),
    ],
)
def test_a_file_that_is_no_ledger_is_refused_in_words(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "ledger.sqlite3"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=words):
        Ledger(str(path))
    assert path.read_bytes() == before


def test_a_missing_folder_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be used") as caught:
        Ledger(str(tmp_path / "absent" / "ledger.sqlite3"))
    assert type(caught.value).__name__ == "StorageError"


# --- the state machine -----------------------------------------------------------------------

STEPS: dict[State, Callable[[Ledger, str], Job]] = {
    "running": lambda ledger, name: ledger.start(name),
    "queued": lambda ledger, name: ledger.requeue(name),
    "deferred": lambda ledger, name: ledger.defer(name, 0, DeviceError("x")),
    "delivering": lambda ledger, name: ledger.begin_delivery(name, []),
    "delivered": lambda ledger, name: ledger.delivered(name),
    "done": lambda ledger, name: ledger.done(name),
    "failing": lambda ledger, name: ledger.begin_failing(name, DecodeError("x"), name),
    "failed": lambda ledger, name: ledger.failed(name),
}


class LedgerMachine(RuleBasedStateMachine):
    """A dictionary is the model: whatever is asked, the file and it agree, crash or no crash."""

    names = Bundle("names")

    @initialize()
    def open(self) -> None:
        self.folder = Path(self.root)
        self.path = str(self.folder / f"{next(NUMBERS)}.sqlite3")
        self.ledger = Ledger(self.path, lambda: 1.0)
        self.model: dict[str, State] = {}

    root = "/tmp"

    @rule(target=names, priority=st.integers(-2, 2))
    def admit(self, priority: int) -> str:
        name = f"j{next(NUMBERS):06d}"
        self.ledger.admit(job(id=name, priority=priority))
        self.model[name] = "queued"
        return name

    @rule(name=names, to=st.sampled_from(sorted(STEPS)))
    def step(self, name: str, to: State) -> None:
        allowed = to in TRANSITIONS[self.model[name]]
        if allowed:
            assert STEPS[to](self.ledger, name).state == to
            self.model[name] = to
        else:
            with pytest.raises(IllegalTransitionError):
                STEPS[to](self.ledger, name)

    @rule(name=names, to=st.sampled_from(sorted(STEPS)))
    def step_that_dies(self, name: str, to: State) -> None:
        def die(_call: str) -> None:
            raise KeyboardInterrupt

        publish.hook = die
        try:
            with pytest.raises((KeyboardInterrupt, IllegalTransitionError)):
                STEPS[to](self.ledger, name)
        finally:
            publish.hook = publish._no_hook

    @rule()
    def crash_and_reopen(self) -> None:
        abandoned, self.ledger = self.ledger, Ledger(self.path, lambda: 1.0)
        abandoned.close()

    @rule()
    def daemon_dies(self) -> None:
        returned = {each.id for each in self.ledger.daemon_died()}
        assert returned == {name for name, state in self.model.items() if state == "running"}
        self.model.update(dict.fromkeys(returned, "queued"))

    @invariant()
    def file_and_model_agree(self) -> None:
        unfinished = {each.id: each.state for each in self.ledger.unfinished()}
        ended = {each.id: each.state for each in self.ledger.recent(1000)}
        assert unfinished | ended == self.model
        assert all(state in ENDED for state in ended.values())
        turn = self.ledger.next_job(10)
        ready = [name for name in self.model if self.model[name] in {"queued", "deferred"}]
        assert (turn is None) == (not ready)

    def teardown(self) -> None:
        self.ledger.close()


def test_whatever_is_asked_the_ledger_agrees_with_its_model(tmp_path: Path) -> None:
    LedgerMachine.root = str(tmp_path)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        LedgerMachine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )
