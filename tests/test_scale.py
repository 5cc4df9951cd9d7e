"""The simulation of scale where a hand can reckon it, and the recipes of docs/scale.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml
from documents import ROOT, blocks
from PIL import Image
from ramps import noise, ramps
from test_documents import take

import diffusion_ood
from diffusion_ood import Detector, Diffusion, cli
from diffusion_ood.calibration.fdr import benjamini_hochberg
from diffusion_ood.options import DiffusionOptions, ImageOptions, ReconstructOptions

PACKAGES = str(Path(diffusion_ood.__file__).parents[1])
PAGE = ROOT / "docs" / "scale.md"
YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
Taken = Callable[[tuple[str, ...]], None]
GREY = ImageOptions(is_grayscale=True)
RATES = {"start": 10.0, "hours_between_losses": 1e9, "list_csv": 0.0}


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale

    return scale


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Hands a command to its program, as far as that reads its words."""
    monkeypatch.setattr(cli, "_refuse_missing", lambda options: None)
    return take


def work(scale: ModuleType, **seconds: float) -> list[Any]:
    lanes = {"computing": "core", "requests": "store", "driver": "driver", "latency": "reading"}
    lanes |= {"listing": "main", "report": "main"}
    return [scale.Stage(name, lane, seconds.get(name, 0.0)) for name, lane in lanes.items()]


def hours(scale: ModuleType, stages: list[Any], workers: int, way: str, **faults: float) -> float:
    found: float = scale.simulate(stages, RATES, 10_000, workers, way, scale.Faults(**faults))
    return found


def test_one_worker_takes_its_longest_lane(scale: ModuleType) -> None:
    stages = work(scale, computing=0.3, latency=0.5, listing=0.01)
    assert hours(scale, stages, 1, "one job") == pytest.approx((10 + 5000 + 100) / 3600)
    assert scale.bottleneck(stages, RATES, 10_000, 1, "one job") == "latency"


@pytest.mark.parametrize("shared", ["requests", "driver"])
def test_what_all_share_does_not_grow_with_the_workers(scale: ModuleType, shared: str) -> None:
    stages = work(scale, computing=0.1, **{shared: 0.05})
    for workers in (8, 64):
        found = hours(scale, stages, workers, "one job")
        assert found == pytest.approx((10 + 500) / 3600, rel=0.03)
        assert scale.bottleneck(stages, RATES, 10_000, workers, "one job") == shared


def test_shards_have_no_driver_and_many_starts(scale: ModuleType) -> None:
    stages = work(scale, computing=0.1, driver=1)
    assert hours(scale, stages, 10, "shards") == pytest.approx((10 + 100) / 3600)  # 10 of 1,000
    assert hours(scale, stages, 1, "shards") == pytest.approx((100 + 1000) / 3600)


def test_a_slow_worker_delays_parts_that_are_fixed(scale: ModuleType) -> None:
    stages = work(scale, computing=1)
    even = hours(scale, stages, 10, "parts")
    assert even == pytest.approx((10 + 1000) / 3600)
    assert hours(scale, stages, 10, "parts", slow=4) == pytest.approx((10 + 4000) / 3600)
    assert hours(scale, stages, 10, "one job", slow=4) < 1.3 * even * 10 / 9.25


def test_lost_workers_cost_their_restarts_and_blocks(scale: ModuleType) -> None:
    """A 16th of what is left is taken at a time, 156 images are half of it on average."""
    stages = work(scale, computing=1)
    found = hours(scale, stages, 1, "one job", hours_between_losses=0.1)
    assert found == pytest.approx((10 + 10_000 * (1 + (10 + 156) / 360)) / 3600, rel=0.08)


def test_the_page_has_the_table_of_the_file(scale: ModuleType) -> None:
    file = json.loads((ROOT / "benchmarks" / "scale.json").read_text())
    rows = [scale.Row(**row) for row in file["rows"]]
    assert {(row.images, row.way) for row in rows} == {
        (images, way) for images in (10**6, 10**9) for way in ("one job", "shards")
    }
    assert len(rows) == 2 * 2 * 2 * 7 * 2
    page = PAGE.read_text()
    for line in scale.markdown(rows).splitlines():
        assert line in page
    rates = json.loads((ROOT / "benchmarks" / "scale_rates.json").read_text())
    assert all({"value", "unit", "machine", "source"} == set(rate) for rate in rates.values())


def test_shell_blocks_are_shell() -> None:
    found = blocks(PAGE)
    assert len(found) > 4
    for block in found:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def documents() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in YAML.findall(PAGE.read_text())]


def test_the_indexed_job_has_the_fields_of_its_kind(taken: Taken) -> None:
    (job,) = (found for found in documents() if found["kind"] == "Job")
    assert job["apiVersion"] == "batch/v1"
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] <= spec["completions"] <= 100_000
    assert spec["backoffLimitPerIndex"] > 0
    assert pod["restartPolicy"] == "Never"  # which backoffLimitPerIndex needs
    check_pod(pod)
    taken(tuple(pod["containers"][0]["args"]))


def test_the_ray_job_has_a_head_and_workers_of_one_image(taken: Taken) -> None:
    (job,) = (found for found in documents() if found["kind"] == "RayJob")
    assert job["apiVersion"] == "ray.io/v1"
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(isinstance(group["rayStartParams"], dict) for group in groups)
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    for pod in pods:
        check_pod(pod)
    taken(tuple(job["spec"]["entrypoint"].split()))


def check_pod(pod: dict[str, Any]) -> None:
    """Its mounts are of its volumes, and its limits are quantities."""
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for limit in container["resources"]["limits"].values():
            assert re.fullmatch(r"\d+(Mi|Gi)?", str(limit))


@pytest.mark.slow
def test_the_recipe_of_shards_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own lines in bash, the array's script once a shard, beside all in one job."""
    model = Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8), GREY)
    options = ReconstructOptions(methods=("features",))
    detector = Detector.fit(model, ramps(60, 1), ramps(40, 2), options=options, device="cpu")
    detector.save(tmp_path / "scans.detector")
    (tmp_path / "images").mkdir()
    for number, image in enumerate([*ramps(9, 3), *noise(3, 4)]):
        Image.fromarray(image).save(tmp_path / "images" / f"a, b {number}.png")
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "examples", "examples")
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "python", "")
    program = "-c 'from diffusion_ood.console import run; run()'"
    write_program(tmp_path / "bin" / "diffusion-ood", program)
    cut, screen, join = blocks(PAGE, "## A billion")
    run = shell(tmp_path)
    run(cut.replace("/path/to", str(tmp_path)).replace("100000", "5"))
    assert sorted(path.name for path in Path("shards").iterdir()) == ["0.csv", "1.csv", "2.csv"]
    for number in range(3):
        run(screen, SLURM_ARRAY_TASK_ID=str(number))
    run(join)
    run(f"diffusion-ood screen scans.detector {tmp_path}/images --output=one")
    one = pd.read_csv("one/decisions.csv").sort_values("file", ignore_index=True)
    parts = [pd.read_parquet(path) for path in Path("screened").glob("*/decisions.parquet")]
    found = pd.concat(parts).sort_values("file", ignore_index=True)
    assert found["file"].tolist() == one["file"].tolist()
    assert found["score"].to_numpy() == pytest.approx(one["score"].to_numpy(), abs=1e-5)
    reported = one["file"][benjamini_hochberg(one["p_value"], 0.1)]
    assert set(pd.read_csv("reported.csv")["file"]) == set(reported)


def write_program(path: Path, words: str) -> None:
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
    path.chmod(0o755)


def shell(folder: Path) -> Callable[..., None]:
    """Runs shell code with the programs of this repository."""

    def run(code: str, **variables: str) -> None:
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PYTHONPATH": PACKAGES, **variables}
        done = subprocess.run(["bash", "-e", "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run
