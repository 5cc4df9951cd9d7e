"""Scoring from the command line: the numbers, what they do not depend on, and every flag."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands import reconstruct
from diffusion_ood.detection.table_writer import TableWriter
from diffusion_ood.errors import UserError
from diffusion_ood.methods.scores import chosen
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.weights import load_weights
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.runtime.files import sha256
from diffusion_ood.trajectories.noise import image_noise

Command = Callable[..., Path]

STARTS = [250, 500, 750, 999]
IN_ALONE = ["--run_val=0", "--run_out=0"]
PROCESSES_DIE_AFTER = "DIE_AFTER"  # so many batches, by an environment variable


def table(ood: Path, name: str = "in") -> pd.DataFrame:
    return pd.read_csv(ood / f"results_{name}.csv")


def mse(ood: Path, name: str = "in") -> pd.Series:
    """The MSE by filename and t."""
    return table(ood, name).set_index(["filename", "t"])["mse"]


def assert_same_scores(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same rows in the same order, with scores equal to 1e-5 of themselves."""
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-5, atol=1e-8)


@pytest.fixture(scope="module")
def reference(
    trained: Path,
    score_flags: Callable[[Path], list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The ood folder of all sets, scored at once with the defaults."""
    folder = tmp_path_factory.mktemp("reference") / "A"
    shutil.copytree(trained, folder, copy_function=os.link)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen, "find_alexnet_features", lambda path=None: None)
        reconstruct.main(score_flags(folder))
    return folder / "ood"


@pytest.fixture
def random_alexnet(
    score: Command, random_features: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of AlexNet's shapes in the place of the trained ones."""
    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: random_features)


def test_every_set_has_its_table_with_a_row_an_image_and_level(
    reference: Path, splits: Path
) -> None:
    for name, kind, csv in (
        ("val", "val", "A_val"),
        ("in", "in", "A_test"),
        ("B", "out", "B_test"),
    ):
        found = table(reference, name)
        images = pd.read_csv(splits / f"{csv}.csv")["image"]
        assert list(found.columns) == ["filename", "type", "t", "mse"]
        assert list(found["filename"]) == [image for image in images for _ in STARTS]
        assert list(found["t"]) == STARTS * len(images)
        assert set(found["type"]) == {kind}
        assert found["mse"].between(0, 1, inclusive="neither").all()
    assert not list(reference.glob("parts/*"))


def test_the_score_is_the_mse_of_ddim_worked_by_hand(
    score: Command, run_dir: Path, splits: Path
) -> None:
    found = mse(score(run_dir, "--sampler=ddim", *IN_ALONE))
    content = load_checkpoint(run_dir / "checkpoint_best.pth")
    model = Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8))
    load_weights(model.network.eval(), content["weights"])
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)
    key = "A_test/3.png"
    x_0 = torch.from_numpy(np.asarray(Image.open(splits / key)) / 255.0).float()[None, None]
    for start, times in ((250, [250, 0]), (999, [999, 750, 500, 250, 0])):
        noise = image_noise((1, 8, 8), 2, key, start)[None]
        x = alpha_bar[start].sqrt() * x_0 + (1 - alpha_bar[start]).sqrt() * noise
        for t, s in itertools.pairwise(times):
            with torch.no_grad():
                eps = model.network(x.float(), torch.tensor([t]))
            clean = (x - (1 - alpha_bar[t]).sqrt() * eps) / alpha_bar[t].sqrt()
            x = alpha_bar[s].sqrt() * clean + (1 - alpha_bar[s]).sqrt() * eps
        expected = (x.clamp(0, 1) - x_0).square().mean().item()
        assert found[key, start] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "flags",
    [
        ["--batch_size=1", "--max_batch=1"],
        ["--batch_size=4", "--max_batch=3"],
        ["--cache_data=0", "--batch_size=5"],
    ],
)
@pytest.mark.parametrize("sampler", ["plms", "ddim"])
def test_a_score_does_not_depend_on_the_batch_an_image_is_in(
    flags: list[str], sampler: str, score: Command, run_dir: Path
) -> None:
    flag = f"--sampler={sampler}"
    together = table(score(run_dir, flag, *IN_ALONE))
    (run_dir / "ood").rename(run_dir / "together")
    assert_same_scores(table(score(run_dir, flag, *IN_ALONE, *flags)), together)


def test_a_score_does_not_depend_on_the_order_of_the_split(
    score: Command, run_dir: Path, reference: Path, own_splits: Path
) -> None:
    header, *rows = (own_splits / "A_test.csv").read_text().splitlines()
    (own_splits / "A_test.csv").write_text("\n".join([header, *reversed(rows)]))
    found = table(score(run_dir, *IN_ALONE, f"--in_ids={own_splits / 'A_test.csv'}"))
    assert list(found["filename"].unique()) == rows[::-1]
    by_key = ["filename", "t"]
    assert_same_scores(
        found.sort_values(by_key, ignore_index=True),
        table(reference).sort_values(by_key, ignore_index=True),
    )


@pytest.mark.usefixtures("random_alexnet")
def test_with_alexnets_weights_there_is_a_second_score_that_needs_no_batch_either(
    score_flags: Callable[[Path], list[str]], run_dir: Path, reference: Path
) -> None:
    flags = [*score_flags(run_dir), *IN_ALONE, "--first_n=3"]
    reconstruct.main(flags)
    found = table(run_dir / "ood")
    assert list(found.columns) == ["filename", "type", "t", "mse", "perceptual_difference"]
    assert_same_scores(found.drop(columns="perceptual_difference"), table(reference)[: len(found)])
    assert (found["perceptual_difference"] > 0).all()
    (run_dir / "ood").rename(run_dir / "together")
    reconstruct.main([*flags, "--batch_size=1", "--max_batch=1"])
    assert_same_scores(table(run_dir / "ood"), found)


def test_a_killed_run_goes_on_without_loss_or_double(
    score: Command,
    score_flags: Callable[[Path], list[str]],
    run_dir: Path,
    reference: Path,
    launch: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(PROCESSES_DIE_AFTER, "5")  # three of val, two of in
    (killed,) = launch(__file__, *score_flags(run_dir), "--batch_size=2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    part = run_dir / "ood" / "parts" / "results_in.0.csv"
    assert len(pd.read_csv(part)) == 4 * len(STARTS)
    with part.open("a") as file:
        file.write("A_test/5.png,in,25")  # what a kill in the middle of a write leaves
    score(run_dir, "--batch_size=2")
    assert "in: 4 of 6 images were done" in capsys.readouterr().out
    for name in ("val", "in", "B"):
        assert_same_scores(table(run_dir / "ood", name), table(reference, name))
    assert not list((run_dir / "ood").glob("parts/*"))


def test_two_processes_make_the_table_of_one(
    score_flags: Callable[[Path], list[str]],
    run_dir: Path,
    reference: Path,
    launch: Any,
) -> None:
    for done in launch(__file__, *score_flags(run_dir), "--batch_size=2", processes=2):
        assert done.returncode == 0, done.stderr
    for name in ("val", "in", "B"):
        assert_same_scores(table(run_dir / "ood", name), table(reference, name))
    assert not list((run_dir / "ood").glob("parts/*"))


def test_a_finished_table_is_left_as_it_is(score: Command, run_dir: Path) -> None:
    ood = score(run_dir, *IN_ALONE)
    before = (ood / "results_in.csv").read_bytes()
    score(run_dir, *IN_ALONE)
    assert (ood / "results_in.csv").read_bytes() == before


def test_more_images_join_those_that_are_done(
    score: Command, run_dir: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(table(score(run_dir, *IN_ALONE, "--first_n=2"))) == 2 * len(STARTS)
    capsys.readouterr()
    found = table(score(run_dir, *IN_ALONE))
    assert "in: 2 of 6 images were done" in capsys.readouterr().out
    assert_same_scores(found, table(reference))


@pytest.mark.parametrize(
    ("flags", "images"),
    [
        (["--first_n=2"], {"val": 6, "in": 2, "B": 2}),
        (["--first_n_val=3"], {"val": 3, "in": 6, "B": 5}),
        (["--drop_last", "--batch_size=4"], {"val": 4, "in": 4, "B": 4}),
        (["--run_val=0"], {"in": 6, "B": 5}),
        (["--no-run_in"], {"val": 6, "B": 5}),
        (["--run_out=False"], {"val": 6, "in": 6}),
    ],
)
def test_a_flag_chooses_the_sets_and_how_many_images(
    flags: list[str], images: dict[str, int], score: Command, run_dir: Path, reference: Path
) -> None:
    ood = score(run_dir, *flags)
    assert {path.stem[8:] for path in ood.glob("results_*.csv")} == images.keys()
    for name, num in images.items():
        assert_same_scores(table(ood, name), table(reference, name)[: num * len(STARTS)])


@pytest.mark.parametrize(
    ("flag", "starts"),
    [("--inference_skip_factor=2", [250, 750]), ("--inference_skip_factor=9", [250])],
)
def test_skipping_start_points_keeps_the_scores_of_the_others(
    flag: str, starts: list[int], score: Command, run_dir: Path, reference: Path
) -> None:
    found, everywhere = table(score(run_dir, flag, *IN_ALONE)), table(reference)
    expected = everywhere[everywhere["t"].isin(starts)].reset_index(drop=True)
    assert_same_scores(found, expected)


def test_the_number_of_steps_sets_the_grid(score: Command, run_dir: Path) -> None:
    found = table(score(run_dir, "--num_inference_steps=10", "--first_n=1", *IN_ALONE))
    assert list(found["t"]) == [*range(100, 1000, 100), 999]


def test_the_samplers_agree_on_one_step_and_on_no_more(
    score: Command, run_dir: Path, reference: Path
) -> None:
    ratio = mse(score(run_dir, "--sampler=ddim", *IN_ALONE)) / mse(reference)
    np.testing.assert_allclose(ratio.xs(250, level="t"), 1, rtol=1e-5)
    for t in STARTS[1:]:
        assert (ratio.xs(t, level="t") - 1).abs().max() > 1e-3


def test_another_seed_is_other_noise(score: Command, run_dir: Path, reference: Path) -> None:
    found = mse(score(run_dir, "--seed=3", *IN_ALONE))
    assert (found / mse(reference) - 1).abs().min() > 1e-5


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--seed=3", "seed.* 2.* 3"),
        ("--sampler=ddim", "sampler.* 'plms'.* 'ddim'"),
        ("--num_inference_steps=5", "num_inference_steps.* 4.* 5"),
        ("--eval_checkpoint=checkpoint_1", "checkpoint '"),
    ],
)
def test_an_existing_table_takes_no_scores_of_another_kind(
    flag: str, named: str, score: Command, run_dir: Path
) -> None:
    before = (score(run_dir, *IN_ALONE) / "results_in.csv").read_bytes()
    flag = flag.replace("checkpoint_1", str(run_dir / "checkpoint_1.pth"))
    with pytest.raises(UserError, match=rf"results_in\.json: .*{named}"):
        score(run_dir, flag, *IN_ALONE)
    assert (run_dir / "ood" / "results_in.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("flag", "file"),
    [
        ("--eval_checkpoint=best", "checkpoint_best.pth"),
        ("--eval_checkpoint=last", "checkpoint.pth"),
        ("--eval_checkpoint={}/checkpoint_2.pth", "checkpoint_2.pth"),
        ("--ddpm_checkpoint_epoch=3", "checkpoint_3.pth"),
    ],
)
def test_the_checkpoint_asked_for_is_the_one_that_scores(
    flag: str, file: str, score: Command, run_dir: Path, train: Command
) -> None:
    train(run_dir, "--n_epochs=11", "--lr=3e-3", "--eval_freq=100")  # best stays epoch 10's or 11's
    ood = score(run_dir, flag.format(run_dir), "--first_n=1", *IN_ALONE)
    companion = json.loads((ood / "results_in.json").read_text())
    assert companion["fingerprint"]["checkpoint"] == sha256(run_dir / file)


def test_a_model_that_learnt_more_is_less_off_at_a_low_level(
    score: Command, run_dir: Path, reference: Path
) -> None:
    early = mse(score(run_dir, "--ddpm_checkpoint_epoch=1", *IN_ALONE)).xs(250, level="t")
    assert early.mean() > 1.5 * mse(reference).xs(250, level="t").mean()


def test_the_sheet_shows_each_image_and_its_reconstructions(
    score: Command, run_dir: Path, splits: Path
) -> None:
    found = score(run_dir, "--save_images=2", *IN_ALONE) / "reconstructions_in.png"
    sheet = np.asarray(Image.open(found))[:, :, 0].astype(float)
    assert sheet.shape == (1 + 2 * 9, 1 + 5 * 9)
    for row in range(2):
        cells = [sheet[1 + 9 * row : 9 + 9 * row, 1 + 9 * k : 9 + 9 * k] for k in range(5)]
        image = np.asarray(Image.open(splits / f"A_test/{row}.png"))
        np.testing.assert_allclose(cells[0], image, atol=1)
        errors = [np.mean(((cell - image) / 255) ** 2) for cell in cells[1:]]
        np.testing.assert_allclose(errors, table(run_dir / "ood")["mse"][4 * row :][:4], rtol=0.05)


def test_no_sheet_is_made_unasked(reference: Path) -> None:
    assert not list(reference.glob("*.png"))


@pytest.mark.parametrize(
    ("direction", "axis"), [("vflip", Image.FLIP_TOP_BOTTOM), ("hflip", Image.FLIP_LEFT_RIGHT)]
)
def test_a_flipped_set_scores_as_if_its_files_were_flipped(
    direction: str, axis: Any, score: Command, run_dir: Path, splits: Path, own_splits: Path
) -> None:
    flags = ["--run_val=0", "--run_in=0", "--first_n=3"]
    named = mse(
        score(run_dir, *flags, f"--out_ids={splits}/B_{direction}_test.csv"), f"B_{direction}"
    )
    for path in (own_splits / "B_test").iterdir():
        Image.open(path).transpose(axis).save(path)
    saved = mse(score(run_dir, *flags, f"--out_ids={own_splits}/B_test.csv"), "B")
    np.testing.assert_allclose(named, saved, rtol=1e-5)
    assert (named.index == saved.index).all()


def test_the_companion_says_what_the_scores_depend_on(reference: Path, splits: Path) -> None:
    companion = json.loads((reference / "results_in.json").read_text())
    assert companion["fingerprint"]["starts"] == STARTS
    assert companion["fingerprint"]["scores"] == ["mse"]
    assert companion["facts"].pop("intensity")["stored"].keys() == {"uint8"}
    assert companion["facts"].pop("training_intensity")["stored"].keys() == {"uint8"}
    assert companion["facts"] == {
        "split": str(splits / "A_test.csv"),
        "flip": None,
        "skipped": 0,
        "native_size": [[8, 8]],
        "calls_per_image": 1 + 2 + 3 + 4,
        "calls_together": 0,
        "directed": True,
        "trained_on": 0,
        "table": hashlib.sha256((reference / "results_in.csv").read_bytes()).hexdigest(),
    }


def test_without_alexnets_weights_it_says_that_mse_stands_alone(
    score: Command, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(run_dir, "--first_n=1", *IN_ALONE)
    assert "LPIPS is left out" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"hello\n", b"not weights"])
def test_a_wrong_file_of_weights_ends_as_one_line_and_exit_code_2(
    content: bytes | None,
    score_flags: Callable[[Path], list[str]],
    run_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = run_dir / "alexnet.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as leaving:
        cli.run(lambda: reconstruct.main([*score_flags(run_dir), f"--lpips_weights={path}"]))
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --lpips_weights: {path}: ")
    assert error.count("\n") == 1
    assert not (run_dir / "ood").exists()


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--prediction_type=sample", "`prediction_type`.* sample.* epsilon"),
        ("--is_grayscale=0", "`is_grayscale`.* False.* True"),
        ("--in_ids=none.csv", r"none\.csv"),
        ("--out_ids=", "`out_ids`"),
        ("--num_inference_steps=1001", "`num_inference_steps`.* 1001.* 1000"),
        ("--eval_checkpoint=none.pth", r"none\.pth"),
        ("--ddpm_checkpoint_epoch=99", r"checkpoint_99\.pth"),
        ("--batch_size=7 --drop_last", "`drop_last`"),
        ("--device=banana", "`device`.* 'banana'"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(
    flag: str, named: str, score: Command, run_dir: Path
) -> None:
    with pytest.raises(UserError, match=named):
        score(run_dir, *flag.split())
    assert not (run_dir / "ood").exists()


def test_flags_that_agree_with_the_checkpoint_are_allowed(
    score: Command, run_dir: Path, reference: Path
) -> None:
    flags = ["--is_grayscale=1", "--beta_schedule=linear_beta", "--model_type=tiny"]
    assert_same_scores(table(score(run_dir, *flags, *IN_ALONE)), table(reference))


def without(flags: list[str], *options: str) -> list[str]:
    """The flags but for those of these options."""
    return [flag for flag in flags if flag.split("=")[0].removeprefix("--") not in options]


@pytest.mark.parametrize(
    ("missing", "more"),
    [
        ("validation_ids", []),
        ("in_ids", ["--run_in=1"]),
        ("out_ids", ["--run_out"]),
        ("out_ids", ["--run_out=1", "--out_ids="]),
    ],
)
def test_a_split_that_is_missing_is_asked_for(
    missing: str, more: list[str], score_flags: Callable[[Path], list[str]], run_dir: Path
) -> None:
    with pytest.raises(UserError, match=f"`{missing}`"):
        reconstruct.main([*without(score_flags(run_dir), missing), *more])
    assert not (run_dir / "ood").exists()


@pytest.mark.parametrize(
    ("missing", "more", "sets"),
    [
        (["out_ids"], [], {"val", "in"}),
        (["in_ids"], [], {"val", "B"}),
        (["in_ids", "out_ids"], [], {"val"}),
        (["in_ids", "validation_ids"], ["--run_val=0"], {"B"}),
    ],
)
@pytest.mark.usefixtures("score")
def test_sets_that_are_not_given_are_not_scored_and_named(
    missing: list[str],
    more: list[str],
    sets: set[str],
    score_flags: Callable[[Path], list[str]],
    run_dir: Path,
    reference: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reconstruct.main([*without(score_flags(run_dir), *missing), *more])
    tables = {path.stem: path.read_bytes() for path in (run_dir / "ood").glob("results_*.csv")}
    assert tables == {f"results_{n}": (reference / f"results_{n}.csv").read_bytes() for n in sets}
    printed = capsys.readouterr().out
    for option in ("in_ids", "out_ids"):
        assert printed.count(f"(--{option})") == (option in missing)


@pytest.mark.usefixtures("score")
def test_what_is_switched_off_needs_no_words(
    score_flags: Callable[[Path], list[str]], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = without(score_flags(run_dir), "in_ids", "out_ids")
    reconstruct.main([*flags, "--out_ids=", "--run_in=0", "--run_out=0", "--first_n_val=1"])
    assert "_ids)" not in capsys.readouterr().out
    with pytest.raises(UserError, match="`in_ids`, `out_ids`"):
        reconstruct.main([*flags, "--run_val=0"])


def test_two_ood_sets_of_one_name_are_refused(
    score: Command, run_dir: Path, splits: Path, own_splits: Path
) -> None:
    with pytest.raises(UserError, match="B_test"):
        score(run_dir, f"--out_ids={splits}/B_test.csv,{own_splits}/B_test.csv")


@pytest.mark.parametrize("flags", [[], ["--run_val=0", "--run_in=0"]])
@pytest.mark.parametrize("name", ["val", "in"])
def test_an_ood_set_cannot_take_the_name_of_another_table(
    name: str, flags: list[str], score: Command, run_dir: Path, own_splits: Path
) -> None:
    (own_splits / "B_test.csv").rename(own_splits / f"{name}.csv")
    with pytest.raises(UserError, match="`out_ids`"):
        score(run_dir, f"--out_ids={own_splits}/{name}.csv", *flags)


def test_images_of_another_size_are_refused(
    score: Command, run_dir: Path, own_splits: Path
) -> None:
    for path in (own_splits / "B_test").iterdir():
        Image.open(path).resize((16, 16)).save(path)
    with pytest.raises(UserError, match=r"B_test\.csv: .*16.*8"):
        score(run_dir, f"--out_ids={own_splits}/B_test.csv")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_moves_scores_a_little_and_its_tables_are_kept_apart(
    precision: str, score: Command, run_dir: Path, reference: Path
) -> None:
    ood = score(run_dir, *IN_ALONE, f"--precision={precision}")
    difference = (mse(ood) / mse(reference) - 1).abs().max()
    assert 1e-5 < difference < 0.05
    assert json.loads((ood / "results_in.json").read_text())["fingerprint"]["precision"] == (
        precision
    )
    with pytest.raises(UserError, match=r"results_in\.json: .*precision"):
        score(run_dir, *IN_ALONE)


def die_after(batches: int) -> None:
    """Let this process kill itself when so many batches are on disk."""
    append, left = TableWriter.append, iter(range(batches - 1, -1, -1))

    def counted(self: TableWriter, rows: pd.DataFrame) -> None:
        append(self, rows)
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    TableWriter.append = counted  # type: ignore[method-assign] # in a process of its own


if __name__ == "__main__":
    chosen.find_alexnet_features = lambda path=None: None
    if PROCESSES_DIE_AFTER in os.environ:
        die_after(int(os.environ[PROCESSES_DIE_AFTER]))
    reconstruct.main(sys.argv[1:])
