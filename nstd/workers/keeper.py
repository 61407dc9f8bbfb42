"""What a running job leaves in its folder so that others can look and a restart can go on."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from nstd.engine.progress import Checkpoint
from nstd.errors import InputError, StorageError
from nstd.jobs import publish
from nstd.photo import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from nstd.engine.progress import Image

CHECKPOINT = "checkpoint.npz"
PREVIEW = "preview.jpg"
PREVIEW_QUALITY = 85
MAX_SHARE = 0.05
"""Of the run's time, at most, goes into checkpoints: a slow disk gets fewer of them."""
RETRY_S = 60.0
"""After a checkpoint could not be written (a full disk), the next attempt."""


class Keeper:
    """Writes checkpoints and previews of one job; a disk that refuses never ends the job."""

    def __init__(
        self,
        job_dir: str,
        *,
        urgent: Callable[[], bool] = lambda: False,
        note: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job_dir, self._urgent, self._note, self._clock = job_dir, urgent, note, clock
        self._not_before = float("-inf")
        self._complained = False

    def load(self, job_hash: str) -> Checkpoint | None:
        """Return the checkpoint of this very job, or None with a note when it is another's."""
        try:
            checkpoint = Checkpoint.read(os.path.join(self._job_dir, CHECKPOINT))
        except FileNotFoundError:
            return None
        except (OSError, InputError):
            self._note("The checkpoint could not be read; the job starts anew.")
            return None
        if checkpoint.job_hash != job_hash:
            self._note("The checkpoint was made with other inputs, weights or versions; anew.")
            return None
        return checkpoint

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint, unless the last one is too fresh for what they cost."""
        began = self._clock()
        if began < self._not_before and not self._urgent():
            return
        try:
            publish.write_atomic(
                self._job_dir, CHECKPOINT, checkpoint.write, replace=True, mode=0o600
            )
        except StorageError as error:
            self._complain(f"No checkpoint could be written: {error.message}")
            self._not_before = self._clock() + RETRY_S
            return
        ended = self._clock()
        self._not_before = ended + (ended - began) / MAX_SHARE

    def preview(self, pixels: Image) -> str | None:
        """Replace the preview and return its path; None when the disk refuses.

        Not fsynced: a preview that a power cut takes is no loss.
        """
        data = encode.encode(pixels, format="jpg", quality=PREVIEW_QUALITY)
        path = os.path.join(self._job_dir, PREVIEW)
        temporary = os.path.join(self._job_dir, publish.temporary_name())
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError as error:
            self._complain(f"No preview could be written: {os.strerror(error.errno or 0)}.")
            return None
        return path

    def _complain(self, text: str) -> None:
        """Say it once: the reason stays the same, and the log is for reading."""
        if not self._complained:
            self._note(text)
        self._complained = True
