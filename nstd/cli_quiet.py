"""Keeps TensorFlow's start-up chatter off the terminal, whose lines belong to the user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def only_our_stderr() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 nowhere; ``sys.stderr`` stays.

    TensorFlow 2.21 logs before its log level is read (absl's InitializeLog), whatever
    TF_CPP_MIN_LOG_LEVEL says. With NSTD_DEBUG everything is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get("NSTD_DEBUG"):
        yield
        return
    sys.stderr.flush()
    kept, before = os.dup(2), sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
