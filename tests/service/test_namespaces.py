"""Real unmounts, full disks and exhausted watches, each in namespaces of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.namespaced import SCENES

NEW = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """Return the words that run a command in namespaces; skipped where the kernel gives none."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare (Debian: apt-get install util-linux)")
    mounts = "mount -t tmpfs none /mnt && test -w /proc/sys/user/max_inotify_watches"
    tried = subprocess.run([*NEW, "sh", "-c", mounts], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs user and mount namespaces ({tried.stderr.strip()})")
    return NEW


@pytest.mark.parametrize("name", SCENES)
def test_in_a_world_of_its_own(name: str, namespace: list[str], tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.service.namespaced", name, str(tmp_path)],
        cwd=root,
        env={**os.environ, "NSTD_ENGINE": "standin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}:\n{done.stderr}"
