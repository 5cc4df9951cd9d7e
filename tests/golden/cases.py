"""What the golden run consists of: its images, its checkpoints and its command lines.

Everything lies in one folder, the place, and every command is called in it with relative paths,
so that no file it writes names a machine. Of the package the console alone is imported.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

HERE = Path(__file__).parent
CHECKPOINTS = HERE / "checkpoints"
EXPECTED = HERE / "expected"

SIDE = 8
GREY = {"grey_val": 20, "grey_test": 8, "near_test": 7, "far_test": 6}
COLOUR = {"CIFAR10_val": 20, "CIFAR10_test": 8, "TinyImageNet_test": 6, "SVHN_test": 7}
CLASSES = ("down", "across", "both")

DATA, RUNS = Path("data"), Path("runs")
SPLITS = Path("temp/dataset/data_splits")  # where the second system looks
SCORED = Path("temp/sample_ood")
GREY_MODEL, COLOUR_MODEL = Path("models/grey.pth"), Path("models/colour.pth")
CLASSIFIER = Path("temp/model/res18_cifar10.pth")
LPIPS = Path("models/alexnet.pth")

# SHA-256 of the true AlexNet weights, which LPIPS wants; see `own_lpips_weights`.
TRUE_LPIPS = "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a"
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}

TABLES = ("results_*.csv", "results_*.json")
RESULTS = ("decisions_*.csv", "metrics.csv", "metrics.json")

MACHINE = ("--device=cpu", "--num_workers=0")
RECONSTRUCT = (*MACHINE, "--compile=off", "--report_images=0")

CONFIG = """\
Dataset: {name: CIFAR10, image_size: 8, channels: 3, random_flip: true, num_workers: 0}
Model: {struc: tiny, num_classes: 3, dropout: 0.1}
Schedule: {type: linear, beta_start: 0.0001, beta_end: 0.02}
Train: {epoch: 1, batch_size: 4, cond_ratio: 0.9, train_step: 1000, t_type: symmetry, ema_rate: 0.9}
Optim: {lr: 0.0002, warmup: 2, grad_clip: 1.0}
Sample: {total_num: 6, batch_size: 64, guidance: 2.0}
"""
OUTER = "both: [near, far]\nouter: [far]\n"


@dataclass(frozen=True)
class Scoring:
    """A run of scoring: the command that writes score tables into the folder `ood`."""

    name: str
    command: tuple[str, ...]
    ood: Path

    @property
    def expected(self) -> Path:
        """The frozen score tables and their companions."""
        return EXPECTED / self.name


@dataclass(frozen=True)
class Detection:
    """A run of detection on the score tables of a run of scoring."""

    name: str
    scoring: str
    command: tuple[str, ...]

    @property
    def expected(self) -> Path:
        """The frozen metrics and decisions."""
        return EXPECTED / self.scoring / "detected" / self.name


def _grey(name: str, *flags: str, patched: bool = True) -> Scoring:
    return Scoring(
        name,
        (
            "reconstruct",
            f"--output_dir={RUNS}",
            f"--model_name={name}",
            f"--eval_checkpoint={GREY_MODEL}",
            f"--validation_ids={DATA}/grey_val.csv",
            f"--in_ids={DATA}/grey_test.csv",
            f"--out_ids={DATA}/near_test.csv,{DATA}/far_test.csv",
            f"--run_patched={int(patched)}",
            f"--lpips_weights={LPIPS}",
            *RECONSTRUCT,
            *flags,
        ),
        RUNS / name / "ood",
    )


def _colour(name: str, *flags: str) -> Scoring:
    return Scoring(
        name,
        (
            "reconstruct",
            f"--output_dir={RUNS}",
            f"--model_name={name}",
            f"--eval_checkpoint={COLOUR_MODEL}",
            f"--classifier_checkpoint={CLASSIFIER}",
            f"--validation_ids={SPLITS}/CIFAR10_val.csv",
            f"--in_ids={SPLITS}/CIFAR10_test.csv",
            f"--out_ids={SPLITS}/SVHN_test.csv",
            *RECONSTRUCT,
            *flags,
        ),
        RUNS / name / "ood",
    )


_MAIN = (
    *("second", "--runner=ood_itp", "--config=small.yml", "--method=DDIM", "--sample_speed=10"),
    *(f"--model_path={COLOUR_MODEL}", "--repeat_size=2", "--device=cpu"),
)
_MSE = "--scores=mse"

SCORINGS = (
    _grey("plms", "--num_inference_steps=8", "--inference_skip_factor=2"),
    _grey("ddim", "--num_inference_steps=4", "--sampler=ddim", _MSE, patched=False),
    *(
        _grey(
            name,
            *(f"--sampler={name}", "--num_inference_steps=5", "--inference_skip_factor=2"),
            *("--seed=5", "--first_n_val=8", _MSE),
            patched=False,
        )
        for name in ("dpmpp_2m", "pndm2", "pndm4")
    ),
    _grey("budget", "--budget=4"),
    _grey("budget_2", "--budget=6", "--budget_steps=2", _MSE),
    _grey(
        "budget_repeats",
        "--budget=6",
        "--repeats=2",
        _MSE,
        "--first_n=5",
        "--first_n_val=12",
        patched=False,
    ),
    Scoring("second", _MAIN, SCORED / "cifar10_r2/ood"),
    _colour(
        "guided",
        *("--levels=0,120,240,360", "--repeats=2", "--num_inference_steps=10", "--labels=pred"),
        *(
            "--guidance=2",
            "--first_n_val=8",
            "--scores=mse,logit_l1,feature_l1,msp,maxlogit,energy",
        ),
    ),
    _colour(
        "true_labels",
        *("--levels=0,200", "--num_inference_steps=5", "--sampler=pndm2", "--labels=true"),
        *("--scores=mse,logit_l1", "--first_n_val=8"),
    ),
)


def _detect(name: str, scoring: str, *flags: str) -> Detection:
    where = (f"--output_dir={RUNS}", f"--model_name={scoring}")
    return Detection(name, scoring, ("detect", *where, "--n_bootstrap=50", *flags))


_REPORT = ("second-report", "--repeat_size=2", "--id_name=cifar10")

DETECTIONS = (
    *(
        _detect(weights, scoring, f"--level_weights={weights}", *flags)
        for scoring, flags in (("plms", ()), ("budget", ("--seed=3",)), ("budget_2", ()))
        for weights in ("equal", "highest", "patched")
    ),
    _detect("no_z_score", "plms", "--z_score=0", "--n_bootstrap=0"),
    _detect("by_mse", "plms", "--headline=mse", "--target_fpr=0.2", "--out_data=far"),
    _detect(
        "few_levels",
        "plms",
        *("--min_t=150", "--max_t=800", "--t_skip=2", "--headline=perceptual_difference"),
        *("--groups=groups.yml", "--target_fpr=0.3", "--n_bootstrap=0"),
    ),
    _detect("equal", "ddim", "--target_fpr=0.1"),
    _detect("equal", "budget_repeats"),
    _detect("one_level", "guided", "--headline=feature_l1_local@120", "--z_score=0"),
    Detection("logit", "second", _REPORT),
    Detection("feature", "second", (*_REPORT, "--space=feature")),
)


def lay_out(place: Path, name: str) -> Path:
    """Let the folder `ood` of a run of scoring hold the frozen tables and nothing else."""
    scoring = next(scoring for scoring in SCORINGS if scoring.name == name)
    ood = place / scoring.ood
    shutil.rmtree(ood, ignore_errors=True)
    ood.mkdir(parents=True)
    for pattern in TABLES:
        for path in scoring.expected.glob(pattern):
            shutil.copy(path, ood)
    return ood


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file without what is no number: warnings, and the path of the groups' file.

    The targets of metrics.json are left out too: metrics.csv has their numbers as well.
    """
    found: dict[str, Any] = json.loads(path.read_text())
    for key in ("targets", "warnings"):
        found.pop(key, None)
    found.get("options", {}).pop("groups", None)
    return found


def call(place: Path, command: Sequence[str]) -> None:
    """Run a command of the console in this process, with `place` as the working directory."""
    from diffusion_ood import console

    with pytest.MonkeyPatch.context() as patch, own_lpips_weights(place / LPIPS):
        patch.chdir(place)
        console.main(command)


def make_place(place: Path) -> None:
    """Write the images, the configuration and the checkpoints that all command lines need."""
    write_images(place)
    (place / "config").mkdir()
    (place / "config" / "small.yml").write_text(CONFIG)
    (place / "groups.yml").write_text(OUTER)
    for path in (GREY_MODEL, COLOUR_MODEL, CLASSIFIER):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(CHECKPOINTS / f"{path.name}.xz") as packed, open(place / path, "wb") as file:
            shutil.copyfileobj(packed, file)
        shutil.copy(CHECKPOINTS / f"{path.name}.sha256", (place / path).parent)


def write_images(place: Path) -> None:
    """Write all sets of images and the weights for LPIPS."""
    for name, size in GREY.items():
        _write_set(place / DATA, name, size, channels=1)
    for name, size in COLOUR.items():
        _write_set(place / SPLITS, name, size, channels=3)
    (place / LPIPS).parent.mkdir()
    torch.save(_lpips_weights(), place / LPIPS)


def _write_set(folder: Path, name: str, size: int, channels: int) -> None:
    """PNGs and their split: ramps of three classes, ramps with noise if near, noise if far."""
    rng = np.random.default_rng(list(name.encode()))
    (folder / name).mkdir(parents=True)
    rows = ["image,label"]
    down = np.arange(SIDE)[:, None, None]
    across = down.swapaxes(0, 1)
    for i in range(size):
        step, base = rng.integers(5, 20, (2, channels))
        ramp = ((down, across, (down + across) // 2)[i % 3] * step + 2 * base) % 256
        noise = rng.integers(0, 256, (SIDE, SIDE, channels))
        share = {"near": 3, "Tiny": 3, "far_": 8, "SVHN": 8}.get(name[:4], 1)  # of noise, eighths
        pixels = ((8 - share) * ramp + share * noise) // 8
        path = folder / name / f"{i}.png"
        Image.fromarray(pixels.astype(np.uint8).squeeze()).save(path)
        rows.append(f"{name}/{path.name},{CLASSES[i % 3]}")
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")


def _lpips_weights() -> dict[str, torch.Tensor]:
    """Weights of AlexNet's shapes from a seed."""
    rng, weights = np.random.default_rng(0), {}
    for layer, (out, into, side) in ALEXNET.items():
        scale = np.float32((into * side * side) ** -0.5)
        values = rng.standard_normal((out, into, side, side), dtype=np.float32)
        weights[f"features.{layer}.weight"] = torch.from_numpy(scale * values)
        weights[f"features.{layer}.bias"] = torch.zeros(out)
    return weights


@contextmanager
def own_lpips_weights(path: Path) -> Iterator[None]:
    """Let `--lpips_weights` take the weights at `path` for the true ones.

    The digest that the package compares with is found by its value, in whatever module it is.
    """
    weights, total = torch.load(path, weights_only=True), hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].numpy().astype("<f4").tobytes())
    from diffusion_ood.networks import alexnet  # noqa: F401 - imports the module

    holders = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.startswith("diffusion_ood.")
        for name, value in list(vars(module).items())
        if isinstance(value, str) and value == TRUE_LPIPS
    ]
    assert holders, "found no module with the digest of AlexNet's weights; tell it to this function"
    with pytest.MonkeyPatch.context() as patch:
        for module, name in holders:
            patch.setattr(module, name, total.hexdigest())
        yield
