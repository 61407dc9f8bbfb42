"""Events and tasks survive the way between two processes."""

from __future__ import annotations

import contextlib
import math
import socket

import pytest

from nstd.engine.params import PRESETS
from nstd.engine.progress import Losses, StepReport
from nstd.jobs.spec import JobSpec, OutputSpec, StyleChoice
from nstd.workers import wire
from nstd.workers.executor import (
    Event,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobLost,
    JobNote,
    JobProgress,
    JobStage,
    JobStarted,
    PreviewReady,
    Task,
    WorkerFailed,
    WorkerReady,
)

REPORT = StepReport(3, 9, 1, 2, 48, 64, Losses(1.5, 1.0, 0.25, 0.25), 0.5, 2.0, 9216, 0.1)
EVENTS: list[Event] = [
    WorkerReady("w0", "cpu", {"weights": {"sha256": "ab"}}, pixels=10**6),
    WorkerFailed("w0", "gpu:0", "gpu", "No GPU.", "Buy one.", retry=True),
    JobStarted("j", "w0", "cpu"),
    JobProgress("j", "w0", REPORT),
    JobProgress("j", "w0", StepReport(0, 9, 0, 2, 4, 4, None, 0.0, None)),
    JobStage("j", "decode", 0.25),
    JobNote("j", "a note\nwith a line's end"),
    PreviewReady("j", "/spool/j/preview.jpg"),
    JobFinished("j", "/p.png", "/r.json", {"losses": {"total": 1.0}}),
    JobFailed("j", "decode", "Bad.", "Mend it.", retry=False),
    JobHandedBack("j"),
    JobLost("j", "w0", "oom"),
    wire.Sign("prepare", "j"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    assert wire.unpack_event(wire.decode(wire.pack_event(event))) == event


def test_a_loss_that_is_no_number_arrives_as_such() -> None:
    report = StepReport(1, 2, 0, 1, 4, 4, Losses(math.nan, 1.0, math.inf, 0.0), 0.1, None)
    event = wire.unpack_event(wire.decode(wire.pack_event(JobProgress("j", "w0", report))))
    assert isinstance(event, JobProgress)
    assert event.report.losses is not None
    assert math.isnan(event.report.losses.total)
    assert event.report.losses.style == math.inf


def test_names_that_are_not_utf8_survive() -> None:
    event = JobNote("j", "b\udcffd\U0001f3a8")
    assert wire.unpack_event(wire.decode(wire.pack_event(event))) == event


@pytest.mark.parametrize(
    "packet",
    [b"", b"junk", b"[1]", b'{"event":"Nothing"}', b'{"event":"Task"}', b'{"event":"JobNote"}'],
)
def test_what_is_no_event_is_a_value_error(packet: bytes) -> None:
    with pytest.raises(ValueError):
        wire.unpack_event(wire.decode(packet))


def test_a_task_comes_out_as_it_went_in() -> None:
    spec = JobSpec(
        "sea.jpg",
        (StyleChoice("starry", 2.0, library=True, files=("style/a.jpg", "style/b.jpg")),),
        mask="mask.png",
        params=PRESETS["tutorial-blog"],
        output=OutputSpec("png", 80, "out"),
    )
    task = Task("j", "/spool/j", spec, resume=False)
    assert wire.unpack_task(wire.decode(wire.encode(wire.run_command(task)))) == task


def test_a_packet_is_delivered_whole_or_not_at_all() -> None:
    ours, theirs = wire.pair()
    with ours, theirs:
        packet = wire.pack_event(JobNote("j", "x" * 50_000))
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(packet, socket.MSG_DONTWAIT)
                sent += 1
        received = [theirs.recv(wire.MAX_PACKET_BYTES) for _ in range(sent)]
        assert set(received) == {packet}
        with pytest.raises(BlockingIOError):
            theirs.recv(1, socket.MSG_DONTWAIT)
