"""The loop sleeps until something happens; signals only set flags."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from nstd.service.wake import Flags, Signals, Wake

LONG_S = 60.0


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    made.close()


def test_a_thread_ends_the_wait(wake: Wake) -> None:
    threading.Timer(0.01, wake).start()
    began = time.monotonic()
    wake.wait(LONG_S)
    assert time.monotonic() - began < LONG_S


def test_a_wake_before_the_wait_is_not_lost_and_counts_once(wake: Wake) -> None:
    for _ in range(100_000):
        wake()
    began = time.monotonic()
    wake.wait(LONG_S)
    assert time.monotonic() - began < LONG_S
    wake.wait(0.01)


def test_another_descriptor_ends_the_wait(wake: Wake) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    began = time.monotonic()
    wake.wait(LONG_S, [read])
    assert time.monotonic() - began < LONG_S
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, Flags(stop=True)),
        (signal.SIGINT, Flags(stop=True)),
        (signal.SIGHUP, Flags(reload=True)),
    ],
)
def test_a_signal_sets_a_flag_and_ends_the_wait(
    wake: Wake, number: signal.Signals, expected: Flags
) -> None:
    flags = Flags()
    signals = Signals(flags, wake)
    before = signal.getsignal(number)
    signals.install()
    try:
        began = time.monotonic()
        os.kill(os.getpid(), number)
        wake.wait(LONG_S)
        assert time.monotonic() - began < LONG_S
    finally:
        signals.restore()
    assert flags == expected
    assert signal.getsignal(number) == before


def test_a_second_request_to_stop_is_in_a_hurry(wake: Wake) -> None:
    flags = Flags()
    signals = Signals(flags, wake)
    signals.install()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signals.restore()
    assert flags.hurry
