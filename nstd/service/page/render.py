"""One page from one snapshot: served by the daemon, and written to ``outbox/status.html``.

It needs nothing from elsewhere (style, picture of the mark and script are inside) and contains no
script of users: every name passes ``words.text`` or ``words.link``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files

from nstd.service.page.words import (
    clock,
    counted,
    left_alone,
    link,
    number,
    size,
    span,
    sparkline,
    text,
    when,
)
from nstd.service.snapshot import EndedJob, QueuedJob, RunningJob, Snapshot, WaitingFile
from nstd.service.systemd import duration

SHOWN_ROWS = 50
SHOWN_PICTURES = 12
SHOWN_FAILURES = 12
NEW_FAILURES = 3
"""Of these so many stand before the pictures, the others behind."""

Href = Callable[[str, str, str], str]
"""(kind, job id, path below the outbox) → URL."""

MARK = (
    '<svg viewBox="0 0 48 48" aria-hidden="true"><g fill="none" stroke-linecap="round" '
    'stroke-width="5"><path stroke="var(--accent)" d="M7 33c5-17 18-24 27-18s4 17-5 17-10-9-3-11"/>'
    '<path stroke="var(--accent2)" d="M8 41c10-3 20-1 33-6"/></g></svg>'
)


def live(snapshot: Snapshot) -> str:
    """Return the page as the daemon serves it: it renews itself, pictures come from the daemon."""
    return _page(snapshot, lambda kind, job, _path: f"/{kind}/{text(job)}", "live.js")


def static(snapshot: Snapshot) -> str:
    """Return the page as a file beside the pictures: relative links, no daemon needed."""
    return _page(snapshot, lambda _kind, _job, path: text(link(path)), "stale.js")


def policy(script: str = "live.js") -> str:
    """Return the Content-Security-Policy: our own style and script, our own pictures, no more."""
    pictures = "'self'" if script == "live.js" else "'self' file:"
    digest = base64.b64encode(hashlib.sha256(_asset(script).encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src {pictures}; connect-src 'self'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (files("nstd.service.page") / name).read_text(encoding="utf-8")


def _page(snap: Snapshot, href: Href, script: str) -> str:
    is_file = script == "stale.js"
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy(script))}">'
        '<meta http-equiv="refresh" content="15">'
        if is_file
        else '<noscript><meta http-equiv="refresh" content="5"></noscript>'
    )
    stale = (
        "nstd has not renewed this page for a while: it is probably not running."
        if is_file
        else "nstd does not answer: this is how things stood when it last did."
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(_title(snap))}</title>{head}<style>{_asset('style.css')}</style></head>"
        f'<body><main data-taken="{snap.taken:.0f}">{_header(snap)}'
        f'<p class="stale" role="alert" hidden>{stale}</p>'
        f"{''.join(_sections(snap, href))}{_footer(snap)}</main>"
        f"<script>{_asset(script)}</script></body></html>\n"
    )


def _title(snap: Snapshot) -> str:
    if snap.running:
        job = snap.running[0]
        return f"{round(100 * job.share)} % · {job.name} · nstd"
    return f"nstd · {_mood(snap)}"


def _mood(snap: Snapshot) -> str:
    if snap.state == "ready":
        return "painting" if snap.running else "idle"
    return {"down": "not running"}.get(snap.state, snap.state)


def _header(snap: Snapshot) -> str:
    notes = "".join(f'<p class="note" role="status">{text(note)}</p>' for note in snap.notes)
    return (
        f'<header>{MARK}<h1>nstd</h1><span class="pill {text(snap.state)}">{text(_mood(snap))}'
        f'</span><p class="lead">{_summary(snap)}</p></header>{notes}'
    )


def _summary(snap: Snapshot) -> str:
    count = snap.pending
    waiting = count.get("queued", 0) + count.get("deferred", 0)
    files_in = count.get("waiting", 0) + count.get("settling", 0)
    parts = []
    if snap.running:
        verb = "is" if len(snap.running) == 1 else "are"
        parts.append(f"{counted(len(snap.running), 'picture')} {verb} being painted")
    if waiting:
        parts.append(f"{counted(waiting, 'more waits', 'more wait')} in the queue")
    if files_in:
        parts.append(f"{counted(files_in, 'file is', 'files are')} not ready yet")
    parts.extend(f"{snap.totals[o]} {o}" for o in ("done", "failed") if snap.totals.get(o))
    return ", ".join(parts) + "." if parts else "Nothing to do."


def _sections(snap: Snapshot, href: Href) -> Iterable[str]:
    now = snap.taken
    if snap.running:
        yield _section("On the easel", "", "".join(_running(job, href) for job in snap.running))
    elif not any(snap.pending.values()):
        yield _invitation(snap)
    if snap.failed:
        yield _section("Failed", _earlier(snap), _failures(snap.failed[:NEW_FAILURES], now))
    if snap.waiting:
        rows = (_waiting(file, now) for file in snap.waiting[:SHOWN_ROWS])
        total = snap.pending.get("waiting", 0) + snap.pending.get("settling", 0)
        yield _table("Waiting in the inbox", total, ("File", "Why", "Since"), rows)
    if snap.deferred:
        rows = (_deferred(job, now) for job in snap.deferred[:SHOWN_ROWS])
        total = snap.pending.get("deferred", 0)
        yield _table("Tried again later", total, ("Picture", "Why", "Next try"), rows)
    if snap.queued:
        rows = (_queued(job, now) for job in snap.queued[:SHOWN_ROWS])
        total = snap.pending.get("queued", 0)
        yield _table("Queue", total, ("Picture", "Style", "Since"), rows)
    if snap.recent:
        cards = "".join(_ended(job, now, href) for job in snap.recent[:SHOWN_PICTURES])
        yield _section("Lately finished", "", f'<div class="grid">{cards}</div>')
    if older := snap.failed[NEW_FAILURES:SHOWN_FAILURES]:
        yield _section("Failed earlier", "", _failures(older, now))


def _section(title: str, small: str, body: str) -> str:
    extra = f"<small>{small}</small>" if small else ""
    return f"<section><h2>{title}{extra}</h2>{body}</section>"


def _earlier(snap: Snapshot) -> str:
    more = snap.totals.get("failed", 0) - min(len(snap.failed), NEW_FAILURES)
    return f"and {more} earlier" if more > 0 else ""


def _failures(jobs: Iterable[EndedJob], now: float) -> str:
    return "".join(_failure(job, now) for job in jobs)


def _table(title: str, total: int, heads: tuple[str, str, str], rows: Iterable[str]) -> str:
    lines = list(rows)
    more = f"the first {len(lines)} of {total}" if total > len(lines) else str(len(lines))
    head = f'<th>{heads[0]}</th><th>{heads[1]}</th><th class="when">{heads[2]}</th>'
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _section(title, more, f'<div class="card"><table>{body}</table></div>')


def _running(job: RunningJob, href: Href) -> str:
    percent = 100 * job.share
    look = (
        f'<img src="{href("preview", job.id, job.preview)}" alt="The picture as it stands">'
        if job.preview
        else "<span>The first look comes soon.</span>"
    )
    eta = f"about {span(job.eta_s)} left" if job.eta_s is not None else text(job.stage)
    losses = "".join(
        f"<div><dt>{text(kind)}</dt><dd>{number(value)}</dd></div>"
        for kind, value in (job.losses or {}).items()
    )
    attempt = f" · attempt {job.attempt}" if job.attempt > 1 else ""
    return (
        f'<article class="card running"><div class="look">{look}</div><div class="facts">'
        f'<div class="name">{text(job.name)}</div>'
        f'<div class="soft">in the style of {text(job.style)} · {text(job.worker)}{attempt}</div>'
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.1f}%"></i></div>'
        f'<div class="split"><span class="big">{percent:.0f} %</span>'
        f'<span class="soft">{eta} · {duration(job.seconds)} so far</span></div>'
        f'<div class="soft">{_where(job)}</div>{sparkline(job.history)}'
        f"{f'<dl>{losses}</dl>' if losses else ''}</div></article>"
    )


def _where(job: RunningJob) -> str:
    return (
        f"step {job.step} of {job.steps} · level {job.level + 1} of {job.levels} · "
        f"{job.width} × {job.height} px"
    )


def _queued(job: QueuedJob, now: float) -> str:
    urgent = f" · priority {job.priority}" if job.priority else ""
    return (
        f'<tr><td class="name">{text(job.name)}</td><td>{text(job.style)}{urgent}</td>'
        f'<td class="when">{when(job.since, now)}</td></tr>'
    )


def _deferred(job: QueuedJob, now: float) -> str:
    next_try = (
        "soon" if job.retry_at is None or job.retry_at <= now else f"in {span(job.retry_at - now)}"
    )
    return (
        f'<tr><td class="name">{text(job.name)}</td>'
        f"<td>{text(job.reason)} ({counted(job.attempts, 'attempt')} so far)</td>"
        f'<td class="when">{next_try}</td></tr>'
    )


def _waiting(file: WaitingFile, now: float) -> str:
    limit = ""
    if file.deadline is not None:
        limit = f'<div class="soft">given up in {span(file.deadline - now)}</div>'
    return (
        f'<tr><td class="name">{text(file.name)}</td><td>{text(file.reason)}{limit}</td>'
        f'<td class="when">{when(file.since, now)}</td></tr>'
    )


def _ended(job: EndedJob, now: float, href: Href) -> str:
    picture = (
        f'<a href="{href("picture", job.id, job.picture)}"><img loading="lazy" alt="" '
        f'src="{href("picture", job.id, job.picture)}"></a>'
        if job.picture
        else '<div class="blank"></div>'
    )
    took = f" · took {span(job.seconds)}" if job.seconds is not None else ""
    report = f' · <a href="{href("report", job.id, job.report)}">report</a>' if job.report else ""
    return (
        f'<figure class="card">{picture}<figcaption><div class="name" title="{text(job.name)}">'
        f"{text(job.name.rpartition('/')[2])}</div>"
        f'<div class="soft">{text(job.outcome if job.outcome != "done" else job.style)} · '
        f"{when(job.ended, now)}{took}{report}</div></figcaption></figure>"
    )


def _failure(job: EndedJob, now: float) -> str:
    folder = f" · its files lie in <code>failed/{text(job.folder)}</code>" if job.folder else ""
    return (
        f'<article class="card failure"><div class="split">'
        f'<span class="name">{text(job.name)}</span>'
        f'<span class="soft">{when(job.ended, now)}</span></div>'
        f"<p>{text(job.error)}</p><p><b>{text(job.remedy)}</b></p>"
        f'<p class="soft">To try again: <code>nstd retry {text(job.id)}</code>{folder}</p>'
        "</article>"
    )


def _invitation(snap: Snapshot) -> str:
    chips = "".join(f"<span>{text(style)}</span>" for style in snap.styles[:40])
    hint = (
        f'Put a photograph into one of these folders of the inbox:<div class="chips">{chips}</div>'
        if chips
        else "Put a painting into <b>styles/</b>, and photographs into the inbox folder "
        "of the same name."
    )
    return f'<section><h2>The easel is free</h2><div class="card empty">{hint}</div></section>'


def _footer(snap: Snapshot) -> str:
    lines = []
    for folder in snap.folders:
        free = f", {size(folder.free_bytes)} free" if folder.free_bytes is not None else ""
        problem = f' <span class="bad">{text(folder.problem)}</span>' if folder.problem else ""
        lines.append(f"{text(folder.name)}: <code>{text(folder.path)}</code>{free}{problem}")
    if ignored := left_alone(snap.ignored, snap.no_images):
        lines.append(f"Left alone in the inbox: {text(ignored)}.")
    workers = ", ".join(
        f"{text(w.name)} ({text(w.device or 'no device')}) {text(w.state)}"
        + (f": {text(w.problem)}" if w.problem else "")
        for w in snap.workers
    )
    if workers:
        lines.append(f"Workers: {workers}.")
    about = f"nstd {text(snap.version)}"
    if snap.weights:
        about += f" with {text(snap.weights)} weights"
    if snap.started is not None:
        about += f", up for {span(snap.taken - snap.started)}"
    lines.append(f"{about}; as of {clock(snap.taken)}.")
    return "<footer>" + "".join(f"<p>{line}</p>" for line in lines) + "</footer>"
