"""What docs/serving.md tells clients to send is answered as it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT
from fake_detector import FakeDetector
from running import running

from diffusion_ood.options import ServeOptions
from diffusion_ood.serving.answers import FileScore
from diffusion_ood.serving.app import create_app
from diffusion_ood.serving.server import listen

from .conftest import png

TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
TOKEN = "0123456789abcdef"


@pytest.fixture(params=[None, TOKEN.encode()])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A service on a real port, in a folder with the documents' files; the second has a token."""
    app = create_app(FakeDetector(), ServeOptions(tmp_path), request.param)
    for value, name in enumerate(("scan1.png", "scan2.png")):
        (tmp_path / name).write_bytes(png(200 * value))
    (tmp_path / "token").write_text(TOKEN)
    with listen("127.0.0.1", 0) as listener, running(app, listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def run(*words: str, folder: Path) -> str:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_curl_is_answered(address: str, tmp_path: Path) -> None:
    curl = shutil.which("curl") or pytest.skip("curl is not installed")
    assert curl
    lines = [line for line in TEXT.splitlines() if line.startswith("curl ")]
    assert len(lines) == 2
    found = [
        run("sh", "-c", f"{line.replace('http://127.0.0.1:8000', address)} -s", folder=tmp_path)
        for line in lines
    ]
    assert found[1].count("p_value") == 1
    assert found[0].count("p_value") in (0, 2)


def test_the_python_client_is_answered(address: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    code = code.replace("http://127.0.0.1:8000", address)
    code = code.replace("timeout=60", f"timeout=60, headers={{'Authorization': 'Bearer {TOKEN}'}}")
    said = run(sys.executable, "-c", code, folder=tmp_path).splitlines()
    assert [line.split()[0] for line in said] == ["scan1.png", "scan2.png"]
    assert said[0].endswith("False)")
    assert said[1].endswith("True)")


def test_every_address_and_field_is_documented() -> None:
    app = create_app(FakeDetector(), ServeOptions(ROOT))
    for path in app.openapi()["paths"]:
        assert f"{path}`" in TEXT
    for name in FileScore.model_fields:
        assert f"`{name}`" in TEXT


def test_the_documented_limits_are_the_defaults() -> None:
    limits = re.findall(r"\| `--(\w+)=([\d.]+)`", TEXT)
    assert len(limits) == 5
    for name, value in limits:
        assert getattr(ServeOptions(ROOT), name) == float(value)
