from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from nstd.errors import ConfigError
from nstd.service.http import HttpDoor, Sources, read_beneath, split
from nstd.service.metrics import Metrics
from nstd.service.snapshot import EndedJob, RunningJob, Snapshot


@dataclass
class House:
    """A door with everything behind it in the test's hands."""

    folder: Path
    registry: CollectorRegistry = field(default_factory=lambda: Metrics().registry)
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(1000.0, "ready"))
    dead: str = ""
    unready: str = ""

    def __post_init__(self) -> None:
        self.outbox, self.state = self.folder / "outbox", self.folder / "state"
        self.outbox.mkdir()
        self.state.mkdir()
        self.door = HttpDoor("127.0.0.1:0", self.sources(), state=self.state)

    def sources(self) -> Sources:
        return Sources(
            self.registry,
            lambda: self.snapshot,
            lambda: self.dead,
            lambda: self.unready,
            self.outbox,
        )

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        host, port = split(self.door.address)
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, dict(answer.getheaders())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.door.start()
    yield house
    house.door.stop()


def test_port_0_takes_a_free_port_and_says_which(house: House) -> None:
    written = (house.state / "listen").read_text()
    assert written == f"{house.door.address}\n"
    assert split(written.strip())[1] > 0
    house.door.stop()
    assert not (house.state / "listen").exists()


def test_a_port_in_use_is_a_configuration_error_that_names_it(house: House) -> None:
    with pytest.raises(ConfigError, match=rf"{house.door.address}: port \d+ is in use") as caught:
        HttpDoor(house.door.address, house.sources()).start()
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no.such.host.invalid:0"])
def test_an_address_of_another_machine_is_refused(house: House, listen: str) -> None:
    with pytest.raises(ConfigError, match="no such address"):
        HttpDoor(listen, house.sources()).start()


@pytest.mark.parametrize("listen", ["9464", ":9464", "host:", "host:x", "host:70000", "h:²"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        split(listen)


def test_a_door_moves_and_stays_where_it_was_when_it_cannot(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="is in use"):
            house.door.move(f"127.0.0.1:{port}")
        assert house.ask("/healthz")[0] == 200
    house.door.move(f"127.0.0.1:{port}")
    assert house.door.address == f"127.0.0.1:{port}"
    assert house.ask("/healthz")[0] == 200
    house.door.move(None)
    assert not (house.state / "listen").exists()


def test_ipv6_addresses_are_understood() -> None:
    assert split("[::1]:80") == ("::1", 80)


def test_metrics_are_served_as_prometheus_and_openmetrics(house: House) -> None:
    status, body, headers = house.ask("/metrics")
    assert status == 200
    assert b"nstd_jobs_pending" in body
    assert headers["Content-Type"].startswith("text/plain")
    _, body, headers = house.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_health_and_readiness_say_why_not(house: House) -> None:
    assert house.ask("/healthz")[:2] == (200, b"ok\n")
    assert house.ask("/readyz")[:2] == (200, b"ok\n")
    house.dead, house.unready = "The loop stands still.", "The weights are loading."
    assert house.ask("/healthz")[:2] == (503, b"The loop stands still.\n")
    assert house.ask("/readyz")[:2] == (503, b"The weights are loading.\n")


def test_the_api_is_the_snapshot(house: House) -> None:
    status, body, headers = house.ask("/api/jobs")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert Snapshot.from_json(body) == house.snapshot
    assert json.loads(body)["state"] == "ready"


def test_the_page_is_served_with_every_safeguard(house: House) -> None:
    status, body, headers = house.ask("/")
    assert status == 200
    assert body.startswith(b"<!doctype html>")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-inline' script" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_head_has_the_headers_and_no_body(house: House) -> None:
    status, body, headers = house.ask("/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed_over_http(house: House, method: str) -> None:
    assert house.ask("/api/jobs", method=method)[0] == 501


def test_previews_pictures_and_reports_come_from_the_outbox(house: House) -> None:
    house.snapshot = Snapshot(
        0.0,
        "ready",
        running=(RunningJob("a", "n", "s", "w", "optimize", 0.0, preview="previews/ä b.jpg"),),
        recent=(EndedJob("b", "n", "s", "done", 0.0, picture="s/x.png", report="s/x.json"),),
    )
    for name in ("previews/ä b.jpg", "s/x.png", "s/x.json"):
        path = house.outbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    status, body, headers = house.ask("/preview/a")
    assert (status, body.decode(), headers["Content-Type"]) == (
        200,
        "previews/ä b.jpg",
        "image/jpeg",
    )
    assert house.ask("/picture/b")[2]["Content-Type"] == "image/png"
    assert house.ask("/report/b")[1] == b"s/x.json"


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/picture/",
        "/picture/zzz",
        "/picture/../../etc/passwd",
        "/preview/%2e%2e/x",
        "/outbox/x.jpg",
        "//etc/passwd",
        "/metrics/x",
    ],
)
def test_what_the_snapshot_does_not_name_is_not_there(house: House, path: str) -> None:
    status, body, _ = house.ask(path)
    assert status == 404
    assert b"/metrics" in body


def test_a_picture_that_is_gone_is_not_there(house: House) -> None:
    house.snapshot = Snapshot(
        0.0, "ready", recent=(EndedJob("b", "n", "s", "done", 0.0, picture="x.jpg"),)
    )
    assert house.ask("/picture/b")[0] == 404


def test_a_bug_in_a_view_is_one_500_and_the_door_stays_open(house: House) -> None:
    snapshot = house.snapshot
    house.snapshot = None  # type: ignore[assignment]
    status, body, _ = house.ask("/")
    assert status == 500
    assert b"Traceback" not in body
    house.snapshot = snapshot
    assert house.ask("/")[0] == 200


def test_idle_connections_do_not_keep_others_out_for_ever(house: House) -> None:
    host, port = split(house.door.address)
    idle = [socket.create_connection((host, port), timeout=10) for _ in range(40)]
    # Those beyond the limit are closed at once instead of piling up threads.
    closed = 0
    for connection in idle[16:]:
        closed += connection.recv(1) == b""
    assert closed >= 20
    for connection in idle:
        connection.close()


def test_clients_that_break_off_do_no_harm(house: House) -> None:
    host, port = split(house.door.address)
    for part in (b"", b"GET", b"GET / HTTP/1.1\r\nHo", b"\0\xff\r\n\r\n", b"GET " + b"a" * 70000):
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(part)
    assert house.ask("/healthz")[0] == 200


def test_files_are_read_without_following_links(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_text("secret")
    outbox = tmp_path / "outbox"
    (outbox / "sub").mkdir(parents=True)
    (outbox / "sub" / "a.jpg").write_text("picture")
    (outbox / "link.jpg").symlink_to(secret)
    (outbox / "out").symlink_to(tmp_path)
    os.mkfifo(outbox / "fifo.jpg")
    assert read_beneath(outbox, "sub/a.jpg") == b"picture"
    for path in (
        "link.jpg",
        "out/secret.jpg",
        "fifo.jpg",
        "../secret.jpg",
        "sub",
        "",
        "sub//a.jpg",
    ):
        assert read_beneath(outbox, path) is None, path


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_beneath(tmp_path, "a.jpg")
        read_beneath(tmp_path, "none.jpg")
    assert len(os.listdir("/proc/self/fd")) == before
