"""Mutated sidecars are read, or are none, or are refused in words."""

from __future__ import annotations

from tests.hostile.sidecars import fuzz


def test_mutated_sidecars_end_in_words_or_jobs() -> None:
    for data, name, _, wrong in fuzz.run(2000, seed=20240607):
        assert not wrong, (data, name)
