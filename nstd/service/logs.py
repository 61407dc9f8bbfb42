"""The log: readable on a terminal, JSON under systemd, the job's id on every record about a job.

Strings that come from users (file names, messages about them) are escaped before they are
written: no name can forge a line, colour a terminal or reverse its text.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nstd.jobs.text import shown

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""sd-daemon(3): a "<N>" in front of a line sets its priority in the journal."""


def configure(
    log_format: str = "auto",
    level: str = "info",
    *,
    stream: TextIO | None = None,
    count: Callable[[str], None] = lambda _level: None,
) -> None:
    """Set up structlog and the standard library's logging for this process.

    ``count`` is told the level of each record (``Metrics.logged``); calling again replaces the
    set-up, which is how a reload changes it.
    """
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _counting(count),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
        _escape,
    ]
    shared.extend(_rendering(out, console=console))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_args: _Writer(out),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(LEVELS[level])


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; ask for it where it is used, so that tests can configure it anew."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


def job_context(job_id: str) -> AbstractContextManager[None]:
    """Bind the job's id to every record that is written inside the ``with`` block."""
    return structlog.contextvars.bound_contextvars(job=job_id)


class _Writer:
    """Writes lines; a log that cannot be written (closed terminal, full disk) stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(message + "\n")
            self._stream.flush()

    log = debug = info = warning = error = critical = fatal = exception = msg


def _rendering(out: TextIO, *, console: bool) -> list[Processor]:
    if console:
        return [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    rendering: list[Processor] = [structlog.processors.JSONRenderer(sort_keys=False)]
    if _is_journal(out):
        rendering.append(_with_priority)
    return rendering


def _is_journal(out: TextIO) -> bool:
    """Tell whether systemd reads this stream: it names its socket by device and inode."""
    try:
        status = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(_logger: WrappedLogger, method: str, text: Any) -> Any:
    return f"<{_JOURNAL_PRIORITY.get(method, 6)}>{text}"


def _counting(count: Callable[[str], None]) -> Processor:
    def processor(
        _logger: WrappedLogger, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        count(str(event.get("level", method)))
        return event

    return processor


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = [key for key in ("timestamp", "level", "event", "job") if key in event]
    return {key: _escaped(key, event[key]) for key in dict.fromkeys((*first, *event))}


def _escaped(key: str, value: Any) -> Any:
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        if key == "exception":  # its lines are ours; what stands in them is not
            return "\n".join(shown(line) for line in value.split("\n"))
        return shown(value)
    if isinstance(value, BaseException):
        return shown(str(value))
    if isinstance(value, list | tuple):
        return [_escaped("", item) for item in value]
    if isinstance(value, dict):
        return {shown(str(name)): _escaped("", item) for name, item in value.items()}
    return value


class _ToStructlog(logging.Handler):
    """Hands records of libraries (watchdog, asyncio) to the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        method = record.levelname.lower()
        log = getattr(logger(), method if method in LEVELS else "info")
        log(record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _adopt_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _ToStructlog)]
    root.addHandler(_ToStructlog())
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
