"""Shared fixtures: a tiny data set, commands on it in this process, and scripts in others."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Two threads that wait for each other on a busy machine take a hundred times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import diffusion_ood

SIDE = 8
SIZES = {"A_train": 12, "A_val": 6, "A_test": 6, "B_test": 5, "A_more": 12}
PACKAGES = str(Path(diffusion_ood.__file__).parents[1])
PATIENCE_S = 240

Command = Callable[..., Path]
Launch = Callable[..., list[subprocess.CompletedProcess[str]]]


def write_set(folder: Path, name: str, num: int) -> None:
    """Grey PNGs and their split: vertical ramps of random slope for A, random pixels for B."""
    rng = np.random.default_rng(sum(map(ord, name)))
    (folder / name).mkdir(parents=True)
    for i in range(num):
        ramp = np.linspace(0, rng.integers(60, 250), SIDE)[:, None] * np.ones(SIDE)
        noise = rng.integers(0, 256, (SIDE, SIDE))
        pixels = (ramp if name.startswith("A") else noise).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{i}.png")
    rows = "".join(f"{name}/{i}.png\n" for i in range(num))
    (folder / f"{name}.csv").write_text("image\n" + rows)


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with A_train, A_val, A_test, A_more and B_test.csv and their 8 x 8 grey PNGs."""
    folder = tmp_path_factory.mktemp("data")
    for name, num in SIZES.items():
        write_set(folder, name, num)
    return folder


@pytest.fixture
def own_splits(splits: Path, tmp_path: Path) -> Path:
    """A copy of `splits` that a test may change, without any packed images."""
    return Path(shutil.copytree(splits, tmp_path / "data", ignore=lambda *_: [".cache"]))


@pytest.fixture(scope="session")
def train(splits: Path) -> Command:
    """`train(run_dir, *flags)` trains a tiny model on A; flags given later win."""

    def run(run_dir: Path, *flags: str, data: Path = splits) -> Path:
        from diffusion_ood.commands import train_ddpm
        from diffusion_ood.training import diffusion_task

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diffusion_task, "SAMPLE_STEPS", 2)
            train_ddpm.main([*_train_flags(run_dir, data), *flags])
        return run_dir

    return run


@pytest.fixture(scope="session")
def train_flags() -> Callable[[Path, Path], list[str]]:
    """The flags of `train` for a run directory and a folder of splits."""
    return _train_flags


def _train_flags(run_dir: Path, data: Path) -> list[str]:
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--training_ids={data / 'A_train.csv'}",
        f"--validation_ids={data / 'A_val.csv'}",
        *("--is_grayscale", "--model_type=tiny", "--batch_size=4", "--lr=1e-3", "--n_epochs=1"),
        *("--device=cpu", "--compile=off", "--num_workers=0"),
    ]


@pytest.fixture(scope="session")
def trained(train: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a model that was trained for ten epochs; not to be changed."""
    run_dir = tmp_path_factory.mktemp("runs") / "A"
    return train(run_dir, "--n_epochs=10", "--checkpoint_every=1", "--lr=3e-3")


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A run directory of a test's own, with the checkpoints of `trained`."""
    folder = tmp_path / "runs" / "A"
    folder.mkdir(parents=True)
    for checkpoint in trained.glob("*.pth"):
        os.link(checkpoint, folder / checkpoint.name)  # rewriting one makes a new file
    return folder


@pytest.fixture(scope="session")
def score_flags(splits: Path) -> Callable[[Path], list[str]]:
    """The flags that score validation, test and OOD images of a run directory, from 4 levels."""
    return lambda run_dir: [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--validation_ids={splits / 'A_val.csv'}",
        f"--in_ids={splits / 'A_test.csv'}",
        f"--out_ids={splits / 'B_test.csv'}",
        *("--num_inference_steps=4", "--device=cpu", "--compile=off", "--num_workers=0"),
    ]


@pytest.fixture
def score(score_flags: Callable[[Path], list[str]], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`score(run_dir, *flags)` reconstructs and scores by MSE alone, and returns the ood folder."""
    from diffusion_ood.commands import reconstruct
    from diffusion_ood.methods.scores import chosen

    def run(run_dir: Path, *flags: str) -> Path:
        asked = [flag for flag in flags if flag.startswith("--methods=")]
        grid = not asked or "reconstruction" in asked[0]  # or its steps would be refused
        general = [f for f in score_flags(run_dir) if grid or "num_inference_steps" not in f]
        reconstruct.main([*general, *flags])
        return run_dir / "ood"

    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: None)
    return run


@pytest.fixture(scope="session")
def random_features() -> dict[str, Tensor]:
    """Random weights of AlexNet's shapes, for LPIPS."""
    shapes = {
        0: (64, 3, 11),
        3: (192, 64, 5),
        6: (384, 192, 3),
        8: (256, 384, 3),
        10: (256, 256, 3),
    }
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for layer, (out, into, side) in shapes.items():
        weight = torch.randn(out, into, side, side, generator=generator)
        weights[f"features.{layer}.weight"] = weight / (into * side * side) ** 0.5
        weights[f"features.{layer}.bias"] = torch.zeros(out)
    return weights


@pytest.fixture(scope="session")
def launch() -> Launch:
    """`launch(script, *argv, processes=2)` runs a Python file in processes that can find another.

    With `processes=None` it is one process outside any group.
    """

    def run(
        script: str, *argv: str, processes: int | None = None
    ) -> list[subprocess.CompletedProcess[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-W", "ignore", script, *argv]
        started = [
            subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "PYTHONPATH": PACKAGES,
                    **(group | {"RANK": str(k), "LOCAL_RANK": str(k)} if processes else {}),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for k in range(processes or 1)
        ]
        try:
            texts = [process.communicate(timeout=PATIENCE_S) for process in started]
        finally:
            for process in started:
                process.kill()
        return [
            subprocess.CompletedProcess(command, process.returncode, *text)
            for process, text in zip(started, texts, strict=True)
        ]

    return run


@pytest.fixture(scope="session")
def diffusion(trained: Path) -> diffusion_ood.Diffusion:
    """The model of `trained`."""
    return diffusion_ood.Diffusion.load(trained / "checkpoint_best.pth")
