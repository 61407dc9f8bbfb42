from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nstd.service import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_records_are_json_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logs.logger().info("Admitted.", name="beach.jpg", size=3)
    (record,) = lines(out)
    assert record["event"] == "Admitted."
    assert (record["name"], record["size"], record["level"]) == ("beach.jpg", 3, "info")
    assert record["timestamp"].endswith("Z")


def test_records_are_words_where_they_are_asked_for() -> None:
    out = io.StringIO()
    logs.configure("console", stream=out)
    logs.logger().warning("Paused.", why="disk full")
    assert "Paused." in out.getvalue()
    assert "why='disk full'" in out.getvalue()


def test_the_job_is_on_every_record_inside_its_context() -> None:
    out = io.StringIO()
    logs.configure("json", stream=out)
    with logs.job_context("01JOB"):
        logs.logger().info("Started.")
        logging.getLogger("watchdog").warning("overflow")
    logs.logger().info("After.")
    inside, library, after = lines(out)
    assert inside["job"] == library["job"] == "01JOB"
    assert "job" not in after


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_name_can_forge_a_line_or_steer_the_terminal(log_format: str) -> None:
    out = io.StringIO()
    logs.configure(log_format, stream=out)
    evil = "a\n\x1b[2J\u202egpj.\udcff"
    logs.logger().info("Seen.", name=evil, raw=os.fsencode(evil), path=Path(evil), many=[evil])
    logs.logger().info(evil)
    text = out.getvalue()
    assert text.count("\n") == 2
    assert not {"\x1b", "\u202e", "\udcff"} & set(text)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_message_in_a_traceback_is_escaped_too(log_format: str) -> None:
    out = io.StringIO()
    logs.configure(log_format, stream=out)
    try:
        int("\x1b[31mred")
    except ValueError:
        logs.logger().exception("Failed.")
    assert "\x1b" not in out.getvalue()
    assert "ValueError" in out.getvalue()


def test_records_below_the_level_are_left_out_and_every_other_is_counted() -> None:
    out = io.StringIO()
    seen: list[str] = []
    logs.configure("json", "warning", stream=out, count=seen.append)
    logs.logger().info("quiet")
    logs.logger().error("loud")
    assert [record["event"] for record in lines(out)] == ["loud"]
    assert seen == ["error"]


def test_configuring_again_takes_over() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", stream=first)
    log = logs.logger()
    logs.configure("json", "debug", stream=second)
    logs.logger().debug("now")
    log.info("old logger, new place")
    logging.getLogger("x").error("once")
    assert first.getvalue() == ""
    assert [r["event"] for r in lines(second)] == ["now", "old logger, new place", "once"]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    out = io.StringIO()
    logs.configure("json", stream=out)
    out.close()
    logs.logger().info("into the void")


def test_the_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as out:
        status = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure(stream=out)
        logs.logger().error("bad")
        logs.logger().info("good")
        out.seek(0)
        bad, good = out.read().splitlines()
    assert bad.startswith("<3>{")
    assert good.startswith("<6>{")


def test_time_level_and_event_come_first() -> None:
    out = io.StringIO()
    logs.configure("json", stream=out)
    with logs.job_context("01JOB"):
        logs.logger().info("Done.", name="x")
    assert list(lines(out)[0]) == ["timestamp", "level", "event", "job", "name"]
