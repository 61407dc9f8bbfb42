"""The promises as a model: what was dropped, and what must hold of it after every kill."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

Way = Literal["folder", "pair", "sidecar", "broken", "wrong"]
WAYS: tuple[Way, ...] = ("folder", "pair", "folder", "sidecar", "folder", "broken", "wrong")
"""How photographs are dropped, in turn: three ways of asking, two of failing."""
STYLE = "starry"
OURS = (".nstd-", ".tmp")
ANNEX = {"error.txt", "error.json"}


def photograph(seed: int, note: str) -> bytes:
    """Return a small JPEG; the note makes its bytes differ, and not its pixels."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    image = Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)
    image.save(out, "JPEG", quality=90, comment=note.encode())
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Drop:
    """One job's files in the inbox, and what must become of them."""

    stem: str
    way: Way
    seed: int
    files: dict[str, bytes]

    @property
    def fails(self) -> bool:
        return self.way in ("broken", "wrong")

    @property
    def result(self) -> str:
        """The picture's path below the outbox."""
        return f"{STYLE}/{self.stem}.jpg" if self.way == "folder" else f"{self.stem}.jpg"

    @property
    def kind(self) -> tuple[Way, int]:
        """Drops of one kind have the same pixels and settings, so the same picture."""
        return self.way, self.seed


def make_drop(number: int) -> Drop:
    """Return the drop of that number: ways and pixels come round and round."""
    way, seed, stem = WAYS[number % len(WAYS)], number % 3, f"photo {number:05}"
    data = photograph(seed, stem)
    if way == "folder":
        files = {f"{STYLE}/{stem}.jpg": data}
    elif way == "broken":
        files = {f"{STYLE}/{stem}.jpg": data[: len(data) // 2] + b"\0" * 99 + stem.encode()}
    elif way == "pair":
        style = photograph(90 + seed, stem)
        files = {f"{stem}.content.jpg": data, f"{stem}.style.jpg": style}
    else:
        key = "style" if way == "sidecar" else "stile"
        files = {
            f"{stem}.jpg": data,
            f"{stem}.yaml": f"content: {stem}.jpg\n{key}: {STYLE}\n".encode(),
        }
    return Drop(stem, way, seed, files)


class Model:
    """One root, what was dropped into it, and what is wrong with it."""

    def __init__(
        self, root: Path, state: Path, golden: dict[tuple[Way, int], str], *, copies: bool
    ) -> None:
        self.root, self.state, self.golden, self.copies = root, state, golden, copies
        self.drops: list[Drop] = []
        self.found: Counter[str] = Counter()
        self.words: list[str] = []

    def drop(self, drop: Drop) -> None:
        """Put the files into the inbox, each by one rename."""
        self.drops.append(drop)
        for name, data in drop.files.items():
            path = self.root / "inbox" / name
            temporary = self.root / "arriving"
            temporary.write_bytes(data)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(path)

    # --- at any instant ----------------------------------------------------------------------

    def check_wreck(self) -> None:
        """Hold what a kill has left to what is promised for every instant."""
        self._nothing_torn()
        self._nothing_lost()
        self._nothing_doubled()

    def check_end(self) -> None:
        """Hold what lies there when all has ended to what must have come out."""
        self.check_wreck()
        self._nothing_left_over()
        self._everything_ended_once()

    def _nothing_torn(self) -> None:
        outbox = _tree(self.root / "outbox")
        pictures = {name: data for name, data in outbox.items() if name.endswith(".jpg")}
        expected = {drop.result: drop for drop in self.drops if not drop.fails}
        for name, data in pictures.items():
            drop = expected.get(name)
            if name.startswith("previews/"):
                self._decodes(name, data)
            elif drop is None:
                self._note("doubled", f"{name} is nobody's")
            elif sha256(data) != self.golden.setdefault(drop.kind, sha256(data)):
                self._note("torn", f"{name} differs from an undisturbed run's")
            elif name[:-4] + ".json" not in outbox:
                self._note("torn", f"{name} lies there before its report")
        for name, data in outbox.items():
            if name.endswith(".json") and not _is_report(data):
                self._note("torn", name)
        self._inputs_whole()

    def _decodes(self, name: str, data: bytes) -> None:
        try:
            Image.open(io.BytesIO(data)).load()
        except OSError as error:
            self._note("torn", f"{name}: {error}")

    def _inputs_whole(self) -> None:
        known = {sha256(data) for drop in self.drops for data in drop.files.values()}
        for folder in ("originals", "failed"):
            for name, data in _tree(self.root / folder).items():
                base = os.path.basename(name)
                if (base == "error.json" and not _is_report(data)) or (
                    base not in ANNEX and sha256(data) not in known
                ):
                    self._note("torn", f"{folder}/{name}")

    def _nothing_lost(self) -> None:
        there = {sha256(data) for data in self._everywhere()}
        for drop in self.drops:
            for name, data in drop.files.items():
                if sha256(data) not in there:
                    self._note("lost", name)

    def _everywhere(self) -> list[bytes]:
        folders = [self.root / name for name in ("inbox", "originals", "failed")]
        trees = [_tree(folder, hidden=True) for folder in (*folders, self.state / "spool")]
        return [data for tree in trees for data in tree.values()]

    def _nothing_doubled(self) -> None:
        seen: Counter[str] = Counter()
        for data in _tree(self.root / "outbox", ".json").values():
            seen[_content_of(data)] += 1
        for folder in ("originals", "failed"):
            kept = Counter(sha256(data) for data in _tree(self.root / folder).values())
            for digest, count in kept.items():
                if count > 1 and any(
                    digest == sha256(data) for drop in self.drops for data in drop.files.values()
                ):
                    self._note("doubled", f"an input lies {count} times in {folder}")
        for digest, count in seen.items():
            if digest and count > 1:
                self._note("doubled", f"{count} reports on {digest}")

    # --- in the end --------------------------------------------------------------------------

    def _nothing_left_over(self) -> None:
        for top in {self.root, self.state}:
            for path in top.rglob(".*"):
                if path.name.startswith(OURS[0]) or path.name.endswith(OURS[1]):
                    self._note("left over", str(path))
        for path in (self.state / "spool").iterdir():
            self._note("left over", f"the job folder {path.name}")
        for name in _tree(self.root / "outbox" / "previews"):
            self._note("left over", f"the preview {name}")

    def _everything_ended_once(self) -> None:
        outbox, originals = _tree(self.root / "outbox"), _tree(self.root / "originals")
        failed = Counter(sha256(data) for data in _tree(self.root / "failed").values())
        inbox = _tree(self.root / "inbox")
        for drop in self.drops:
            if not drop.fails and drop.result not in outbox:
                self._note("lost", f"{drop.result} was never painted")
            for name, data in drop.files.items():
                there = originals if not drop.fails else {}
                if drop.fails and failed[sha256(data)] != 1:
                    self._note("lost", f"{name} lies {failed[sha256(data)]} times in failed")
                if not drop.fails and not self.copies and there.get(name) != data:
                    self._note("lost", f"{name} is not in originals")
                if (name in inbox) != self.copies:
                    self._note("doubled", f"{name} in the inbox: {name in inbox}")

    def _note(self, kind: str, words: str) -> None:
        self.found[kind] += 1
        self.words.append(f"{kind}: {words}")


def _tree(top: Path, suffix: str = "", *, hidden: bool = False) -> dict[str, bytes]:
    found = {}
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if any(part.startswith(".") for part in parts) and not hidden:
            continue  # nobody sees it, nor what lies in it
        try:
            if path.is_file() and path.name.endswith(suffix):
                found[str(path.relative_to(top))] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found


def _is_report(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _content_of(data: bytes) -> str:
    try:
        return str(json.loads(data)["inputs"][0]["sha256"])
    except (ValueError, LookupError, TypeError):
        return ""
