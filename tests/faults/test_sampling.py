"""Two jobs that draw samples into one folder: the second is refused, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def test_a_second_job_is_refused_and_a_killed_one_holds_nothing(
    nursery: Any, trained: Path, tmp_path: Path
) -> None:
    flags = ["sample", f"--output_dir={trained.parent}", f"--model_name={trained.name}"]
    flags += ["--num_samples=3", "--max_batch=1", "--num_inference_steps=2", "--device=cpu"]
    folder, whole = tmp_path / "samples", tmp_path / "whole"
    first = nursery.start(*flags, f"--image_path={folder}", FAULT="SIGSTOP@2")
    first.wait_for(first.is_stopped)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == {".lock", "000000.png", "000001.png"}
    second = nursery.start(*flags, f"--image_path={folder}")
    assert second.wait() == 2
    holder = f"commands.py (process {first.pid} on {socket.gethostname()})"
    assert f"{folder}: {holder}" in second.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    for path in (folder, whole):
        assert nursery.start(*flags, f"--image_path={path}").wait() == 0
    for name in ("000000.png", "000001.png", "000002.png"):
        found, expected = (np.asarray(Image.open(path / name)) for path in (folder, whole))
        np.testing.assert_array_equal(found, expected)
