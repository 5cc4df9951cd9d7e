"""The bench of a GPU in its smallest form, on one. Skipped where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_every_row_is_measured_and_explained(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCH), "--quick", "--minutes=3", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    rows = results["rows"]
    assert len(rows) == 10
    assert [row.get("error") for row in rows] == [None] * 10
    assert {row["limit"] for row in rows} <= {"launch", "memory", "arithmetic"}
    assert all(0 < row["busy"] <= 1 and row["peak_mib"] > 0 for row in rows)
    assert {row["ran"] for row in rows if row["mode"] == "graph"} == {"graph"}
    assert results["agreement"]["ours fp32 graph"]["largest_deviations"] < 0.01
    assert results["agreement"]["ours fp32 graph"]["graphs"] > 0
    assert results["machine"]["driver"]
