"""Mutated sidecars from a seed: what the parser must judge in words, thousands of times.

``python -m tests.hostile.sidecars.fuzz COUNT SEED`` runs many and prints what was found.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nstd.errors import SidecarError
from nstd.jobs.sidecar import KEYS, Sidecar, parse_sidecar
from nstd.jobs.text import shown

MOST_S = 2.0
"""Of processor time; 16 KiB of anything take some hundredths."""
NAMES = ("a.yaml", "a.yml", "a.json", "A.JSON", "\udcff\n.yaml")
SEEDS = (
    (
        b"content: beach.jpg\nstyle: [{image: starry, weight: 2}, scream.jpg]\nmask: sky.png\n"
        b"preset: standard\nsize: 512\niterations: 120\ncontent_weight: 1\nstyle_weight: 20.0\n"
        b"optimizer: lbfgs\npreserve_color: none\nseed: 0\npriority: 7\n"
        b"output: {format: jpeg, quality: 90, name: beach-starry}\n"
    ),
    (
        b'{"content": "beach.jpg", "style": [{"image": "starry", "weight": 2.5}], "size": 512,\n'
        b' "output": {"format": "png", "name": "x"}, "seed": 7, "tv_weight": 0.05}'
    ),
    b"# a comment\nstyle: |\n  starry\nsize: 0x200\nseed: .inf\niterations: 1e9\n",
    "content: 'Ferien \\ am See.jpg'\nstyle: \"\\u202Estar\\n\"\nsize: 1_000\n".encode("utf-16"),
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n<<: *b\nstyle: !!python/name:os.system x\n",
)
WORDS = (
    *(key.encode() for key in KEYS),
    b": ", b"- ", b"? ", b"[", b"]", b"{", b"}", b",", b"\n", b"\n  ", b"#", b"'", b'"', b"|",
    b">", b"%", b"@", b"&a ", b"*a ", b"<<: ", b"!!int ", b"---\n", b"...\n", b".nan", b".inf",
    b"-.inf", b"1e999", b"1e9", b"1000000", b"-1", b"0", b"null", b"~", b"true", b"no", b"0o17",
    b"2024-01-01", b"1:30", b"../x", b"/etc/passwd", b"C:\\x", b"\x00", b"\x1b[2J", b"\xff",
    b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"9" * 400, b"[" * 40, b"{a: " * 40,
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """Return one of the seeds with a few things wrong."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at:at] = rng.choice(WORDS)
            case 1:
                data[at : at + rng.randrange(1, 12)] = rng.choice(WORDS)
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                del data[at : at + rng.randrange(1, 40)]
            case 4:
                data[at:at] = bytes(data[at : at + rng.randrange(1, 80)]) * rng.randrange(1, 200)
            case _:
                other = rng.choice(SEEDS)
                data[at:] = other[rng.randrange(len(other)) :]
    return bytes(data[: 20 * 1024])


def judge(data: bytes, name: str) -> tuple[str, str]:
    """Return how reading ended, and what is wrong with that; empty when nothing is."""
    began = time.process_time()
    try:
        result = parse_sidecar(data, name)
    except SidecarError as error:
        words = str(error)
        odd = not error.remedy or len(words) > 600 or shown(words) != words
        ended, wrong = "refused", f"odd words: {words!r}" if odd else ""
    except Exception as error:  # noqa: BLE001  # the finding that is looked for
        ended, wrong = type(error).__name__, repr(error)
    else:
        fine = result is None or isinstance(result, Sidecar)
        ended, wrong = "none" if result is None else "read", "" if fine else repr(result)
    if (spent := time.process_time() - began) > MOST_S:
        wrong = wrong or f"took {spent:.1f} s"
    return ended, wrong


def run(count: int, seed: int) -> Iterator[tuple[bytes, str, str, str]]:
    """Read ``count`` mutated sidecars; yield each with its name, its end, and what is wrong."""
    rng = random.Random(seed)
    for _ in range(count):
        data, name = mutated(rng), rng.choice(NAMES)
        yield data, name, *judge(data, name)


def main() -> int:
    """Run as many as asked for and say what was found; findings are written beside."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    endings: Counter[str] = Counter()
    findings = 0
    for number, (data, name, ended, wrong) in enumerate(run(count, seed)):
        endings[ended] += 1
        if wrong:
            findings += 1
            Path(f"finding-sidecar-{seed}-{number}.bin").write_bytes(data)
            print(number, ascii(name), wrong)  # noqa: T201 - a command
    print(f"{count} sidecars, {findings} findings:", dict(endings))  # noqa: T201 - a command
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
