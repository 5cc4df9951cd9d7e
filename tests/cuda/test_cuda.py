"""What a GPU computes, against the same on the CPU. Skipped where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands import reconstruct, sample, train_classifier
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.networks.backend import diffusion_unet
from diffusion_ood.networks.layers import replace_layers
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.runtime.compiling import CompiledForFullBatches
from diffusion_ood.runtime.device import autocast, pick_device, prepare

Command = Callable[..., Path]

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

ON_CUDA = "--device=cuda"
SETS = ("val", "in", "B")


def weights(run_dir: Path) -> dict[str, Tensor]:
    return load_checkpoint(run_dir / "checkpoint.pth")["weights"]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def scores(ood: Path) -> pd.DataFrame:
    tables = [pd.read_csv(ood / f"results_{name}.csv") for name in SETS]
    return pd.concat(tables, keys=SETS).reset_index(level=0)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of splits like that of `splits`, of volumes of 8 x 8 x 8."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for name, number in (("A_train", 8), ("A_val", 3), ("A_test", 3), ("B_test", 3)):
        (folder / name).mkdir()
        for k in range(number):
            np.save(folder / name / f"{k}.npy", rng.random((8, 8, 8), dtype=np.float32))
        rows = "".join(f"{name}/{k}.npy\n" for k in range(number))
        (folder / f"{name}.csv").write_text("image\n" + rows)
    return folder


GRIDS = {
    "plms": ["--num_inference_steps=4"],
    "ddim": ["--num_inference_steps=4", "--sampler=ddim"],
    "straight": ["--budget=5"],
    "two steps": ["--budget=8", "--budget_steps=2"],
}


@pytest.mark.parametrize("flags", GRIDS.values(), ids=GRIDS)
@pytest.mark.usefixtures("score")  # without LPIPS's weights
def test_a_table_of_cuda_is_that_of_the_cpu(
    flags: list[str],
    trained: Path,
    tmp_path: Path,
    score_flags: Callable[[Path], list[str]],
) -> None:
    found = {}
    for name in ("cpu", "cuda"):
        own = [flag for flag in score_flags(tmp_path / name) if "num_inference" not in flag]
        checkpoint = f"--eval_checkpoint={trained / 'checkpoint.pth'}"
        reconstruct.main([*own, checkpoint, *flags, f"--device={name}"])
        found[name] = scores(tmp_path / name / "ood")
    pd.testing.assert_frame_equal(found["cuda"], found["cpu"], rtol=1e-4)


@pytest.mark.parametrize("flags", [["--batch_size=1"], ["--max_batch=3"], ["--batch_size=4"]])
def test_a_score_does_not_depend_on_the_batch(
    flags: list[str], trained: Path, tmp_path: Path, score: Command
) -> None:
    checkpoint = f"--eval_checkpoint={trained / 'checkpoint.pth'}"
    whole = scores(score(tmp_path / "whole", checkpoint, ON_CUDA))
    found = scores(score(tmp_path / "parts", checkpoint, ON_CUDA, *flags))
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4)


@pytest.mark.parametrize("more", [[], ["--compile=on", "--max_batch=24"]])
def test_scores_in_bf16_keep_their_order(
    more: list[str], trained: Path, tmp_path: Path, score: Command
) -> None:
    checkpoint = f"--eval_checkpoint={trained / 'checkpoint.pth'}"
    exact = scores(score(tmp_path / "fp32", checkpoint, ON_CUDA))
    found = scores(score(tmp_path / "bf16", checkpoint, ON_CUDA, "--precision=bf16", *more))
    np.testing.assert_allclose(found["mse"], exact["mse"], rtol=0.05)
    for _, rows in exact.assign(found=found["mse"]).groupby("t"):
        assert spearmanr(rows["mse"], rows["found"]).statistic > 0.99


def test_lpips_is_that_of_the_cpu(random_features: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    images, others = torch.rand(2, 5, 1, 40, 40, generator=generator)
    found = []
    for name in ("cpu", "cuda"):
        device = pick_device(name)
        score = PerceptualDifference(random_features)
        with torch.inference_mode():
            reference = score.reference(images.to(device))
            found.append(score(reference, others.to(device)).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_network_is_the_plain_one(precision: str) -> None:
    torch.manual_seed(0)
    network = diffusion_unet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=1,
        channels=(32, 64),
        attention_levels=(False, True),
        norm_num_groups=32,
        num_head_channels=32,
    )
    replace_layers(network)
    for parameter in network.parameters():  # MONAI's last convolutions are zero
        torch.nn.init.normal_(parameter, std=0.05)
    device = pick_device("cuda")
    prepare(network, device).eval().requires_grad_(False)
    x, t = torch.randn(7, 1, 16, 16, device=device), torch.arange(7, device=device) * 100
    compiled = CompiledForFullBatches(network, 8)
    with torch.inference_mode(), autocast(device, precision):
        expected, found = network(x, t), compiled(x, t)
    rounding = 1e-5 if precision == "fp32" else 2e-2
    assert (found - expected).abs().max() < rounding * expected.abs().max()


@pytest.mark.parametrize("flags", [[], ["--precision=bf16", "--ema_decay=0.9", "--augmentation=1"]])
def test_going_on_is_not_having_stopped_to_the_bit(
    flags: list[str], train: Command, tmp_path: Path
) -> None:
    train(tmp_path / "halves", ON_CUDA, *flags, "--n_epochs=2")
    train(tmp_path / "halves", ON_CUDA, *flags, "--n_epochs=4")
    train(tmp_path / "whole", ON_CUDA, *flags, "--n_epochs=4")
    halves, whole = weights(tmp_path / "halves"), weights(tmp_path / "whole")
    assert largest_difference(halves, whole) == 0


def test_fp16_trains_with_scaled_losses(train: Command, tmp_path: Path) -> None:
    exact = load_checkpoint(train(tmp_path / "fp32", ON_CUDA, "--n_epochs=3") / "checkpoint.pth")
    run_dir = train(tmp_path / "fp16", ON_CUDA, "--n_epochs=3", "--precision=fp16")
    found = load_checkpoint(run_dir / "checkpoint.pth")
    assert found["trainer"]["scaler"]["scale"] > 1
    assert found["best_loss"] == pytest.approx(exact["best_loss"], rel=0.1)


def test_one_process_of_torchrun_learns_what_no_group_learns(
    train: Command, train_flags: Callable[[Path, Path], list[str]], splits: Path, tmp_path: Path
) -> None:
    """With NCCL, which the single process is asked to reduce by as many would be."""
    alone = train(tmp_path / "alone", ON_CUDA, "--n_epochs=2")
    script = Path(__file__).parents[2] / "train_ddpm.py"
    flags = [*train_flags(tmp_path / "group", splits), ON_CUDA, "--n_epochs=2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    done = subprocess.run(
        [*command, str(script), *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 × cuda:0" in done.stdout
    assert largest_difference(weights(tmp_path / "group"), weights(alone)) < 1e-5


def test_samples_are_those_of_the_cpu(trained: Path, tmp_path: Path) -> None:
    found = []
    for name in ("cpu", "cuda"):
        run = [f"--output_dir={trained.parent}", f"--model_name={trained.name}", "--compile=off"]
        more = ["--num_samples=5", "--num_inference_steps=5", "--format=npy", f"--device={name}"]
        sample.main([*run, f"--image_path={tmp_path / name}", *more])
        found.append(np.load(tmp_path / name / "samples.npy"))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_a_classifier_is_the_same_every_time(own_splits: Path, tmp_path: Path) -> None:
    for csv in own_splits.glob("A_*.csv"):
        first, *rows = csv.read_text().split()
        labelled = [f"{row},{'ab'[k % 2]}" for k, row in enumerate(rows)]
        csv.write_text("\n".join([f"{first},label", *labelled]) + "\n")

    def trained(name: str) -> dict[str, Tensor]:
        train_classifier.main(
            [
                *(f"--output_dir={tmp_path}", f"--model_name={name}", "--n_epochs=2"),
                *(f"--training_ids={own_splits}/A_train.csv", "--batch_size=4"),
                *(f"--validation_ids={own_splits}/A_val.csv", "--is_grayscale"),
                *("--num_classes=2", "--classifier_type=narrow", "--lr=0.01"),
                *("--num_workers=0", "--compile=off", ON_CUDA),
            ]
        )
        return weights(tmp_path / name)

    assert largest_difference(trained("one"), trained("two")) == 0


def test_volumes_are_scored_as_on_the_cpu(
    volumes: Path, train: Command, score: Command, tmp_path: Path
) -> None:
    run_dir = train(tmp_path / "A", ON_CUDA, "--spatial_dimension=3", data=volumes)
    splits = [f"--validation_ids={volumes}/A_val.csv", f"--in_ids={volumes}/A_test.csv"]
    splits += [f"--out_ids={volumes}/B_test.csv", f"--eval_checkpoint={run_dir}/checkpoint.pth"]
    expected = scores(score(tmp_path / "cpu", *splits))
    found = scores(score(tmp_path / "cuda", *splits, ON_CUDA))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_too_little_memory_is_one_sentence(
    trained: Path, tmp_path: Path, score: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"--eval_checkpoint={trained / 'checkpoint.pth'}"
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda: score(tmp_path / "A", checkpoint, ON_CUDA))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert stopped.value.code != 0
    assert capsys.readouterr().err.startswith("error: out of memory: CUDA out of memory")
