"""One line in a registry adds a method, a head, a sampler, a size or a data set to the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diffusion_ood import Diffusion, Evaluator, measure
from diffusion_ood.commands import get_datasets, reconstruct
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.registries import HEADS, METHODS, SAMPLERS, SIZES, SOURCES

EXAMPLES = Path(__file__).parents[2] / "examples"
Command = Callable[..., Path]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Modules of examples/ and of the test's own folder can be imported."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_method(
    run_dir: Path,
    splits: Path,
    score_flags: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = [*score_flags(run_dir), "--methods=score_norm", "--batch_size=4"]
    with pytest.raises(UserError, match="score_norm"):
        reconstruct.main(flags)
    for name in ("other", "score_norm"):
        monkeypatch.setitem(METHODS.places, name, "score_norm_method:ScoreNorm")
    with pytest.raises(UserError, match=r"`methods` other.*score_norm"):
        reconstruct.main([*flags, "--methods=other"])
    reconstruct.main(flags)
    folder = run_dir / "ood" / "score_norm"
    assert {path.name for path in folder.glob("*.csv")} == {
        "results_val.csv",
        "results_in.csv",
        "results_B.csv",
    }
    assert not list((run_dir / "ood").glob("results_*.csv"))
    assert_equals_the_api(pd.read_csv(folder / "results_val.csv"), run_dir, splits)


def assert_equals_the_api(table: pd.DataFrame, run_dir: Path, splits: Path) -> None:
    """The table of the validation images by `measure`, with their paths as keys."""
    diffusion = Diffusion.load(run_dir / "checkpoint_best.pth")
    keys = read_split(splits / "A_val.csv").images
    pixels = [np.asarray(Image.open(splits / key), np.float32)[None] / 255 for key in keys]
    one = Evaluator(diffusion, "cpu", compile="off")
    expected = measure(METHODS["score_norm"](), np.stack(pixels), one, keys=keys)
    assert list(table) == ["filename", "type", "t", "eps_sq"]
    assert set(table.pop("type")) == {"val"}
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-5)
    assert one.calls == len(table) == 6 * 4


def test_a_head(run_dir: Path, score: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusion_ood.commands import ood_detection

    ood = score(run_dir)
    run = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    flags = [*run, "--heads=mad", "--headline=mad"]
    with pytest.raises(UserError, match="mad"):
        ood_detection.main(flags)
    monkeypatch.setitem(HEADS.places, "mad", "mad_head:MedianHead")
    ood_detection.main(flags)
    head = HEADS["mad"]().fit(features(ood / "results_val.csv"))
    scores = {name: head.score(features(ood / f"results_{name}.csv")) for name in ("in", "B")}
    for name, expected in scores.items():
        decisions = pd.read_csv(ood / f"decisions_{name}.csv", index_col="filename")
        pd.testing.assert_series_equal(
            decisions["score"], expected, check_names=False, check_like=True
        )
    metrics = json.loads((ood / "metrics.json").read_text())["targets"]["mad"]["B"]
    pairs = np.sign(scores["B"].to_numpy()[:, None] - scores["in"].to_numpy())
    assert metrics["auroc"]["value"] == pytest.approx((1 + pairs.mean()) / 2)


def features(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table.pivot_table(index="filename", columns="t", values=["mse"], sort=False)


def test_a_sampler(run_dir: Path, score: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="heun"):
        score(run_dir, "--sampler=heun")
    monkeypatch.setitem(SAMPLERS.places, "heun", "heun_sampler:SAMPLER")
    ood = score(run_dir, "--sampler=heun")
    sidecar = json.loads((ood / "results_in.json").read_text())
    assert sidecar["fingerprint"]["sampler"] == "heun"
    # steps at 250, 500, 750 and 999 down to 0, two calls each
    assert sidecar["facts"]["calls_per_image"] == 2 * (1 + 2 + 3 + 4)
    assert pd.read_csv(ood / "results_in.csv")["mse"].notna().all()


def test_a_size(
    train: Command, tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pico.py").write_text(
        "from diffusion_ood.networks.unet import UNetSize\n"
        "PICO = UNetSize((32, 32), (False, True), 1, 32)\n"
    )
    with pytest.raises(UserError, match="pico"):
        train(tmp_path / "runs" / "m", "--model_type=pico")
    monkeypatch.setitem(SIZES.places, "pico", "pico:PICO")
    run_dir = train(tmp_path / "runs" / "m", "--model_type=pico")
    diffusion = Diffusion.load(run_dir / "checkpoint_best.pth")
    assert diffusion.options.model_type == "pico"
    assert diffusion.network.conv_in.conv.weight.shape == torch.Size([32, 1, 3, 3])
    assert len(diffusion.network.down_blocks) == 2
    table = pd.read_csv(score(run_dir) / "results_in.csv")
    assert len(table) == 6 * 4
    assert table["mse"].notna().all()


def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [f"--data_root={tmp_path / 'data'}", "--datasets=Circles", "--num_workers=0"]
    with pytest.raises(UserError, match="Circles"):
        get_datasets.main(flags)
    monkeypatch.setitem(SOURCES.places, "Circles", "circles_dataset:SOURCE")
    get_datasets.main(flags)
    folder = tmp_path / "data" / "data_splits"
    found = {part: len(read_split(folder / f"Circles_{part}.csv")) for part in ("train", "test")}
    assert found == {"train": 190, "test": 50}
