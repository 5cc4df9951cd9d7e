"""The second system from its command lines: classifier, conditional model, scores, report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diffusion_ood.commands import (
    ood_detection,
    reconstruct,
    sample,
    train_classifier,
    train_ddpm,
)
from diffusion_ood.errors import UserError
from diffusion_ood.networks.resnet import load_classifier
from diffusion_ood.quality.frechet import frechet_distance, moments
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.training import diffusion_task
from diffusion_ood.training.checkpoints import Checkpoints, Progress

Launch = Callable[..., Any]

SIDE = 8
SIZES = {"train": 48, "val": 9, "test": 7}
MACHINE = ["--device=cpu", "--compile=off", "--num_workers=0"]
SCORES = "--scores=mse,logit_l1,feature_l1,msp,maxlogit,energy"
LEVELS = [SCORES, "--levels=0,120,240,360", "--num_inference_steps=20", "--repeats=2"]
TRAINING = "TRAINING"  # the last word of a process that trains
GUIDED = ["--labels=pred", "--guidance=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images of two classes, ramps down and ramps across, and noise of neither."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, size in {**SIZES, "noise_test": 5}.items():
        (folder / name).mkdir()
        rows = ["image,label"]
        for i in range(size):
            ramp = np.linspace(20, rng.integers(150, 250), SIDE)[:, None] * np.ones(SIDE)
            pixels = {0: ramp, 1: ramp.T}[i % 2]
            if name == "noise_test":
                pixels = rng.integers(0, 256, (SIDE, SIDE))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
            rows.append(f"{name}/{i}.png,{('down', 'across')[i % 2]}")
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


def training_flags(data: Path, run_dir: Path) -> list[str]:
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--training_ids={data / 'train.csv'}",
        f"--validation_ids={data / 'val.csv'}",
        *("--is_grayscale", "--num_classes=2"),
        *MACHINE,
    ]


def classifier_flags(data: Path, run_dir: Path) -> list[str]:
    return [
        *training_flags(data, run_dir),
        *("--classifier_type=narrow", "--batch_size=16", "--lr=0.05", "--no-flip"),
        *(f"--test_ids={data / 'test.csv'}", "--n_epochs=20", "--eval_freq=10"),
    ]


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a trained classifier and a briefly trained conditional model."""
    runs = tmp_path_factory.mktemp("runs")
    train_classifier.main(classifier_flags(data, runs / "classifier"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_task, "SAMPLE_STEPS", 2)
        flags = ["--model_type=tiny", "--batch_size=16", "--lr=1e-3", "--n_epochs=2"]
        more = ["--data_range=pm1", "--ema_decay=0.9", "--res_dropout=0.1", "--grad_clip=1"]
        train_ddpm.main([*training_flags(data, runs / "model"), *flags, *more])
    return runs


def scoring_flags(data: Path, runs: Path, name: str) -> list[str]:
    """Score with the model of `runs`, into a run directory `name` of its own."""
    return [
        f"--output_dir={runs}",
        f"--model_name={name}",
        f"--eval_checkpoint={runs / 'model' / 'checkpoint.pth'}",
        f"--classifier_checkpoint={runs / 'classifier' / 'checkpoint_best.pth'}",
        f"--validation_ids={data / 'val.csv'}",
        f"--in_ids={data / 'test.csv'}",
        f"--out_ids={data / 'noise_test.csv'}",
        *MACHINE,
    ]


def score(data: Path, runs: Path, name: str, *flags: str) -> pd.DataFrame:
    reconstruct.main([*scoring_flags(data, runs, name), *flags])
    return pd.read_csv(runs / name / "ood" / "results_in.csv")


@pytest.fixture(scope="module")
def guided(data: Path, runs: Path) -> pd.DataFrame:
    """The test images' table of a whole guided run."""
    return score(data, runs, "guided", *LEVELS, *GUIDED)


def test_the_classifier_learns_its_classes_and_says_how_well(runs: Path) -> None:
    found = load_checkpoint(runs / "classifier" / "checkpoint.pth")
    assert found["classes"] == ("across", "down")
    assert found["accuracy"].keys() == {"validation", "test"}
    assert found["accuracy"]["test"] >= 6 / 7
    assert found["best_loss"] <= 1 - found["accuracy"]["validation"]


def test_the_classifier_normalises_by_its_training_images(data: Path, runs: Path) -> None:
    pixels = np.stack(
        [np.asarray(Image.open(data / "train" / f"{i}.png")) / 255 for i in range(SIZES["train"])]
    )
    weights = load_checkpoint(runs / "classifier" / "checkpoint.pth")["weights"]
    assert weights["mean"].item() == pytest.approx(pixels.mean(), rel=1e-5)
    assert weights["std"].item() == pytest.approx(pixels.std(), rel=1e-5)


def test_two_halves_of_a_classifiers_training_are_the_whole(
    data: Path, runs: Path, tmp_path: Path
) -> None:
    flags = classifier_flags(data, tmp_path / "halves")
    train_classifier.main([*flags, "--quick_test"])
    whole = load_checkpoint(tmp_path / "halves" / "checkpoint.pth")
    shutil.rmtree(tmp_path / "halves")

    class Stopped(Exception):
        """The power goes."""

    def stop_after_two(self: Checkpoints, progress: Progress, *, best: bool = False) -> None:
        save(self, progress, best=best)
        if progress.epoch == 2:
            raise Stopped

    save = Checkpoints.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop_after_two)
        with pytest.raises(Stopped):
            train_classifier.main([*flags, "--quick_test"])
    train_classifier.main([*flags, "--quick_test"])
    again = load_checkpoint(tmp_path / "halves" / "checkpoint.pth")
    for name, weight in whole["weights"].items():
        assert torch.equal(again["weights"][name], weight), name


def test_two_processes_train_one_classifier(data: Path, tmp_path: Path, launch: Launch) -> None:
    flags = [*classifier_flags(data, tmp_path / "two"), TRAINING]
    first, second = launch(__file__, *flags, processes=2)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "8 of them in each process" in first.stdout
    assert second.stdout == ""
    found = load_checkpoint(tmp_path / "two" / "checkpoint.pth")
    assert found["accuracy"]["test"] >= 6 / 7
    assert found["trainer"]["step"] == 20 * SIZES["train"] // 16


def test_a_table_has_a_row_a_level_and_repeat(guided: pd.DataFrame) -> None:
    assert list(guided) == [
        *("filename", "type", "t", "repeat", "mse"),
        *("logit_l1_global", "logit_l1_local", "feature_l1_global", "feature_l1_local"),
        *("msp", "maxlogit", "energy"),
    ]
    assert len(guided) == 7 * 3 * 2
    first = guided[guided["filename"] == "test/0.png"]
    assert list(zip(first["t"], first["repeat"], strict=True)) == [
        (t, r) for t in (120, 240, 360) for r in (0, 1)
    ]
    assert first["msp"].max() == first["msp"].min()
    lowest = first[first["t"] == 120]
    assert lowest["logit_l1_local"].tolist() == lowest["logit_l1_global"].tolist()
    distances = guided[["logit_l1_global", "logit_l1_local"]].to_numpy()
    assert distances.min() > 0
    assert distances.max() <= 2 * 2**0.5


def test_guidance_and_labels_change_the_reconstructions(
    guided: pd.DataFrame, data: Path, runs: Path
) -> None:
    plain = score(data, runs, "plain", *LEVELS)
    zero = score(data, runs, "zero", *LEVELS, "--labels=pred", "--guidance=0")
    true = score(data, runs, "true", *LEVELS, "--labels=true", "--guidance=2")
    for one, other in ((plain, guided), (plain, zero), (zero, guided)):
        assert (one["mse"] - other["mse"]).abs().max() > 1e-6
    assert (plain["energy"] - guided["energy"]).abs().max() == 0
    # the classifier is right about these images, so that both kinds of labels agree
    pd.testing.assert_series_equal(true["mse"], guided["mse"], rtol=1e-5)


def test_batches_of_any_size_give_the_same_table(
    guided: pd.DataFrame, data: Path, runs: Path
) -> None:
    """Seven images in batches of six: the last one is of one image."""
    other = score(data, runs, "batches", *LEVELS, *GUIDED, "--batch_size=6", "--max_batch=5")
    pd.testing.assert_frame_equal(other, guided, check_exact=False, rtol=1e-5, atol=1e-5)


def test_two_processes_give_the_table_of_one(
    guided: pd.DataFrame, data: Path, runs: Path, launch: Launch
) -> None:
    flags = [*scoring_flags(data, runs, "two"), *LEVELS, *GUIDED, "--run_val=0", "--run_out=0"]
    for done in launch(__file__, *flags, processes=2):
        assert done.returncode == 0, done.stderr
    found = pd.read_csv(runs / "two" / "ood" / "results_in.csv")
    pd.testing.assert_frame_equal(found, guided, check_exact=False, rtol=1e-5, atol=1e-5)


def test_a_model_with_classes_also_serves_the_first_system(data: Path, runs: Path) -> None:
    found = score(data, runs, "first", "--scores=mse", "--num_inference_steps=4")
    assert list(found) == ["filename", "type", "t", "mse"]
    assert found["t"].tolist() == [250, 500, 750, 999] * 7


def test_the_report_has_every_score_and_every_level(
    guided: pd.DataFrame, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--output_dir={runs}", "--model_name=guided", "--n_bootstrap=0"]
    ood_detection.main([*flags, "--headline=logit_l1_global@240"])
    assert "logit_l1_global@240 (headline)" in capsys.readouterr().out
    found = json.loads((runs / "guided" / "ood" / "metrics.json").read_text())
    levels = [f"{s}_l1_{k}@{t}" for s in ("logit", "feature") for k in ("global", "local")
              for t in (120, 240, 360)]  # fmt: skip
    averages = ["mse", "msp", "maxlogit", "energy"]
    averages += [f"{s}_l1_{k}" for s in ("logit", "feature") for k in ("global", "local")]
    assert found["targets"].keys() == {*levels, *averages}
    with_z = found["targets"]
    ood_detection.main([*flags, "--z_score=0"])
    found = json.loads((runs / "guided" / "ood" / "metrics.json").read_text())
    # at one level, and of one image, z-scoring moves nothing; averaged over levels it may
    same = [*levels, "msp", "maxlogit", "energy"]
    assert {name: with_z[name] for name in same} == {n: found["targets"][n] for n in same}


def sampling_flags(data: Path, runs: Path, folder: Path) -> list[str]:
    return [
        *(f"--output_dir={runs}", "--model_name=model", f"--image_path={folder}"),
        *("--num_samples=11", "--num_inference_steps=3", "--guidance=1", "--max_batch=6"),
        *("--format=npy", f"--reference_ids={data / 'train.csv'}"),
        f"--classifier_checkpoint={runs / 'classifier' / 'checkpoint_best.pth'}",
        *MACHINE,
    ]


def test_samples_are_of_each_class_in_turn_and_measured_by_the_classifier(
    data: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = sampling_flags(data, runs, tmp_path)
    sample.main(flags)
    said = capsys.readouterr().out
    made = torch.from_numpy(np.load(tmp_path / "samples.npy"))
    network, _ = load_classifier(runs / "classifier" / "checkpoint_best.pth")
    real = torch.stack(
        [
            torch.from_numpy(np.asarray(Image.open(data / "train" / f"{i}.png")) / 255)
            for i in range(SIZES["train"])
        ]
    )[:, None].float()
    with torch.inference_mode():
        logits, features = network(made)
        of_real = network(real)[1]
    right = (logits.argmax(1) == torch.arange(11) % 2).float().mean().item()
    assert f"the classifier sees the class asked for in {100 * right:.1f} %" in said
    expected = frechet_distance(*(moments(part.numpy()) for part in (features, of_real)))
    found = float(said.split("against 48 images: ")[1].split()[0])
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    sample.main(flags)  # with the real images' moments as they were kept
    assert f": {found:.4f} (not the FID" in capsys.readouterr().out
    sample.main([*flags, "--classes=down"])
    other = np.load(tmp_path / "samples.npy")
    assert abs(other[1::2] - made.numpy()[1::2]).max() < 1e-6
    assert abs(other[::2] - made.numpy()[::2]).max() > 1e-3


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--scores=logits"], "--scores.*'logits'.*mse, .*perceptual"),
        (["--levels=0"], "`levels`.* 0"),
        (["--levels=120", "--budget=5"], "`budget`.*`levels`"),
        (["--guidance=2"], "`guidance`.*`labels`"),
        (["--methods=diffood", "--budget=5"], "`budget`.*`methods` diffood"),
        (["--labels=true", "--guidance=-1"], "`guidance`.* -1"),
        (["--repeats=0"], "`repeats`.* 0"),
        (["--classifier_checkpoint=none.pth"], r"none\.pth"),
    ],
)
def test_a_mistake_is_named(flags: list[str], named: str, data: Path, runs: Path) -> None:
    with pytest.raises(UserError, match=named):
        score(data, runs, "wrong", "--scores=mse", *flags)


def test_true_labels_that_are_missing_are_said_before_anything_is_scored(
    data: Path, runs: Path, tmp_path: Path
) -> None:
    path = data / "bare_test.csv"
    path.write_text("image\nnoise_test/0.png\n")
    with pytest.raises(UserError, match=r"bare_test\.csv: "):
        score(data, runs, "bare", "--scores=mse", "--labels=true", f"--out_ids={path}")
    assert not (runs / "bare").exists()


def test_a_diffusion_checkpoint_is_no_classifier(data: Path, runs: Path) -> None:
    wrong = f"--classifier_checkpoint={runs / 'model' / 'checkpoint.pth'}"
    with pytest.raises(UserError, match=r"checkpoint\.pth: .*ClassifierOptions"):
        score(data, runs, "wrong", "--scores=msp", wrong)


def test_predicted_labels_need_a_classifier_and_a_model_with_classes(
    data: Path, runs: Path, trained: Path
) -> None:
    unconditional = f"--eval_checkpoint={trained / 'checkpoint.pth'}"
    with pytest.raises(UserError, match="`labels`"):
        score(data, runs, "wrong", "--scores=mse", unconditional, "--labels=pred")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--num_classes=3", "`num_classes`"),
        ("--training_ids={noise}", r"unlabelled\.csv"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_training(
    flag: str, named: str, data: Path, tmp_path: Path
) -> None:
    unlabelled = data / "unlabelled.csv"
    unlabelled.write_text("image\ntrain/0.png\ntrain/1.png\n")
    flag = flag.format(noise=unlabelled)
    for main in (train_ddpm.main, train_classifier.main):
        with pytest.raises(UserError, match=named):
            main([*training_flags(data, tmp_path / "run"), flag])
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    if sys.argv[-1] == TRAINING:
        train_classifier.main(sys.argv[1:-1])
    else:
        reconstruct.main(sys.argv[1:])
