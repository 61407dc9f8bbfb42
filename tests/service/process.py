"""`nstd run` as a child process with the stand-in engine, for tests that need the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, TextIO

from nstd.jobs.ledger import Ledger
from tests.service.kit import DEADLINE_S, picture, until

COMMAND = [sys.executable, "-c", "import sys, nstd.cli; sys.exit(nstd.cli.main())"]


class Process:
    """``nstd run`` on a root of its own."""

    def __init__(self, root: Path, **settings: dict[str, Any]) -> None:
        self.root = root
        self.process: subprocess.Popen[str] | None = None
        for name in ("inbox/starry", "styles"):
            (root / name).mkdir(parents=True, exist_ok=True)
        picture(root / "styles" / "starry.jpg")
        config: dict[str, dict[str, Any]] = {
            "folders": {"root": str(root)},
            "inbox": {"settle_s": 0.3, "scan_interval_s": 0.5},
            "defaults": {"preset": "tiny"},
            "worker": {"checkpoint_s": 0.05, "retry_s": 0.1},
            "http": {"listen": "127.0.0.1:0"},
            "log": {"format": "json"},
        }
        for section, keys in settings.items():
            config[section] = {**config.get(section, {}), **keys}
        (root.parent / "nstd.yaml").write_text(json.dumps(config))

    def start(
        self, *options: str, faults: str = "", log: TextIO | None = None, **environment: str
    ) -> None:
        env = {**os.environ, "NSTD_ENGINE": "standin", "NSTD_STANDIN": faults, **environment}
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(self.root.parent / "nstd.yaml"), *options],
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=log or subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str]:
        assert self.process is not None
        _, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def get(self, path: str) -> str | None:
        try:
            address = (self.root / "state" / "listen").read_text().strip()
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def ready(self) -> None:
        until(lambda: self.get("/readyz") == "ok\n")

    def status(self) -> dict[str, Any]:
        answer = self.get("/api/jobs")
        return json.loads(answer) if answer else {}

    def exists(self, *names: str) -> bool:
        return all((self.root / name).exists() for name in names)

    def ledger(self) -> Ledger:
        return Ledger(str(self.root / "state" / "ledger.sqlite3"))
