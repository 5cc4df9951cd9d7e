"""Impossible flags, and sets that may not be compared: one sentence, exit code 2, no work done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diffusion_ood import cli
from diffusion_ood.commands import (
    get_datasets,
    interpolate,
    ood_detection,
    reconstruct,
    sample,
    train_classifier,
    train_ddpm,
)
from diffusion_ood.errors import UserError

SCORE = {  # the flag itself or the file, and the values that the sentence names
    "--inference_skip_factor=0": "--inference_skip_factor: .*0",
    "--num_inference_steps=0": "--num_inference_steps: .*0",
    "--num_inference_steps=2000": "--num_inference_steps: .*2000.*1000",
    "--batch_size=-1": "--batch_size: .*-1",
    "--batch_size=1e3": "--batch_size: .*'1e3'",
    "--first_n=-3": "--first_n: .*-3",
    "--max_batch=0": "--max_batch: .*0",
    "--repeats=0": "--repeats: .*0",
    "--save_images=-1": "--save_images: .*-1",
    "--budget=5000": "--budget: .*5000.*1 to 475",
    "--levels=5000": "--levels: .*5000.*0 to 999",
    "--guidance=nan": "--guidance: .*nan",
    "--image_size=0": "--image_size: .*0",
    "--image_size=100000": "--image_size: .*100000.*10000",
    "--image_roi=0,0": r"--image_roi: .*\(0, 0\)",
    "--intensity_range=-inf,inf": r"--intensity_range: .*\(-inf, inf\)",
    "--num_workers=-1": "--num_workers: .*-1",
    "--seed=99999999999999999999": "--seed: .*99999999999999999999.*4611686018427387904",
    "--sampler=euler": "--sampler: .*'euler'",
    "--precision=fp8": "--precision: .*'fp8'",
    "--scores=psnr": "--scores: .*'psnr'.*mse",
    "--on_error=ignore": "--on_error: .*'ignore'",
    "--no_such_flag=1": "--no_such_flag=1",
    "--device=cuda:77": "--device: .*'cuda:77'",
    "--device=abacus": "--device: .*'abacus'",
    "--model_name=../elsewhere": r"--model_name: .*'\.\./elsewhere'",
    "--eval_checkpoint=/none.pth": "/none.pth: ",
    "--ddpm_checkpoint_epoch=77": "checkpoint_77.pth: ",
    "--repeats=100000000000": "--repeats: .*100000000000.*1000",
    "--batch_size=100000000000": "--batch_size: .*100000000000.*1000000",
    "--max_batch=100000000000": "--max_batch: .*100000000000.*1000000",
    "--num_workers=100000000000": "--num_workers: .*100000000000.*1000",
    "--budget=10000000000000 --budget_steps=100000000000": "--budget_steps: .*100000000000.*1000",
    "--in_ids=/none.csv": "/none.csv: ",
}
TRAIN = {
    "--lr=nan": "--lr: .*nan",
    "--lr=inf": "--lr: .*inf",
    "--n_epochs=0": "--n_epochs: .*0",
    "--ema_decay=1": "--ema_decay: .*1",
    "--max_train_t=5000": "--max_train_t: .*5000.*1000",
    "--beta_start=2": "--beta_start, --beta_end: .*2",
    "--num_classes=3": "A_train.csv: .*labels",
    "--spatial_dimension=4": "--spatial_dimension: .*4",
    "--spatial_dimension=3": "A_train.csv, row 2: .*nii",
    "--validation_ids=/none.csv": "/none.csv: ",
    "--num_classes=100000000000": "A_train.csv: .*labels",
    "--num_workers=100000000000": "--num_workers: .*100000000000.*1000",
    "--image_size=3": "3 × 3 pixels",
}
DETECT = {
    "--target_fpr=2": "--target_fpr: .*2",
    "--t_skip=0": "--t_skip: .*0",
    "--n_bootstrap=-1": "--n_bootstrap: .*-1",
    "--n_bootstrap=100000000000": "--n_bootstrap: .*100000000000.*100000",
    "--seed=-1": "--seed: .*-1",
    "--out_data=nope": "results_val.csv: ",
}
PREPARE = {
    "--datasets=Nope": "--datasets: .*Nope.*MNIST",
    "--num_workers=-1": "--num_workers: .*-1",
    "--num_workers=100000000000": "--num_workers: .*100000000000.*1000",
    "--image_folder=/none": "--image_folder, --name: ",
    "--test_fraction=7": "--test_fraction: .*7",
}

CLASSIFY = {
    "--num_classes=1": "--num_classes: .*1",
    "--num_classes=100000000000": "A_train.csv: .*--num_classes 100000000000",
    "--batch_size=1": "--batch_size: .*1.*12",
    "--lr=1e300": r"--lr: .*1e\+300.*1e\+38",
    "--weight_decay=1e300": r"--weight_decay: .*1e\+300.*1e\+38",
    "--crop_padding=100000000000": "--crop_padding: .*100000000000.*8",
}
DRAW = {
    "--num_samples=100000000000": "--num_samples: .*100000000000.*1000000",
    "--max_batch=100000000000": "--max_batch: .*100000000000.*1000000",
    "--num_inference_steps=100000000000": "--num_inference_steps: .*100000000000.*1000",
}
INTERPOLATE = {
    "--num_pairs=100000000000": "A_test.csv: .*6 images.*200000000000 .*--num_pairs",
    "--max_batch=100000000000": "--max_batch: .*100000000000.*1000000",
    "--num_inference_steps=100000000000": "--num_inference_steps: .*100000000000.*1000",
}


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refusal(main, argv)` is the one line on stderr of a run that ends with 2."""

    def run(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.run(lambda: main(argv))
        error = capsys.readouterr().err
        assert left.value.code == cli.USER_ERROR_EXIT_CODE, error
        (line,) = error.splitlines()
        return line

    return run


@pytest.mark.parametrize("flag", SCORE)
def test_reconstruct(
    flag: str,
    refusal: Callable[..., str],
    run_dir: Path,
    score_flags: Callable[[Path], list[str]],
) -> None:
    argv = [*score_flags(run_dir), "--scores=mse", *flag.split()]
    if flag.startswith(("--budget", "--levels")):
        argv = [word for word in argv if not word.startswith("--num_inference_steps")]
    assert re.search(f"error: .*{SCORE[flag]}", refusal(reconstruct.main, argv))
    assert not (run_dir / "ood").exists()


@pytest.mark.parametrize("flag", TRAIN)
def test_train(
    flag: str,
    refusal: Callable[..., str],
    tmp_path: Path,
    splits: Path,
    train_flags: Callable[[Path, Path], list[str]],
) -> None:
    argv = [*train_flags(tmp_path / "runs" / "A", splits), flag]
    assert re.search(f"error: .*{TRAIN[flag]}", refusal(train_ddpm.main, argv))
    assert not list((tmp_path / "runs").rglob("*.pth"))


@pytest.mark.parametrize("flag", CLASSIFY)
def test_classify(
    flag: str,
    refusal: Callable[..., str],
    tmp_path: Path,
    training: Callable[..., list[str]],
) -> None:
    _, *argv = training("train_classifier", tmp_path / "runs" / "A", flag)
    assert re.search(f"error: .*{CLASSIFY[flag]}", refusal(train_classifier.main, argv))
    assert not list((tmp_path / "runs").rglob("*.pth"))


@pytest.mark.parametrize("flag", DRAW)
def test_draw(flag: str, refusal: Callable[..., str], run_dir: Path) -> None:
    argv = [f"--output_dir={run_dir.parent}", "--model_name=A", "--device=cpu", flag]
    assert re.search(f"error: .*{DRAW[flag]}", refusal(sample.main, argv))
    assert not (run_dir / "samples").exists()


@pytest.mark.parametrize("flag", INTERPOLATE)
def test_interpolate(
    flag: str, refusal: Callable[..., str], run_dir: Path, splits: Path, tmp_path: Path
) -> None:
    argv = [f"--checkpoint={run_dir / 'checkpoint.pth'}", f"--image_ids={splits / 'A_test.csv'}"]
    argv += [f"--image_path={tmp_path / 'pictures'}", "--device=cpu", "--num_workers=0"]
    argv += ["--num_pairs=3", flag]
    assert re.search(f"error: .*{INTERPOLATE[flag]}", refusal(interpolate.main, argv))
    assert not (tmp_path / "pictures").exists()


def test_more_memory_than_there_is_is_one_sentence_and_the_machines_code(
    nursery: Any, training: Callable[..., list[str]], tmp_path: Path
) -> None:
    """What an image size needs is known only as it is computed."""
    flags = training("train_ddpm", tmp_path / "A", "--image_size=1024", "--quick_test")
    job = nursery.start(*flags, MEMORY="700")
    assert job.wait() == cli.MACHINE_ERROR_EXIT_CODE
    (sentence,) = [line for line in job.text.splitlines() if line.startswith("error: ")]
    assert "memory" in sentence
    assert "Traceback" not in job.text
    assert not list((tmp_path / "A").glob("*.pth"))


@pytest.mark.parametrize("flag", DETECT)
def test_detect(flag: str, refusal: Callable[..., str], run_dir: Path) -> None:
    argv = [f"--output_dir={run_dir.parent}", "--model_name=A", flag]
    assert re.search(f"error: .*{DETECT[flag]}", refusal(ood_detection.main, argv))
    assert not (run_dir / "ood").exists()


@pytest.mark.parametrize("flag", PREPARE)
def test_prepare(flag: str, refusal: Callable[..., str], tmp_path: Path) -> None:
    argv = [f"--data_root={tmp_path / 'data'}", flag]
    assert re.search(f"error: .*{PREPARE[flag]}", refusal(get_datasets.main, argv))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
@pytest.mark.parametrize(("flag", "names"), [("out_ids", "in and B"), ("in_ids", "val and in")])
def test_an_image_in_two_sets_that_are_compared_is_refused_before_any_work(
    link: str,
    flag: str,
    names: str,
    refusal: Callable[..., str],
    run_dir: Path,
    own_splits: Path,
    score_flags: Callable[[Path], list[str]],
) -> None:
    other, name = ("A_test", "B_test") if flag == "out_ids" else ("A_val", "A_test")
    same = own_splits / name / "again.png"
    if link == "symbolic":
        same.symlink_to(own_splits / other / "3.png")
    elif link:
        same.hardlink_to(own_splits / other / "3.png")
    image = f"{name}/again.png" if link else f"./{other}/3.png"
    (own_splits / f"{name}.csv").write_text(f"image\n{name}/0.png\n{image}\n")
    argv = score_flags(run_dir)
    sets = {"validation_ids": "A_val", "in_ids": "A_test", "out_ids": "B_test"}
    argv += [f"--{option}={own_splits / f'{stem}.csv'}" for option, stem in sets.items()]
    line = refusal(reconstruct.main, argv)
    found = rf"{name}\.csv, row 3: .*{re.escape(image)}.*"
    assert re.search(rf"{found}{other}\.csv, row 5.*{names}", line)
    assert not (run_dir / "ood").exists()


def test_a_flipped_set_shares_its_files(
    score: Callable[..., Path], run_dir: Path, splits: Path
) -> None:
    flipped = f"--out_ids={splits / 'A_vflip_test.csv'}"
    ood = score(run_dir, flipped, "--run_val=0")
    assert (ood / "results_A_vflip.csv").exists()
    table = pd.read_csv(ood / "results_in.csv")
    table.assign(type="val").to_csv(ood / "results_val.csv", index=False)
    companion = json.loads((ood / "results_in.json").read_text())
    facts = {**companion["facts"], "split": "/elsewhere/A_val.csv"}
    (ood / "results_val.json").write_text(json.dumps({**companion, "facts": facts}))
    detect = [f"--output_dir={run_dir.parent}", "--model_name=A", "--n_bootstrap=0"]
    ood_detection.main(detect)
    companion = json.loads((ood / "results_A_vflip.json").read_text())
    companion["facts"]["flip"] = None  # as the same images, scored by a run of their own, have
    (ood / "results_A_vflip.json").write_text(json.dumps(companion))
    with pytest.raises(UserError, match=r"A_test/\d\.png.* in .*A_vflip"):
        ood_detection.main(detect)
