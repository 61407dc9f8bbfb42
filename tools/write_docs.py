"""Write the tables of the documents from the code itself, so that they cannot drift."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

from nstd.engine.params import PRESETS
from nstd.jobs.settings import table
from nstd.service.example import example

ROOT = Path(__file__).resolve().parent.parent

FOR = {
    "draft": "a quick look",
    "standard": "most pictures",
    "fine": "large prints",
    "tiny": "tests",
    "tutorial-keras": "tf.keras and eager execution (2018)",
    "tutorial-blog": "style transfer using TensorFlow (2023)",
    "tutorial-avgpool": "style transfer using tensorflow 2",
}


def settings() -> str:
    """Return a table of the settings: name, sentence, what is allowed."""
    presets = ", ".join(PRESETS)
    rows = [
        (s.name, s.help, f"one of {presets}" if s.name == "preset" else s.allowed)
        for s in table().values()
    ]
    head = "| setting | what it does | allowed |\n|---|---|---|\n"
    return head + "".join(f"| `{name}` | {words} | {allowed} |\n" for name, words, allowed in rows)


def presets() -> str:
    """Return a table of the presets: name, use, size and steps."""
    return "| preset | for | size | steps at most |\n|---|---|---|---|\n" + "".join(
        f"| `{name}` | {FOR.get(name, '')} | {p.size} | {p.iterations} |\n"
        for name, p in PRESETS.items()
    )


def modules() -> str:
    """Return tables of all modules, package by package, each with its first sentence."""
    packages = sorted({path.parent for path in (ROOT / "nstd").rglob("*.py")})
    return "\n".join(_package(folder) for folder in packages)


def _package(folder: Path) -> str:
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    rows = "".join(f"| `{path.name}` | {_sentence(path)} |\n" for path in modules)
    title = f"### {folder.relative_to(ROOT)}\n\n{_sentence(folder / '__init__.py')}\n"
    return f"{title}\n| module | what it is |\n|---|---|\n{rows}"


def _sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`")


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/sidecars.md": {"settings": settings, "presets": presets},
    "docs/architecture.md": {"modules": modules},
}
WHOLE: dict[str, Callable[[], str]] = {"config.example.yaml": example}


def written(document: str) -> str:
    """Return a document with its tables, or all of it, written anew."""
    if document in WHOLE:
        return WHOLE[document]()
    text = (ROOT / document).read_text()
    for name, make in TABLES[document].items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _old, end, after = rest.partition(f"<!-- /{name} -->\n")
        text = before + begin + make() + end + after
    return text


def main() -> int:
    """Write the documents; with --check say only whether they are as they should be."""
    stale = {
        name: text
        for name in (*TABLES, *WHOLE)
        if (text := written(name)) != (ROOT / name).read_text()
    }
    if "--check" not in sys.argv:
        for name, text in stale.items():
            (ROOT / name).write_text(text)
        return 0
    print(*stale, sep="\n")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
