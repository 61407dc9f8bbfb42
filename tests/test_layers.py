"""The import contracts of pyproject.toml hold, and their limits are what we think they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "nstd"
PARTS = ("engine", "photo", "jobs", "workers", "service")


def test_imports_run_one_way(root: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("part", PARTS)
def test_package_init_imports_nothing(part: str) -> None:
    tree = ast.parse((PACKAGE / part / "__init__.py").read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not found


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 350} == {}


def test_importing_the_daemon_loads_no_tensorflow() -> None:
    code = (
        "import sys, nstd.service.daemon; "
        "print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras', 'h5py')])"
    )
    if not (PACKAGE / "service" / "daemon.py").exists():
        pytest.skip("the daemon is not written yet")
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
