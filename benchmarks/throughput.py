"""How many pictures an hour a daemon paints, and how soon it begins the next one.

A real daemon gets a style with the settings asked for and copies of a photograph, all at once.
Pictures an hour count from the end of the first to the end of the last: what a queue that never
runs dry gives. ``begins`` is what lies between the start of a job and its first step: reading the
pictures, and the targets of its first level. The first job has to trace graphs and measure the
style; the others find both done.

With ``--batch 1 2 4 8`` the daemon runs once for each ``worker.batch``, and the engine alone
paints so many pictures side by side: what the device gains, without files and processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import kit

from nstd.photo.encode import encode

if TYPE_CHECKING:
    from nstd.engine.params import StyleParams
    from nstd.engine.stylizer import Stylizer

STYLE = "benchmark"
LIMIT_S = 3600.0
POLL_S = 0.02


class Daemon:
    """``nstd run`` on a folder, from ``with`` to its end."""

    def __init__(self, root: Path, weights: str, device: str, batch: int | None = None) -> None:
        self.root = root
        config = root / "nstd.yaml"
        worker = f"worker: {{batch: {batch}}}\n" if batch else ""
        config.write_text(f"folders: {{root: {json.dumps(str(root))}}}\n{worker}", "utf-8")
        self._command = [
            sys.executable, "-m", "nstd", "run", "--config", str(config),
            "--listen", "127.0.0.1:0", "--weights", weights, "--device", device,
        ]  # fmt: skip

    def __enter__(self) -> Self:
        self.began = time.time()
        with (self.root / "daemon.log").open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def ask(self, path: str) -> bytes | None:
        """Return what the daemon answers, or None while it does not."""
        try:
            address = (self.root / "state" / "listen").read_text(encoding="utf-8").strip()
            with urlopen(f"http://{address}{path}", timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except (OSError, URLError, ValueError):
            return None

    def until(self, path: str) -> float:
        """Return the seconds from the start of the process until ``path`` answers well."""
        while self.ask(path) is None:
            if self.process.poll() is not None or time.time() - self.began > LIMIT_S:
                sys.exit(f"The daemon did not start: see {self.root / 'daemon.log'}.")
            time.sleep(POLL_S)
        return time.time() - self.began


def children(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in listed.split()]


def watch(daemon: Daemon, jobs: int) -> dict[str, dict[str, float]]:
    """Follow the jobs to their ends; return when each began, first stepped, and ended."""
    seen: dict[str, dict[str, float]] = {}
    deadline = time.time() + LIMIT_S
    while sum("ended" in job for job in seen.values()) < jobs:
        if time.time() > deadline or daemon.process.poll() is not None:
            sys.exit(f"The daemon did not finish: see {daemon.root / 'daemon.log'}.")
        now = json.loads(daemon.ask("/api/jobs") or b"{}")
        for job in now.get("running", []):
            facts = seen.setdefault(job["id"], {"began": job["started"]})
            if job["step"] and "stepped" not in facts:
                facts["stepped"] = time.time()
        for job in (*now.get("recent", []), *now.get("failed", [])):
            if job["outcome"] != "done":
                sys.exit(f"A job ended as {job['outcome']}: {job['error']}")
            seen.setdefault(job["id"], {})["ended"] = job["ended"]
        time.sleep(POLL_S)
    return seen


def prepare(asked: argparse.Namespace, root: Path) -> bytes:
    """Put the style into the library; return the photograph as a file."""
    contents, styles = kit.pictures(asked.images)
    library = root / "styles" / STYLE
    library.mkdir(parents=True)
    (library / "style.jpg").write_bytes(encode(next(iter(styles.values())), format="jpg"))
    settings = "".join(f"{name}: {value}\n" for name, _, value in
                       (pair.partition("=") for pair in asked.settings))  # fmt: skip
    (library / "style.yaml").write_text(settings, encoding="utf-8")
    return encode(next(iter(contents.values())), format="jpg")


def drop(root: Path, photograph: bytes, count: int) -> None:
    """Put ``count`` copies into the style's folder, each complete when it appears."""
    folder = root / "inbox" / STYLE
    for i in range(count):
        hidden = folder / f".{i}.part"
        hidden.write_bytes(photograph)
        os.rename(hidden, folder / f"photograph-{i:03}.jpg")


def reports(root: Path) -> list[dict[str, Any]]:
    """Return the reports beside the pictures, in the order of their jobs."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (root / "outbox" / STYLE).glob("*.json")
    ]
    return sorted(found, key=lambda report: str(report["job"]))


def measure(asked: argparse.Namespace, root: Path, batch: int | None = None) -> dict[str, Any]:
    """Run the daemon on its queue and return the figures."""
    photograph = prepare(asked, root)
    with Daemon(root, asked.weights, asked.device, batch) as daemon:
        alive, ready = daemon.until("/healthz"), daemon.until("/readyz")
        resident = kit.resident_bytes(daemon.process.pid)
        drop(root, photograph, asked.count)
        began = time.time()
        jobs = watch(daemon, asked.count)
        workers = children(daemon.process.pid)
        facts = {
            "alive_s": alive,
            "ready_s": ready,
            "daemon_bytes": resident,
            "daemon_peak_bytes": kit.peak_bytes(daemon.process.pid),
            "worker_peak_bytes": max(map(kit.peak_bytes, workers), default=None),
        }
    ends = sorted(job["ended"] for job in jobs.values())
    told = reports(root)
    return {
        **facts,
        "pictures": asked.count,
        "batch": [report["plan"].get("batch", 1) for report in told],
        "size": [told[0]["picture"]["width"], told[0]["picture"]["height"]],
        "first_s": ends[0] - began,
        "pictures_an_hour": 3600.0 * (len(ends) - 1) / (ends[-1] - ends[0]),
        "pictures_an_hour_from_the_drop": 3600.0 * len(ends) / (ends[-1] - began),
        "begins_s": [
            round(job["stepped"] - job["began"], 3)
            for _, job in sorted(jobs.items()) if "stepped" in job and "began" in job
        ],
        "stages_s": [{**report["seconds"], **report["engine_seconds"]} for report in told],
    }  # fmt: skip


def engine(asked: argparse.Namespace) -> tuple[Stylizer, kit.Image, kit.Image, StyleParams]:
    """Return the engine, a photograph at its size, a style, and the parameters asked for."""
    import yaml

    from nstd.engine import device, weights
    from nstd.engine.stylizer import Stylizer
    from nstd.jobs.settings import resolve

    contents, styles = kit.pictures(asked.images)
    wish = {name: yaml.safe_load(value) for name, _, value in
            (pair.partition("=") for pair in asked.settings)}  # fmt: skip
    params = resolve(wish, {}, {})
    content = kit.sized(next(iter(contents.values())), params.size)
    where = device.open_device(device.resolve(asked.device)[0])
    stylizer = Stylizer(weights.find(asked.weights), device=where)
    return stylizer, content, next(iter(styles.values())), params


def side_by_side(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds a picture takes by how many are painted at a time, without a daemon."""
    from nstd.engine.progress import Listener, StyleImage

    stylizer, content, painting, params = engine(asked)
    style = StyleImage(painting, sha256="benchmark")
    largest: dict[str, list[int]] = {str(batch): [] for batch in asked.batch}

    def paint(batch: int) -> None:
        with ThreadPoolExecutor(batch) as pool:
            ends = [
                pool.submit(stylizer.stylize, content, [style], params, listener=Listener())
                for _ in range(batch)
            ]
        largest[str(batch)] += [end.result().plan["batch"] for end in ends]

    def seconds(batch: int) -> float:
        return kit.timed(lambda: paint(batch), kit.CLOCKS[asked.clock])() / batch

    things = {str(batch): partial(seconds, batch) for batch in asked.batch}
    figures = kit.side_by_side(things, asked.rounds)
    return {
        batch: {"seconds_a_picture": figure, "together": min(largest[batch])}
        for batch, figure in figures.items()
    }


def warm_start(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what the second of two jobs spends before its first step, without a daemon."""
    from nstd.engine.progress import Listener, StepReport, StyleImage

    stylizer, content, painting, params = engine(asked)
    seconds = []
    for _ in range(4):
        style = StyleImage(painting, sha256="benchmark")
        began = time.perf_counter()
        stepped: list[tuple[int, float]] = []

        def report(told: StepReport, stepped: list[tuple[int, float]] = stepped) -> None:
            stepped.append((told.step, time.perf_counter()))

        stylizer.stylize(content, [style], params, listener=Listener(report=report, report_s=0.0))
        (first, at), (later, then) = [(s, t) for s, t in stepped if s][:2]
        seconds.append(at - began - first * (then - at) / (later - first))
    return {"first_s": seconds[0], "again_s": kit.Figure(tuple(seconds[1:]))}


@contextlib.contextmanager
def workplace(root: Path | None) -> Iterator[Path]:
    """Yield the folder to work in; a temporary one unless it is named."""
    if root is not None:
        root.mkdir(parents=True)
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="nstd-throughput-") as folder:
        yield Path(folder)


def in_batches(asked: argparse.Namespace) -> None:
    """Measure with each number of pictures at a time, and show them beside each other."""
    alone = side_by_side(asked)
    facts: dict[str, Any] = {"engine": alone}
    columns: dict[str, Any] = {}
    if not asked.engine_only:
        for batch in asked.batch:
            with workplace(asked.root and asked.root / str(batch)) as root:
                facts[f"daemon {batch}"] = columns[str(batch)] = measure(asked, root, batch)
    first = alone[str(asked.batch[0])]["seconds_a_picture"].median
    rows = []
    for batch, figures in alone.items():
        told = columns.get(batch, {})
        rows.append((
            batch, str(figures["together"]), str(figures["seconds_a_picture"]),
            first / figures["seconds_a_picture"].median,
            told.get("pictures_an_hour_from_the_drop", "?"), max(told.get("batch", "?")),
        ))  # fmt: skip
    titles = (
        "at a time", "in a batch at least", f"engine: s a picture ({asked.clock})",
        "times as fast", "daemon: pictures an hour", "in a batch at most",
    )  # fmt: skip
    kit.show(f"{' '.join(asked.settings)}, {asked.weights}, {asked.device}", titles, rows)
    facts |= {"machine": kit.machine(), "weights": asked.weights, "settings": asked.settings}
    kit.finish(asked.out, "throughput", facts)


def main() -> None:
    """Run the benchmark."""
    parser = kit.options(__doc__)
    parser.add_argument("--count", type=int, default=5, help="photographs")
    parser.add_argument(
        "--settings", nargs="*", default=["preset=draft"], metavar="KEY=VALUE",
        help="what a sidecar would say",
    )  # fmt: skip
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--batch", type=int, nargs="+", metavar="N",
        help="worker.batch: measure the daemon, and the engine alone, with each of these",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="of the engine alone")
    parser.add_argument("--clock", choices=kit.CLOCKS, default="wall", help="of the engine alone")
    parser.add_argument("--engine-only", action="store_true", help="with --batch: no daemon")
    parser.add_argument("--root", type=Path, help="work there, and keep it")
    asked = parser.parse_args()
    (in_batches if asked.batch else one_by_one)(asked)


def one_by_one(asked: argparse.Namespace) -> None:
    """Measure the daemon as it is configured by default, and how soon the engine begins."""
    with workplace(asked.root) as root:
        facts = measure(asked, root)
    facts["engine"] = warm_start(asked)
    begins = facts["begins_s"]
    rows = [
        ("pictures an hour", facts["pictures_an_hour"]),
        ("first picture, s", facts["first_s"]),
        ("daemon answers after, s", facts["alive_s"]),
        ("daemon ready after, s", facts["ready_s"]),
        ("daemon, MiB", facts["daemon_bytes"] / 2**20),
        ("worker at most, MiB", (facts["worker_peak_bytes"] or 0) / 2**20),
        ("first job begins, s (its first steps seen)", begins[0] if begins else "?"),
        ("others begin, s", ", ".join(map(str, begins[1:]))),
        ("engine: from call to first step, cold, s", facts["engine"]["first_s"]),
        ("engine: the same, warm, s", str(facts["engine"]["again_s"])),
    ]
    kit.show(f"{facts['pictures']} pictures of {facts['size']}", ("", ""), rows)
    facts |= {"machine": kit.machine(), "weights": asked.weights, "settings": asked.settings}
    kit.finish(asked.out, "throughput", facts)


if __name__ == "__main__":
    main()
