"""Clients that stall or go: neither keeps the others, nor what they held."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_detector import FakeDetector
from running import running

from diffusion_ood.options import ServeOptions
from diffusion_ood.serving.app import create_app
from diffusion_ood.serving.server import listen

HEAD = (
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A service that holds at most 8 MB and waits half a second."""
    app = create_app(FakeDetector(), ServeOptions(tmp_path, max_mb=1.0, timeout_s=0.5))
    with listen("127.0.0.1", 0) as listener, running(app, listener):
        yield listener.getsockname()


def healthy(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/healthz")
    return connection.getresponse().status == 200


def status(stalled: socket.socket) -> int:
    return int(stalled.recv(100).split(b" ")[1])


def test_a_request_that_does_not_arrive_is_given_up(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 10) as stalled:
        stalled.sendall(HEAD)
        assert healthy(address)
        assert status(stalled) == 408


def test_many_that_stall_are_refused_and_forgotten(address: tuple[str, int]) -> None:
    part = b'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    content = HEAD + part + b"x" * 800_000
    stalled = [socket.create_connection(address, 10) for _ in range(12)]
    for one in stalled:
        one.sendall(content)
    assert healthy(address)
    found = sorted(status(one) for one in stalled)
    assert set(found) == {408, 503}
    assert found.count(503) >= 2
    with socket.create_connection(address, 10) as later:
        later.sendall(content)
        assert status(later) == 408
    for one in stalled:
        one.close()


def test_a_client_that_goes_is_no_defect(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with socket.create_connection(address, 10) as gone:
            gone.sendall(HEAD)
            time.sleep(0.1)
    time.sleep(0.3)
    assert healthy(address)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
