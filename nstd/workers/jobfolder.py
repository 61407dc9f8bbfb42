"""Where the files of a job lie: from its spec and folder to what ``paint`` is asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nstd.jobs.spec import INPUT_FOLDER
from nstd.workers.painting import PaintRequest, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nstd.jobs.spec import JobSpec, StyleChoice


def request_of(job_id: str, job_dir: str, spec: JobSpec) -> PaintRequest:
    """Return the request for a job whose private copies lie in ``job_dir``."""
    mask = spec.mask_file
    return PaintRequest(
        content=Source(os.path.join(job_dir, spec.content_file), "content", spec.content),
        styles=tuple(source for choice in spec.styles for source in _styles(job_dir, choice)),
        mask=Source(os.path.join(job_dir, mask), "mask", spec.mask or "") if mask else None,
        params=spec.params,
        output=spec.output,
        job_id=job_id,
    )


def _styles(job_dir: str, choice: StyleChoice) -> Iterator[Source]:
    """Yield the images of one style; several in a library style share its weight."""
    files = choice.files or (f"{INPUT_FOLDER}/{choice.image}",)
    for file in files:
        name = f"{choice.image}/{os.path.basename(file)}" if choice.library else choice.image
        yield Source(os.path.join(job_dir, file), "style", name, choice.weight / len(files))
