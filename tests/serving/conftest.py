"""The service around a detector that needs no model."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_detector import FakeDetector
from PIL import Image

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from diffusion_ood.options import ServeOptions
from diffusion_ood.serving.app import create_app

LOCAL = "http://127.0.0.1:8000"


def png(value: int, sides: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """A picture of one grey."""
    file = io.BytesIO()
    Image.fromarray(np.full(sides, value, np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def detector() -> FakeDetector:
    return FakeDetector()


@pytest.fixture
def connect(detector: Any, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Starts a service with other options than usual; gives its client."""
    clients = []

    def start(token: bytes | None = None, **options: object) -> TestClient:
        path = tmp_path / "detector"
        path.touch()
        chosen = ServeOptions(path, **options)
        client = TestClient(create_app(detector, chosen, token), LOCAL, False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    getattr(detector, "gate", threading.Event()).set()
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(connect: Callable[..., TestClient]) -> TestClient:
    return connect()
