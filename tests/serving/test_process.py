"""The service as a process: where it listens, and that its end loses nothing it accepted."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffusion_ood.commands import serve
from diffusion_ood.errors import UserError
from diffusion_ood.options import ServeOptions

from .conftest import png

SERVER = Path(__file__).with_name("fake_server.py")
TYPE = {"Content-Type": "multipart/form-data; boundary=b"}


def content(name: str, value: int) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + png(value) + b"\r\n--b--\r\n"


@pytest.fixture
def start() -> Iterator[Callable[[float], tuple[subprocess.Popen[str], int]]]:
    """Starts a server whose network takes so many seconds; gives the process and its port."""
    started = []

    def run(seconds: float) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, str(SERVER), "0", str(seconds)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        started.append(process)
        found = re.search(r" at http://127\.0\.0\.1:(\d+)$", process.stdout.readline())
        assert found
        return process, int(found[1])

    yield run
    for process in started:
        process.kill()
        process.communicate()


class Client(threading.Thread):
    """Asks one request after the other until the server has gone; keeps what was answered."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.port, self.number, self.scores, self.torn = port, number, {}, []

    def run(self) -> None:
        """Ask."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for k in range(100_000):
            name = f"{self.number}-{k}.png"
            try:
                connection.request("POST", "/v1/score", content(name, k % 250), TYPE)
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                return  # nothing of an answer came: the request was not accepted
            try:
                (found,) = json.loads(answer.read())["files"]
            except (http.client.IncompleteRead, ValueError, KeyError) as error:
                self.torn.append(error)
                return
            assert found["name"] == name
            assert found["score"] == pytest.approx(k % 250 / 255, abs=1e-6)
            self.scores[name] = found["score"]


def test_the_end_answers_what_was_accepted(start) -> None:
    process, port = start(0.02)
    clients = [Client(port, number) for number in range(8)]
    for client in clients:
        client.start()
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    for client in clients:
        client.join(10)
    assert process.returncode == 0
    assert [client.torn for client in clients] == [[]] * 8
    answered = sum(len(client.scores) for client in clients)
    assert answered > 50
    assert re.findall(r"\d+", said) == [str(answered)]


@pytest.mark.slow
def test_a_request_that_began_before_the_end_is_answered(start) -> None:
    process, port = start(1.0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/score", content("a.png", 51), TYPE)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    (found,) = json.loads(connection.getresponse().read())["files"]
    assert found["score"] == pytest.approx(0.2, abs=1e-6)
    process.communicate(timeout=20)
    assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    (tmp_path / "detector").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=str(port)):
            serve.main([str(tmp_path / "detector"), f"--port={port}"])
    (tmp_path / "token").write_text("0123456789abcdef\n")
    words = ["--host=192.0.2.1", f"--token_file={tmp_path / 'token'}"]
    with pytest.raises(UserError, match=r"192\.0\.2\.1"):
        serve.main([str(tmp_path / "detector"), *words])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_other_machines_need_a_token(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match="token_file"):
        ServeOptions(tmp_path, host=host)
    assert not ServeOptions(tmp_path, host=host, token_file=tmp_path / "token").is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_none(tmp_path: Path, host: str) -> None:
    assert ServeOptions(tmp_path, host=host).is_local


@pytest.mark.parametrize("token", [b"", b"0123456789abcde", b"0123456789 abcdef", b"\xff" * 20])
def test_a_token_that_a_header_cannot_carry_is_refused(tmp_path: Path, token: bytes) -> None:
    (tmp_path / "detector").touch()
    (tmp_path / "token").write_bytes(token)
    with pytest.raises(UserError, match="token_file"):
        serve.main([str(tmp_path / "detector"), f"--token_file={tmp_path / 'token'}"])


def test_a_queue_shorter_than_a_request_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_queue"):
        ServeOptions(tmp_path, max_queue=3, max_files=4)
