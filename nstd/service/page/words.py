"""Small pieces of HTML and plain words for times, sizes and counts."""

from __future__ import annotations

import datetime as dt
import html
import math
import os
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from nstd.jobs.text import shown


def text(value: object) -> str:
    """Return any value as HTML text, safe in attributes too."""
    return html.escape(shown(str(value)), quote=True)


def link(path: str) -> str:
    """Return a relative path as a URL that stays relative, whatever the name contains."""
    return "./" + quote(os.fsencode(path))


def span(seconds: float) -> str:
    """Return a length of time as one would say it: ``41 s``, ``12 min``, ``3 h``, ``2 days``."""
    value = max(0.0, seconds)
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if value < limit:
            return f"{round(value / size)} {unit}"
    return f"{round(value / 86_400)} days"


def when(timestamp: float, now: float) -> str:
    """Return an instant as ``3 min ago``, with the exact time to be had by pointing at it."""
    return _time(timestamp, "just now" if now - timestamp < 5 else f"{span(now - timestamp)} ago")


def clock(timestamp: float) -> str:
    """Return an instant as the time of day."""
    return _time(timestamp, f"{_local(timestamp):%H:%M:%S}")


def _local(timestamp: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(timestamp, dt.UTC).astimezone()


def _time(timestamp: float, words: str) -> str:
    moment = _local(timestamp)
    exact = f"{moment:%Y-%m-%d %H:%M:%S}"
    return f'<time datetime="{moment.isoformat()}" title="{exact}">{words}</time>'


def size(count: float) -> str:
    """Return a number of bytes: ``12 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(len(units) - 1, int(math.log(count, 1024))) if count >= 1 else 0
    value = count / 1024**power
    return (
        f"{value:.0f} {units[power]}" if value >= 10 or not power else f"{value:.1f} {units[power]}"
    )


def number(value: float | None) -> str:
    """Return a loss to three digits; a diverged one as what it is."""
    if value is None or not math.isfinite(value):
        return "not a number"
    return f"{value:.3g}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 picture``, ``2 pictures``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


LEFT_ALONE = {
    "temp": "temporary",
    "hidden": "hidden",
    "system": "of other programs",
    "extension": "of no image type",
    "sidecar": "no sidecars of nstd's",
    "unsafe": "links or pipes",
    "depth": "folders too deep",
}


def left_alone(ignored: Mapping[str, int], no_images: Sequence[str] = ()) -> str:
    """Return how many files of each class are left in the inbox, in words; empty for none.

    Those of no image type are named, as far as ``no_images`` goes.
    """
    names = ", ".join(map(shown, no_images))
    more = ", ..." if ignored.get("extension", 0) > len(no_images) else ""
    parts = {
        kind: f"{count} {LEFT_ALONE.get(kind, kind)}" for kind, count in ignored.items() if count
    }
    if names and "extension" in parts:
        parts["extension"] += f" ({names}{more})"
    return ", ".join(parts.values())


def sparkline(history: Sequence[tuple[int, float]]) -> str:
    """Return the total loss over the steps as a small curve, on a logarithmic scale."""
    points = [(step, math.log10(loss)) for step, loss in history if loss and loss > 0]
    if len(points) < 2:
        return ""
    first, last = points[0][0], points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)
    width, height = 300.0, 54.0
    across, up = width / max(1, last - first), (height - 6) / ((high - low) or 1)
    line = "L".join(
        f"{(step - first) * across:.1f} {height - 3 - (loss - low) * up:.1f}"
        for step, loss in points
    )
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" '
        f'role="img" aria-label="Loss over the steps so far">'
        f'<path class="under" d="M0 {height:g}L{line}L{width:g} {height:g}Z"/>'
        f'<path d="M{line}"/></svg>'
    )
