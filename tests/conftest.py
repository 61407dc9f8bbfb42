"""What all tests share: a clean environment, optional test data, and Debian's programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # optional test data beside the checkout; never part of it

DEBIAN = {"promtool": "prometheus", "systemd-analyze": "systemd"}
"""Programs whose Debian package has another name than they."""

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what prints a figure at the end of the session: what was tried, and how often."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures that tests have told."""
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True, scope="session")
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the user's configuration or weights, or fetches any by accident."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NSTD_CONFIG", "NSTD_ENGINE", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
            patch.delenv(name, raising=False)
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of optional test data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the optional test data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def slim_weights(shared: Path) -> Path:
    """Return pretrained VGG19-shaped test weights; the test is skipped where they are absent."""
    path = shared / "weights" / "vgg19-slim-notop.h5"
    if not path.is_file():
        pytest.skip(f"needs the optional test weights {path}")
    return path


@pytest.fixture(scope="session")
def images(shared: Path) -> Path:
    """Return the folder of test photographs and paintings; skipped where it is absent."""
    path = shared / "images"
    if not path.is_dir():
        pytest.skip(f"needs the optional test images in {path}")
    return path


def program(name: str) -> str:
    """Return the path of a Debian program; the test is skipped, naming its package, without it."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"needs {name} (Debian: apt-get install {DEBIAN.get(name, name)})")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of Debian's chromium."""
    return program("chromium")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return the path of Prometheus' checker."""
    return program("promtool")


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """Return the path of systemd's checker of units."""
    return program("systemd-analyze")


@pytest.fixture(scope="session")
def rsync() -> str:
    """Return the path of rsync."""
    return program("rsync")


@pytest.fixture(scope="session")
def syncthing() -> str:
    """Return the path of syncthing."""
    return program("syncthing")


@pytest.fixture(scope="session")
def strace() -> str:
    """Return the path of strace."""
    return program("strace")
