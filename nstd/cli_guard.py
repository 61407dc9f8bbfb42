"""Every way out of a command: an exit code, and at most one sentence on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from nstd.errors import NstdError, UsageError
from nstd.jobs.publish import storage_error
from nstd.jobs.text import shown

INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C ended."""
BUG = 1


def guarded(app: Callable[..., Any], args: list[str]) -> int:
    """Run the typer app; return the exit code, with any error said in one sentence on stderr."""
    try:
        code = app(args=args, prog_name="nstd", standalone_mode=False)
        sys.stdout.flush()
    except NstdError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("Interrupted.", INTERRUPTED)
    except BrokenPipeError:  # `nstd status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:  # click's own answer to a closed pipe, where it was quicker
        return 0 if "Pacify" in type(sys.stdout).__name__ else int(end.code or 0)
    except Exception as error:  # noqa: BLE001 - the last line of defence before a traceback
        return _usage_or_bug(error)
    return code if isinstance(code, int) else 0


def _usage_or_bug(error: Exception) -> int:
    # typer carries a copy of click, older ones used the package: both errors know these two.
    words, code = getattr(error, "format_message", None), getattr(error, "exit_code", None)
    if words is not None and isinstance(code, int):
        return _refuse(f"{words().rstrip('.')}. `nstd --help` tells more.", UsageError.exit_code)
    if type(error).__name__ == "Abort":
        return _refuse("Interrupted.", INTERRUPTED)
    if os.environ.get("NSTD_DEBUG"):
        raise error
    if isinstance(error, OSError):  # the machine's fault rather than ours
        refused = storage_error(str(error.filename or "the output"), error)
        return _refuse(str(refused), refused.exit_code)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _refuse(
        f"This is a bug in nstd: {what}. With NSTD_DEBUG=1 the same command shows where.", BUG
    )


def _refuse(sentence: str, code: int) -> int:
    line = " ".join(sentence.split())
    with contextlib.suppress(OSError):
        sys.stderr.write(f"nstd: {shown(line)}\n")
    return code
