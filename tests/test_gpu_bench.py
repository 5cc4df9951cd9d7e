"""The bench of a GPU: its rules on made-up figures, its run where parts fail, and all on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
CPU = torch.device("cpu")
PEAKS = {"matrix_tflops": 800.0, "convolution_tflops": 500.0, "copy_tb_s": 3.0}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/gpu.py`, beside which the modules that it is made of can be imported."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


@pytest.mark.parametrize(
    ("busy_ms", "tflop", "gb", "expected"),
    [
        (6.9, 4.0, 1.0, "launch"),  # near the card's best while it works, which is not often
        (7.1, 2.0, 9.0, "arithmetic"),  # 200 of 500 TFLOP/s, 0.9 of 3 TB/s
        (10.0, 1.0, 9.0, "memory"),  # 100 of 500, and 0.9 of 3
    ],
)
@pytest.mark.usefixtures("gpu")
def test_what_limits_a_run_of_ten_milliseconds(
    busy_ms: float, tflop: float, gb: float, expected: str
) -> None:
    from gpu_limits import Cost, shares

    cost = Cost(tflop * 1e12, gb * 1e9, gb * 1e9 / 10)
    found = shares(cost, 0.01, busy_ms / 10, False, PEAKS)
    assert found["limit"] == expected
    assert found["share_of_best_convolution"] == pytest.approx(tflop / 0.01 / 500)
    assert found["share_of_best_matrix"] == pytest.approx(tflop / 0.01 / 800)
    assert found["share_of_copy_rate"] == pytest.approx(gb / 0.01 / 3000)
    fused = shares(cost, 0.01, 1.0, True, PEAKS)
    assert fused["share_of_copy_rate"] == pytest.approx(found["share_of_copy_rate"] / 10)
    assert fused["limit"] == "arithmetic"
    assert shares(cost, 0.01, None, False, PEAKS)["limit"] == "not known"


@pytest.mark.usefixtures("gpu")
def test_kernels_that_run_at_once_are_counted_once() -> None:
    from gpu_device import covered

    assert covered([(5, 6), (0, 2), (1, 3), (1.5, 1.6)]) == pytest.approx(4)
    assert covered([]) == 0


@pytest.mark.usefixtures("gpu")
def test_operations_and_bytes_of_a_known_network() -> None:
    from gpu_limits import counted

    layer, x = nn.Conv2d(8, 4, 1, bias=False), torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        cost = counted(lambda: torch.relu(layer(x)).flatten(1))
    of_x, of_weight, of_output = 4 * 2 * 8 * 25, 4 * 4 * 8, 4 * 2 * 4 * 25
    assert cost.flops == 2 * 2 * 4 * 8 * 25
    assert cost.fused_bytes == of_x + of_weight + of_output
    assert cost.eager_bytes == cost.fused_bytes + 2 * of_output  # that of ReLU; a view is free

    def step() -> None:
        layer(x).sum().backward()

    assert counted(step).flops == 2 * cost.flops  # x needs no gradient


@pytest.mark.usefixtures("gpu")
def test_a_limit_of_time_within_another_leaves_the_other_in_force() -> None:
    from gpu_measure import failure, within

    def inner() -> None:
        with within(0.05):
            time.sleep(5)

    def outer() -> None:
        with within(0.3):
            assert failure(inner)
            time.sleep(5)

    begin = time.perf_counter()
    with pytest.raises(TimeoutError):
        outer()
    assert 0.25 < time.perf_counter() - begin < 3


def test_a_contender_that_fails_keeps_its_reason_and_the_others_are_measured(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_measure
    from gpu_cases import PLAIN, Case, How, Work

    def fake(case: Case, how: How, model: object, device: torch.device) -> Work:
        if how.mode == "graph":
            raise torch.OutOfMemoryError("CUDA out of memory\nmore")
        if how.mode == "compiled":
            return Work(lambda images: time.sleep(9), 4)
        seconds = 0.04 if how.side == "plain" else 0.005
        return Work(lambda images: time.sleep(seconds * images / 4), 4, calls=3)

    monkeypatch.setattr(gpu_measure, "plain", fake)
    monkeypatch.setattr(gpu_measure, "ours", fake)
    case = Case("screening", "micro", (8, 8))
    modes = ("graph", "compiled", "eager")
    bench = gpu.Bench(CPU, PEAKS, run_s=0.01, runs=3, limit_s=0.5)
    rows = gpu.measured(case, (PLAIN[1], *(How("ours", mode=mode) for mode in modes)), bench, 60)
    assert [row["mode"] for row in rows] == ["eager", *modes]
    assert [("error" in row) for row in rows] == [False, True, True, False]
    assert "CUDA out of memory" in rows[1]["error"]
    assert rows[0]["over_plain_bf16"] == 1
    assert 2 < rows[3]["over_plain_bf16"] < 32  # 8, on a machine with nothing else to do
    assert rows[3]["lowest"] <= rows[3]["images_per_s"] <= rows[3]["highest"]
    assert rows[3]["images_per_s"] <= 800
    assert rows[3]["limit"] in ("arithmetic", "memory")
    assert len(list(gpu.table(rows))) == 5


def test_a_run_ends_in_time_and_names_what_it_left_out(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output, seen, now = tmp_path / "gpu.json", [], [100.0]

    def jobs(device: torch.device, size: object, folder: Path, results: dict[str, Any]) -> list:
        def job(seconds: float) -> None:
            seen.append(json.loads(output.read_text())["rows"] if output.exists() else None)
            results["rows"].append(len(seen))
            now[0] += 0.4

        return [(name, job) for name in ("first", "second", "third")]

    monkeypatch.setattr(gpu, "jobs", jobs)
    monkeypatch.setattr(gpu, "peaks", lambda *_: PEAKS)
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    end = now[0] + gpu.RESERVE_S + gpu.LEAST_S + 0.6
    results = gpu.run(CPU, gpu.QUICK, tmp_path, output, end)
    assert seen == [None, [1]]  # what the first job found was kept before the second began
    assert results["left_out"] == ["third"]
    assert json.loads(output.read_text()) == results


def test_what_is_aimed_at_is_measured_first_and_every_size_is_in_the_plan(
    gpu: ModuleType,
) -> None:
    from gpu_cases import AIMED, MODES

    planned: dict[tuple[str, str, tuple[int, ...]], set[tuple[str, str, str]]] = {}
    for case, hows in gpu.FULL.parts:
        ways = planned.setdefault((case.work, case.model, case.sides), set())
        ways |= {(how.side, how.precision, how.mode) for how in hows}
    sizes = [(model, (n, n)) for model in ("tiny", "small", "big") for n in (28, 32, 64)]
    wanted = {("plain", "fp32", "eager"), ("plain", "bf16", "eager")}
    wanted |= {("ours", "bf16", "eager"), ("ours", "bf16", "graph")}
    for model, sides in [*sizes, ("tiny", (32, 32, 32))]:
        for work in ("screening", "training", "grid"):
            assert planned[work, model, sides] >= wanted
    for work in ("screening", "training"):
        modes = {mode for side, _, mode in planned[work, "small", (32, 32)] if side == "ours"}
        assert modes == set(MODES)
    assert [str(case) for case, _ in gpu.FULL.parts[:AIMED]] == [
        "screening small 32x32",
        "training small 32x32",
        "screening big 64x64",
    ]


def row(work: str, mode: str, **more: object) -> dict[str, Any]:
    found = {"work": work, "model": "small", "sides": [32, 32], "side": "ours", "mode": mode}
    return {**found, **more}


@pytest.mark.usefixtures("gpu")
def test_aims_are_met_or_missed_by_the_best_of_ours() -> None:
    from gpu_report import aims, figures

    eager = {"over_plain_bf16": 2.0, "images_per_s": 100.0, "one_off_s": 1.0}
    rows = [
        row("screening", "eager", **eager),
        row("screening", "graph", over_plain_bf16=4.0, images_per_s=200.0, one_off_s=4.0),
        row("screening", "compiled", error="no compiler"),
        row("training", "eager", **eager),
        row("training", "auto", over_plain_bf16=2.5, images_per_s=125.0, one_off_s=101.0),
    ]
    found = figures({"rows": rows, "agreement": {"largest_points": 0.3}})
    assert found["screening_over_plain"] == (4, "graph")
    assert found["screening_repaid_s"] == (6, "graph")  # 3 s more, of which half is saved
    assert found["training_repaid_s"] == (pytest.approx(500), "auto")  # 100 s more, a fifth saved
    assert found["share_of_convolution"] is None
    said = [line.split()[0:4:3] + line.split()[4:5] for line in aims(found)][1:]
    ends = {name: verdict.strip(",") for name, *_, verdict in said}
    assert ends["screening_over_plain"] == "met"
    assert {ends[name] for name in ("training_over_plain", "training_repaid_s")} == {"missed"}
    assert ends["auroc_points"] == "missed"


def test_without_a_gpu_the_run_ends_with_code_two(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "found_gpu", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("gpu")
def test_the_plain_loop_asks_as_often_as_the_paper() -> None:
    from gpu_cases import CALLS, PLAIN, Case
    from gpu_plain import plain
    from models import fresh_model

    model = fresh_model("micro", (8, 8))
    few = plain(Case("screening", "micro", (8, 8)), PLAIN[0], model, CPU)
    assert (few.calls, few.share) == (CALLS, 1)
    grid = plain(Case("grid", "micro", (8, 8)), PLAIN[0], model, CPU)
    assert grid.calls / grid.share == pytest.approx(1250)


@pytest.mark.usefixtures("gpu")
def test_a_straight_prediction_undoes_the_noise_that_the_network_finds() -> None:
    from models import fresh_model
    from reference import ReferenceScorer

    model = fresh_model("micro", (8, 8))
    scorer = ReferenceScorer(model, (100, 500), None, None)
    images = torch.rand(2, 1, 8, 8)
    noise: list[Tensor] = []

    def exact(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = scorer.alphas_cumprod[int(t[0])]
        noise.append((x - alpha_bar.sqrt() * images) / (1 - alpha_bar).sqrt())
        return noise[-1]

    scorer.network = exact
    found = scorer(images, ["a", "b"], 2)
    assert found.shape == (2, 2, 1)
    assert len(noise) == scorer.calls == 2
    assert found.abs().max() < 1e-6


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device=cpu", "--quick"]
    done = subprocess.run(
        [*command, f"--output={output}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert [row.get("error") for row in results["rows"]] == [None] * 10
    assert {row["work"] for row in results["rows"]} == {"screening", "training", "grid"}
    assert results["left_out"] == []
    assert results["agreement"]["largest_points"] == 0
    assert results["cold_start"][0].keys() >= {"import_ms", "load_ms", "first_ms", "process_ms"}
