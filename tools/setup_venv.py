"""Make the virtual environment that the Makefile's targets run in; a second run finds it done.

Uses the standard library alone, because nothing else is there yet. ``make`` calls it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".nstd-ready"


def requirements() -> list[str]:
    """Return the development tools of pyproject.toml (pip before 25.1 cannot read groups)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(project["dependency-groups"]["dev"])


def key() -> str:
    """Return what the environment depends on: other tool settings do not call for a new one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    facts = [
        project["project"]["dependencies"],
        project["project"].get("scripts"),
        project["build-system"],
        requirements(),
        str(ROOT),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def works() -> bool:
    """Tell whether .venv starts and belongs here (a copied or moved one points elsewhere)."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    ask = "import sys; print(sys.prefix, sys.version_info >= (3, 11))"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return answer.stdout.strip() == f"{VENV} True"


def create() -> None:
    """Create .venv, also where Debian's python3-venv (which brings ensurepip) is absent."""
    shutil.rmtree(VENV, ignore_errors=True)
    if importlib.util.find_spec("ensurepip"):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)
    outer = [sys.executable, "-m", "pip", "--python", str(VENV / "bin" / "python")]
    subprocess.run([*outer, "install", "--quiet", "pip"], check=True)


def install() -> None:
    """Install nstd (editable), what it needs, and the development tools."""
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "--editable", str(ROOT), *requirements()], check=True)


def main() -> int:
    """Bring .venv up to date; return an exit code."""
    ready = works()
    if ready and STAMP.exists() and STAMP.read_text() == key():
        STAMP.touch()  # pyproject.toml is newer, but nothing that matters here changed
        return 0
    print("Setting up .venv: TensorFlow is large, so the first time takes some minutes ...")
    sys.stdout.flush()
    try:
        if not ready:
            create()
        install()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"The set-up stopped: {error}.", file=sys.stderr)
        print("What it printed above says why; `make` goes on from there.", file=sys.stderr)
        return 69
    STAMP.write_text(key())
    return 0


if __name__ == "__main__":
    sys.exit(main())
