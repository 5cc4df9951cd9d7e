"""A run with everything that a report shows, made of numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.detection.examples import chosen_images
from diffusion_ood.detection.history import add_work
from diffusion_ood.detection.table import write_table
from diffusion_ood.options import DetectOptions
from diffusion_ood.report.pictures import Pictures, pictures_path
from diffusion_ood.runtime.files import write_json

T = (10, 20, 30)
EVIL = "<script>alert(1)</script>.png"
SETS = {"val": (120, 0.0), "in": (80, 0.0), "far": (60, 2.0), "near": (50, 0.3)}
FINGERPRINT = {"checkpoint": "ab" * 32, "seed": 7, "starts": list(T)}


def table(name: str, num: int, shift: float, columns: tuple[str, ...]) -> pd.DataFrame:
    """Normal scores around `shift`; the first image of "far" has a hostile name."""
    rng = np.random.default_rng(sum(map(ord, name)))
    filenames = [f"{name}/{k}.png" for k in range(num)]
    if name == "far":
        filenames[0] = EVIL
    kind = name if name in ("val", "in") else "out"
    rows = {"filename": np.repeat(filenames, len(T)), "type": kind, "t": list(T) * num}
    scores = rng.normal(shift, 1, (len(columns), num * len(T)))
    scores[:, : len(T)] += 9 * (name == "far")
    return pd.DataFrame({**rows, **dict(zip(columns, scores, strict=True))})


def make_run(folder: Path, columns: tuple[str, ...] = ("mse", "perceptual_difference")) -> Path:
    """The ood folder of a run of this name, with tables, sidecars, pictures and a history."""
    ood = folder / "ood"
    ood.mkdir(parents=True)
    for name, (num, shift) in SETS.items():
        write_table(ood / f"results_{name}.csv", table(name, num, shift, columns))
        facts = {
            "split": f"/data/{name}.csv",
            "native_size": [[8, 8]] if name != "near" else [[16, 16]],
            "calls_per_image": 3,
            "skipped": 2 if name == "far" else 0,
        }
        sidecar = {"fingerprint": {**FINGERPRINT, "rows_per_image": 3}, "facts": facts}
        write_json(ood / f"results_{name}.json", sidecar)
        add_work(
            ood,
            {
                "set": name,
                "fingerprint": FINGERPRINT,
                "images": num,
                "seconds": 2.5,
                "processes": 1,
                "device": "cpu",
                "command": "python reconstruct.py --model_name='a b'",
                "versions": {"torch": "9.9"},
            },
        )
    rng = np.random.default_rng(0)
    for name in ("in", "far", "near"):
        chosen = chosen_images(ood, name, 4, DetectOptions())
        cells = rng.integers(0, 256, (len(chosen), 1 + len(T), 8, 8, 1), dtype=np.uint8)
        Pictures(chosen, T, cells, 4, FINGERPRINT).save(pictures_path(ood, name))
    return ood


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Path]:
    """`new_run(folder, columns)` makes the ood folder of a run of this name, without a report."""
    return make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ood folder of a run with its report; not to be changed."""
    from diffusion_ood.commands import ood_detection

    folder = tmp_path_factory.mktemp("runs") / "model <b>"
    ood = make_run(folder)
    ood_detection.main(
        [f"--output_dir={folder.parent}", f"--model_name={folder.name}", "--n_bootstrap=100"]
    )
    return ood
