"""The error tree: each error knows its exit code, its metrics label, and whether a retry helps."""

from __future__ import annotations

from typing import ClassVar


class NstdError(Exception):
    """Base of every error that nstd raises on purpose.

    The message is one sentence that names the thing; ``remedy`` says what to do about it.
    """

    exit_code: ClassVar[int] = 1
    reason: ClassVar[str] = "other"
    """Value of the ``reason`` label of ``nstd_job_failures_total``."""
    retry: ClassVar[bool] = False
    """Whether the same job may succeed later without anybody changing its input."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[type[NstdError], tuple[str, str]]:
        return type(self), (self.message, self.remedy)


class UsageError(NstdError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2
    reason = "usage"


# --- the input's fault: permanent ------------------------------------------------------------


class InputError(NstdError):
    """A file that the user gave cannot be used as it is."""

    exit_code = 65
    reason = "input"


class DecodeError(InputError):
    """An image is damaged, truncated, or not an image at all."""

    reason = "decode"


class UnsupportedError(InputError):
    """A known kind of file that this installation cannot read or write."""

    reason = "unsupported"


class TooLargeError(InputError):
    """An image or a request exceeds a configured limit."""

    reason = "too_large"


class SidecarError(InputError):
    """A sidecar has an unknown key, a wrong value, or is not safe YAML."""

    reason = "sidecar"


class UnpairedError(InputError):
    """A photograph without a style, half a pair, or a sidecar whose files never came."""

    reason = "unpaired"


class UnsafeFileError(InputError):
    """A name or a kind of file that is refused whatever it contains."""

    reason = "unsafe"


class DivergedError(InputError):
    """The loss stayed NaN or exploding after every roll back that the guard allows."""

    reason = "nan"


class PoisonError(InputError):
    """A job ended its worker more often than a job may."""

    reason = "stuck"


class AttemptsError(InputError):
    """A transient error came back as often as ``worker.max_attempts`` allows."""

    reason = "attempts"


# --- something is missing on this machine ----------------------------------------------------


class MissingError(NstdError):
    """Something that nstd needs is not there and cannot be had."""

    exit_code = 69
    reason = "missing"


class WeightsError(MissingError):
    """The network's weights are absent, damaged, or of another layout."""

    reason = "weights"


# --- try again later -------------------------------------------------------------------------


class TransientError(NstdError):
    """Not the input's fault: the same job may succeed later."""

    exit_code = 75
    reason = "transient"
    retry = True


class DeviceError(TransientError):
    """No usable GPU where one was asked for, or one that died."""

    reason = "gpu"


class MemoryExhaustedError(TransientError):
    """The device or the host has no memory left for this job."""

    reason = "oom"


class StorageError(TransientError):
    """A file-system call failed: read-only, unreachable, input/output error."""

    reason = "io"


class NoSpaceError(StorageError):
    """A file system is full, or below its configured floor."""

    reason = "no_space"


class WorkerLostError(TransientError):
    """The worker died or stalled while it held the job."""

    reason = "worker"


class AlreadyRunningError(TransientError):
    """Another daemon holds the state folder."""

    reason = "locked"


# --- the administrator's part ----------------------------------------------------------------


class ConfigError(NstdError):
    """The configuration is wrong, or contradicts the machine."""

    exit_code = 78
    reason = "config"


class CancelledError(NstdError):
    """The job was cancelled on request."""

    reason = "cancelled"


def _leaves(cls: type[NstdError]) -> list[type[NstdError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _leaves(child))]


def by_reason(reason: str) -> type[NstdError]:
    """Return the error class that carries ``reason``, so that errors cross process borders."""
    return next((cls for cls in _leaves(NstdError) if cls.reason == reason), NstdError)


def all_reasons() -> tuple[str, ...]:
    """Every value that the ``reason`` label can take, so that each counter starts at zero."""
    return tuple(sorted({cls.reason for cls in _leaves(NstdError)}))
