"""One picture from files to bytes: decode, colour, stylize, encode.

The daemon's workers and ``nstd stylize`` both paint with this; whoever calls hands in the engine,
the files, and a listener.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nstd.engine.progress import StyleImage
from nstd.errors import CancelledError, DecodeError
from nstd.photo import colour, encode, resize
from nstd.workers.decoder import Decoder
from nstd.workers.report import build_report
from nstd.workers.settings import PaintSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from nstd.engine.params import StyleParams
    from nstd.engine.progress import Checkpoint, Image, Listener, Result, Stylize
    from nstd.jobs.spec import OutputSpec
    from nstd.photo.decode import Photo


class Painter(Protocol):
    """What ``Stylizer`` and its stand-in offer."""

    @property
    def stylize(self) -> Stylize:
        """The call that paints."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Device, weights with sha256, versions: for the report and the job's hash."""
        ...


@dataclass(frozen=True)
class Source:
    """One file that a picture is made from."""

    path: str
    role: str
    """``content``, ``style`` or ``mask``."""
    name: str = ""
    """What the user calls it; empty: the path's last part."""
    weight: float = 1.0
    sha256: str = ""
    """When known; empty: computed here."""

    def shown(self) -> str:
        """Return the name for the report: never a folder of this machine."""
        return self.name or os.path.basename(self.path)


@dataclass(frozen=True)
class PaintRequest:
    """What to paint: files, parameters, and the form of the result."""

    content: Source
    styles: tuple[Source, ...]
    params: StyleParams
    output: OutputSpec
    mask: Source | None = None
    job_id: str = ""

    def sources(self) -> tuple[Source, ...]:
        """Return every file, content first."""
        return (self.content, *self.styles, *((self.mask,) if self.mask else ()))

    def hashed(self) -> PaintRequest:
        """Return the same with the sha256 of every file."""
        return dataclasses.replace(
            self,
            content=_hashed(self.content),
            styles=tuple(_hashed(style) for style in self.styles),
            mask=_hashed(self.mask) if self.mask else None,
        )


@dataclass(frozen=True)
class Painting:
    """A finished picture as bytes, and the record of how it came about."""

    data: bytes = field(repr=False)
    format: str
    height: int
    width: int
    report: dict[str, Any] = field(repr=False)
    result: Result = field(repr=False)


@dataclass(frozen=True)
class Watch:
    """Where ``paint`` tells which stage it is in."""

    begin: Callable[[str], None] = lambda _phase: None
    """``decode``, ``prepare`` (then the engine reports), ``encode``."""
    stage: Callable[[str, float], None] = lambda _stage, _seconds: None
    """``decode``, ``optimize``, ``encode`` have ended, with their seconds."""
    resume: Callable[[str], Checkpoint | None] = lambda _job_hash: None
    """Asked once for a checkpoint of the job that has this hash."""
    notes: list[str] = field(default_factory=list)
    """What else is to stand in the report; read at the end."""


def paint(
    request: PaintRequest,
    painter: Painter,
    *,
    listener: Listener,
    settings: PaintSettings | None = None,
    watch: Watch | None = None,
    decoder: Decoder | None = None,
) -> Painting:
    """Return the picture of ``request``, encoded; the listener's preview sees final colours.

    Whoever paints often hands in the same ``decoder``, which keeps the styles.

    Raises the decoder's errors by file name, CancelledError, DivergedError, MemoryExhaustedError.
    """
    settings, watch = settings or PaintSettings(), watch or Watch()
    facts = painter.facts()
    timer = _Timer(watch)
    with timer.measure("decode", "decode"):
        request = request.hashed()
        decoder = decoder or Decoder(settings)
        photo, content, styles = _inputs(request, decoder, listener, watch)
    identity = job_hash(request, facts)
    with timer.measure("optimize", "prepare"):
        result = painter.stylize(
            content,
            styles,
            request.params,
            listener=_with_final_colours(listener, request.params, content),
            resume=watch.resume(identity),
            job_hash=identity,
        )
    with timer.measure("encode", "encode"):
        pixels = _final_colours(result.pixels, request.params, content)
        data, form = _encoded(pixels, photo, request.output, settings)
    height, width = pixels.shape[:2]
    report = build_report(
        request, result, facts, notes=watch.notes, seconds=timer.seconds, job_hash=identity
    )
    report["picture"] = {
        "format": form,
        "width": width,
        "height": height,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return Painting(data, form, height, width, report, result)


def job_hash(request: PaintRequest, facts: Mapping[str, Any]) -> str:
    """Return what identifies a run: a checkpoint of any other one is refused.

    Not in it: the device's name, so that another GPU of the machine may go on.
    """
    inputs = [[source.role, source.sha256, source.weight] for source in request.sources()]
    facts = {key: value for key, value in facts.items() if key != "device"}
    return hashlib.sha256(
        repr([inputs, sorted(request.params.to_dict().items()), _plain(facts)]).encode()
    ).hexdigest()


def _plain(value: Any) -> Any:
    """Return nested mappings as sorted pairs, so that their repr does not depend on order."""
    if isinstance(value, dict):
        return sorted((key, _plain(inner)) for key, inner in value.items())
    return value


def _hashed(source: Source) -> Source:
    if source.sha256:
        return source
    try:
        with open(source.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DecodeError(
            f"'{source.shown()}' cannot be read: {error.strerror}.",
            "Check that it is there and that you may read it.",
        ) from error
    return dataclasses.replace(source, sha256=digest)


def _inputs(
    request: PaintRequest, decoder: Decoder, listener: Listener, watch: Watch
) -> tuple[Photo, Image, tuple[StyleImage, ...]]:
    """Decode every file, each in its own limited child, and bring it to its working size."""
    params = request.params

    def alive() -> None:
        if listener.cancelled():
            raise CancelledError("The job was cancelled.")
        watch.begin("decode")  # a sign of life: each file may take its full time

    side = max(params.squeeze) if params.squeeze else params.size
    photo = decoder.photo(request.content, side, alive)
    content = _resized(photo.pixels, params)
    mask = _mask(decoder.photo(request.mask, side, alive)) if request.mask else None
    styles = []
    for source in request.styles:
        alive()
        pixels = decoder.style(source, math.ceil(side * max(1.0, params.style_scale)), alive)
        digest = source.sha256
        if params.preserve_color == "histogram":  # section 3.1: the style takes the photo's colours
            pixels, digest = colour.match_colours(pixels, content), ""
        styles.append(StyleImage(pixels, source.weight, digest, mask))
    return photo, content, tuple(styles)


def _mask(photo: Photo) -> NDArray[np.float32]:
    """Return (H, W) float32 in [0, 1]: white is painted; black or transparent is not."""
    grey = photo.pixels.mean(axis=2, dtype=np.float32) / np.float32(255)  # (H, W)
    if photo.alpha is not None:
        grey *= photo.alpha / np.float32(255)
    return np.asarray(grey, np.float32)


def _resized(pixels: Image, params: StyleParams) -> Image:
    if params.squeeze:
        return resize.resize(pixels, *params.squeeze)
    height, width = pixels.shape[:2]
    return resize.resize(pixels, *resize.fit(height, width, params.size))


def _with_final_colours(listener: Listener, params: StyleParams, content: Image) -> Listener:
    show = listener.preview
    if show is None or params.preserve_color != "luminance":
        return listener
    return dataclasses.replace(
        listener, preview=lambda pixels: show(_final_colours(pixels, params, content))
    )


def _final_colours(pixels: Image, params: StyleParams, content: Image) -> Image:
    """Apply section 3.2: the painting's light with the photograph's colours, where asked for."""
    if params.preserve_color != "luminance":
        return pixels
    return colour.with_luminance_of(content, pixels)


def _encoded(
    pixels: Image, photo: Photo, output: OutputSpec, settings: PaintSettings
) -> tuple[bytes, str]:
    """Return the file's bytes and the format that they have."""
    alpha = None
    if photo.alpha is not None:
        alpha = resize.resize(photo.alpha, *pixels.shape[:2])
    form = encode.writable_format(output.format or photo.format, alpha is not None)
    data = encode.encode(
        pixels,
        format=form,
        quality=output.quality,
        alpha=alpha,
        metadata=photo.metadata,
        keep_gps=settings.keep_gps,
    )
    return data, form


class _Timer:
    """Times stages and tells the watch of them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.seconds: dict[str, float] = {}

    def measure(self, stage: str, phase: str) -> _Stage:
        """Return a context that begins ``phase`` and ends ``stage``."""
        return _Stage(self, self._watch, stage, phase)


class _Stage:
    def __init__(self, timer: _Timer, watch: Watch, stage: str, phase: str) -> None:
        self._timer, self._watch, self._stage, self._phase = timer, watch, stage, phase

    def __enter__(self) -> None:
        self._watch.begin(self._phase)
        self._began = time.monotonic()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            seconds = time.monotonic() - self._began
            self._timer.seconds[self._stage] = seconds
            self._watch.stage(self._stage, seconds)
