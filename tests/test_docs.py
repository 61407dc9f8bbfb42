"""The documents say what is: their tables, their examples, their links."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from nstd.engine.params import preset
from nstd.engine.progress import Losses, Result
from nstd.jobs.sidecar import KEYS, parse_sidecar, settings_from
from nstd.jobs.spec import OutputSpec
from nstd.service.snapshot import (
    EndedJob,
    FolderView,
    QueuedJob,
    RunningJob,
    Snapshot,
    WaitingFile,
    WorkerView,
)
from nstd.workers.painting import PaintRequest, Source
from nstd.workers.report import build_report
from tools import write_docs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def fenced(path: Path, language: str) -> list[str]:
    """Return the blocks of a language in a document, also those inside lists."""
    blocks = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL
    )
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in blocks]


def anchors(text: str) -> set[str]:
    """Return the anchors that a renderer gives to headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name) if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("document", [*write_docs.TABLES, *write_docs.WHOLE])
def test_tables_are_those_of_the_code(document: str) -> None:
    text = (ROOT / document).read_text()
    assert write_docs.written(document) == text, "run tools/write_docs.py"


def test_every_key_of_a_sidecar_is_explained() -> None:
    text = (ROOT / "docs" / "sidecars.md").read_text()
    assert [key for key in KEYS if f"| `{key}` |" not in text] == []


def test_every_key_that_programs_read_is_explained() -> None:
    text = (ROOT / "docs" / "for-programs.md").read_text()
    views = (Snapshot, RunningJob, QueuedJob, WaitingFile, EndedJob, WorkerView, FolderView)
    keys = {field.name for view in views for field in dataclasses.fields(view)}
    params = preset("tiny")
    request = PaintRequest(Source(__file__, "content"), (), params, OutputSpec())
    result = Result(
        np.zeros((1, 1, 3), np.uint8), Losses(1, 1, 1, 1), [], 0, {}, {}, []
    )  # fmt: skip
    keys |= build_report(request, result, {}, notes=[], seconds={}, job_hash="").keys()
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


@pytest.mark.parametrize("name", ["README.md", "docs/sidecars.md"])
def test_examples_of_sidecars_are_accepted(name: str) -> None:
    examples = fenced(ROOT / name, "yaml")
    assert examples
    for example in examples:
        if "style.yaml" in example:
            assert settings_from(example.encode(), "style.yaml")
        else:
            sidecar = parse_sidecar(example.encode(), "beach.yaml")
            assert sidecar
            assert sidecar.content == "beach.jpg"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_in_yaml_are_yaml(document: Path) -> None:
    for example in fenced(document, "yaml"):
        assert yaml.safe_load(example)
