"""The tree of settings: every key with its default, its bounds, its unit and its sentence.

Defaults are the values in this file and nowhere else: ``config.example.yaml`` is written from it,
the daemon reads it, and ``nstd check`` names its keys.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nstd.jobs.settings import Settings

MiB, GiB = 2**20, 2**30
FOLDER_NAMES = ("inbox", "outbox", "originals", "failed", "styles", "state")
PATTERN_NAME = r"^[^/\\\x00-\x1f\x7f]+$"

Folder = Annotated[Path, Field(strict=False)]
"""YAML has no paths, only text."""
Days = Annotated[float, Field(gt=0, le=36_500)] | None
Bytes = Annotated[int, Field(ge=0, le=2**60)]


class Section(BaseModel):
    """What all sections share: no unknown keys, no guessing of types, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    title: ClassVar[str] = ""


class Folders(Section):
    """Where the six folders lie; loading makes every path absolute."""

    title: ClassVar[str] = "Where the folders lie: a relative path starts at root."
    root: Folder = Field(
        default=Path("/srv/nstd"), description="Home of the folders below; --root wins."
    )
    inbox: Folder = Field(default=Path("inbox"), description="Photographs come in here.")
    outbox: Folder = Field(default=Path("outbox"), description="Pictures and reports go out here.")
    originals: Folder = Field(default=Path("originals"), description="Inputs of finished jobs.")
    failed: Folder = Field(
        default=Path("failed"), description="One folder per failed job, with the why."
    )
    styles: Folder = Field(default=Path("styles"), description="The style library.")
    state: Folder = Field(
        default=Path("state"), description="Ledger, spool and lock; a local disk, for nstd alone."
    )

    @model_validator(mode="before")
    @classmethod
    def _below_root(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        root = data.get("root", cls.model_fields["root"].default)
        if not isinstance(root, str | Path):
            return data
        joined = {
            name: Path(root, value)
            for name in FOLDER_NAMES
            if isinstance(value := data.get(name, name), str | Path)
        }
        return {**data, **joined}

    def by_name(self) -> dict[str, Path]:
        """Return the six folders by name."""
        return {name: getattr(self, name) for name in FOLDER_NAMES}

    @property
    def option(self) -> str:
        """The option that finds these folders again; empty where only the configuration can."""
        plain = all(path == self.root / name for name, path in self.by_name().items())
        return f"--root {shlex.quote(str(self.root))}" if plain else ""


class Inbox(Section):
    """What is taken in, and when."""

    title: ClassVar[str] = "What is taken in, and when."
    intake: Literal["auto", "move", "copy"] = Field(
        default="auto",
        description="move takes the files out of the inbox; copy never touches it; auto copies "
        "where a sync tool owns the folder and moves elsewhere.",
    )
    settle_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="A file counts as written when it was quiet for so long.",
    )
    incomplete_timeout_s: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="So much longer waits a file whose end is missing.",
    )
    pair_timeout_s: float = Field(
        default=900.0,
        gt=0,
        le=30 * 86_400,
        description="So long waits a photograph without a style, or half a pair, before it fails.",
    )
    scan_interval_s: float = Field(
        default=10.0,
        ge=0.05,
        le=3600,
        description="The whole inbox is looked through so often, events or not.",
    )
    polling: Literal["auto", "always", "never"] = Field(
        default="auto", description="Scan only, without events; auto: on remote file systems."
    )
    default_style: str | None = Field(
        default=None,
        pattern=PATTERN_NAME,
        description="Library style of a lone photograph outside the style folders; null: it waits.",
    )
    max_file_bytes: int = Field(
        default=256 * MiB, ge=1, le=2**40, description="Larger files are refused unread."
    )
    max_pixels: int = Field(
        default=150_000_000,
        ge=1,
        le=2**32,
        description="Images with more pixels are refused undecoded.",
    )
    max_side: int = Field(
        default=32_768,
        ge=1,
        le=2**20,
        description="Images with a longer side (px) are refused undecoded.",
    )
    max_depth: int = Field(
        default=4, ge=0, le=32, description="Sub-folders below the inbox are looked into so deep."
    )


class Queue(Section):
    """How much is taken in at once."""

    title: ClassVar[str] = "How much is taken in at once."
    capacity_jobs: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="More jobs wait as files in the inbox, oldest first.",
    )


class Model(Section):
    """The network and the device."""

    title: ClassVar[str] = "The network and the device."
    weights: str = Field(
        default="imagenet",
        min_length=1,
        description="imagenet (Keras's VGG19), builtin (in the package), or the path of a file.",
    )
    device: Literal["auto", "gpu", "cpu"] | tuple[str, ...] = Field(
        default="auto", description="auto, gpu, cpu, or a list such as [gpu:0, gpu:1]."
    )
    memory_bytes: Literal["auto"] | Bytes = Field(
        default="auto", description="Memory the optimization plans its tiles for."
    )

    @field_validator("device", mode="before")
    @classmethod
    def _devices(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class JobDefaults(Settings, Section):
    """Settings of jobs that neither name one nor have a style that does; ``given()`` lists them."""

    title: ClassVar[str] = (
        "What a job gets that neither its sidecar nor its style says; null: as the preset has it."
    )


class Worker(Section):
    """How the painting processes are looked after."""

    title: ClassVar[str] = "How the painting processes are looked after."
    start_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="A worker must be ready within so long.",
    )
    stall_s: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Without a sign of life for so long (or five steps) a worker is ended.",
    )
    stop_grace_s: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="At a stop, a worker gets so long to write its checkpoint.",
    )
    checkpoint_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="A checkpoint at least so often, unless it would cost over 5 % of the run.",
    )
    preview_s: float = Field(default=10.0, gt=0, le=3600, description="A preview picture so often.")
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="A job that fails for passing reasons is tried so often.",
    )
    retry_s: float = Field(
        default=15.0,
        ge=0,
        le=86_400,
        description="First pause before a retry; it doubles.",
    )
    retry_max_s: float = Field(
        default=900.0,
        ge=0,
        le=7 * 86_400,
        description="Longest pause before a retry.",
    )
    max_worker_deaths: int = Field(
        default=2,
        ge=1,
        le=100,
        description="A job that ended its worker so often is set aside as failed.",
    )
    max_daemon_deaths: int = Field(
        default=5,
        ge=1,
        le=100,
        description="The same for a job that was running when the daemon died.",
    )
    max_jobs: int = Field(
        default=500,
        ge=1,
        le=1_000_000,
        description="A worker is replaced by a fresh one after so many.",
    )
    max_memory_bytes: Literal["auto"] | Bytes = Field(
        default="auto",
        description="A worker that holds more is replaced; auto: 80 % of what there is.",
    )
    batch: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] = Field(
        default="auto",
        description="Jobs of one kind and size that a device paints at a time, as one batch; auto: "
        "on a GPU up to 8 of at most 512 px as memory allows, on a CPU 1 (the same bytes always).",
    )
    decode_timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Time to decode one image."
    )
    decode_memory_bytes: int = Field(
        default=3 * GiB, ge=64 * MiB, le=2**44, description="Memory to decode one image."
    )


class Outbox(Section):
    """How results are delivered."""

    title: ClassVar[str] = "How results are delivered."
    preview: bool = Field(default=True, description="Show running jobs in the previews folder.")
    previews_folder: str = Field(
        default="previews", pattern=PATTERN_NAME, description="Its name below the outbox."
    )
    status_page: bool = Field(default=True, description="Keep status.html in the outbox.")
    status_interval_s: float = Field(
        default=10.0, ge=0.1, le=3600, description="Write it at most so often."
    )
    keep_gps: bool = Field(default=False, description="Keep the place where a photo was taken.")
    keep_originals: bool = Field(
        default=True, description="false deletes the inputs of finished jobs (move intake only)."
    )
    free_space_floor_bytes: int = Field(
        default=256 * MiB, ge=0, le=2**50, description="With less room on a disk the queue pauses."
    )


class Retention(Section):
    """How long things are kept; null keeps for ever."""

    title: ClassVar[str] = "How long things are kept; null keeps for ever."
    reports_days: Days = Field(
        default=None, description="Reports in the outbox; never the pictures."
    )
    originals_days: Days = Field(default=None, description="Inputs of finished jobs.")
    originals_max_bytes: Bytes | None = Field(
        default=None, description="The oldest go first beyond it."
    )
    failed_days: Days = Field(default=None, description="Folders of failed jobs.")
    failed_max_bytes: Bytes | None = Field(
        default=None, description="The oldest go first beyond it."
    )
    ledger_days: Days = Field(default=None, description="Rows of ended jobs in the ledger.")
    ledger_max_jobs: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The oldest ended rows go first beyond it."
    )


class Http(Section):
    """Metrics, health and the status page."""

    title: ClassVar[str] = "Metrics, health and the status page."
    enabled: bool = Field(default=True, description="false opens no port at all.")
    listen: str = Field(
        default="127.0.0.1:9464",
        pattern=r"^(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:\[\]]+):\d{1,5}$",
        description="ADDRESS:PORT; port 0 takes a free one and writes it to state/listen. "
        "There is no password: keep it on this machine or behind something that asks.",
    )


class Log(Section):
    """What is written to stderr."""

    title: ClassVar[str] = "What is written to stderr."
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: readable on a terminal, JSON elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important kind that is written."
    )
