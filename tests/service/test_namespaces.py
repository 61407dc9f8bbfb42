"""Real unmounts, full disks and exhausted watches, each in namespaces of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.namespaced import SCENES

NEW = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--"]
DEADLINE_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, root: Path
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start every scene that was asked for at once: they wait most of their time.

    Skipped where there is no unshare, or where the kernel gives no namespaces.
    """
    if not shutil.which("unshare"):
        pytest.skip("needs unshare (Debian: apt-get install util-linux)")
    mounts = "mount -t tmpfs none /mnt && test -w /proc/sys/user/max_inotify_watches"
    tried = subprocess.run([*NEW, "sh", "-c", mounts], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs user and mount namespaces ({tried.stderr.strip()})")
    wanted = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    playing = {}
    for name in SCENES.keys() & wanted:
        folder = str(tmp_path_factory.mktemp("scene"))
        playing[name] = subprocess.Popen(
            [*NEW, sys.executable, "-m", "tests.service.namespaced", name, folder],
            cwd=root,
            env={**os.environ, "NSTD_ENGINE": "standin"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    yield playing
    for process in playing.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its daemon, too
        process.communicate()


@pytest.mark.parametrize("name", SCENES)
def test_in_a_world_of_its_own(name: str, played: dict[str, subprocess.Popen[str]]) -> None:
    _, said = played[name].communicate(timeout=DEADLINE_S)
    assert played[name].returncode == 0, f"{name}:\n{said}"
