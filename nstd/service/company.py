"""Which jobs may share a worker: those whose pictures can step in one batch."""

from __future__ import annotations

import dataclasses
import hashlib
import os

from nstd.engine.pyramid import fit
from nstd.jobs.job import Job
from nstd.jobs.spec import JobSpec
from nstd.photo import measure
from nstd.service.house import House

AUTO_SIDE = 512
"""Larger pictures fill a GPU on their own; with ``worker.batch: auto`` they share none."""
MAX_KNOWN = 4096


class Companies:
    """Tells jobs of a kind by a word that is the same for all of them; empty: to be left alone."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._shapes: dict[str, tuple[int, int] | None] = {}

    def of(self, job: Job) -> str:
        """Return the word for a job.

        Not for one that was tried before: whatever it ran into, or ended its worker, shows more
        plainly alone, and drags nobody along.
        """
        batch = self._house.config.worker.batch
        if job.spec is None or job.attempts or batch == 1:
            return ""
        params = job.spec.params
        if batch == "auto" and params.size > AUTO_SIDE:
            return ""
        kind = (
            job.priority,  # a less urgent one would slow down a more urgent one
            dataclasses.replace(params, seed=0),
            job.spec.mask is not None,
            self._shape(job, job.spec),
        )
        return hashlib.sha256(repr(kind).encode()).hexdigest()[:16]

    def _shape(self, job: Job, spec: JobSpec) -> tuple[int, int] | None:
        """Return (height, width) of the result, by the photograph's first bytes; None: unknown."""
        if spec.params.squeeze:
            return spec.params.squeeze
        if job.id not in self._shapes:
            if len(self._shapes) >= MAX_KNOWN:
                self._shapes.clear()
            path = os.path.join(self._house.spool.job_dir(job.id), spec.content_file)
            found = measure.upright_size(path)
            self._shapes[job.id] = found and fit(*found, spec.params.size)
        return self._shapes[job.id]
