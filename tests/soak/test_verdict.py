"""The soak finds what grows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.soak.run import Sample, Soak

FLAT = Sample(0, 66.0, 50.0, 40.0, 16, 6, 5, 6, 3, 7)


def verdict(folder: Path, samples: list[Sample], engine: str = "standin") -> list[str]:
    soak = Soak(folder / "root", engine, seed=1)
    soak.samples = samples
    return soak.verdict()


def flat(count: int) -> list[Sample]:
    return [dataclasses.replace(FLAT, jobs=25 * n) for n in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_what_stays_is_flat(tmp_path: Path, count: int) -> None:
    assert verdict(tmp_path, flat(count)) == []


@pytest.mark.parametrize("name", ["daemon_fds", "worker_fds", "daemon_threads", "watches"])
def test_one_more_of_anything_that_is_counted_is_found(tmp_path: Path, name: str) -> None:
    samples = flat(30)
    samples[20:] = [dataclasses.replace(each, **{name: 20}) for each in samples[20:]]
    (found,) = verdict(tmp_path, samples)
    assert name in found


@pytest.mark.parametrize("name", ["daemon_mib", "worker_mib", "decoder_mib"])
def test_memory_that_grows_with_every_job_is_found(tmp_path: Path, name: str) -> None:
    samples = [
        dataclasses.replace(each, **{name: getattr(each, name) + each.jobs / 50})
        for each in flat(100)
    ]
    (found,) = verdict(tmp_path, samples)
    assert f"{name} has grown" in found


def test_too_much_is_too_much_though_it_stays(tmp_path: Path) -> None:
    samples = [dataclasses.replace(each, worker_mib=3000.0) for each in flat(2)]
    assert verdict(tmp_path, samples, "builtin") == ["worker_mib is 3000"]
