"""Faults that users of comparable programs met: what is scored, refused or said instead."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diffusion_ood import cli
from diffusion_ood.commands import get_datasets, ood_detection, reconstruct
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.resnet import Classifier, load_classifier
from diffusion_ood.options import ClassifierOptions
from diffusion_ood.options.stored import to_dict
from diffusion_ood.runtime import launch
from diffusion_ood.runtime.checkpoint import load_checkpoint

Command = Callable[..., Path]


def scored(run_dir: Path, data: Path, *flags: str) -> Path:
    """Score all sets of a folder of splits by MSE; returns the folder of tables."""
    reconstruct.main(
        [
            f"--output_dir={run_dir.parent}",
            f"--model_name={run_dir.name}",
            f"--validation_ids={data / 'A_val.csv'}",
            f"--in_ids={data / 'A_test.csv'}",
            f"--out_ids={data / 'B_test.csv'}",
            *("--num_inference_steps=4", "--scores=mse", "--device=cpu", "--compile=off"),
            *("--num_workers=0", "--report_images=0", *flags),
        ]
    )
    return run_dir / "ood"


def detected(run_dir: Path) -> dict[str, Any]:
    """The content of metrics.json."""
    argv = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    ood_detection.main(argv)
    found: dict[str, Any] = json.loads((run_dir / "ood" / "metrics.json").read_text())
    return found


def saved(path: Path, content: dict[str, Any]) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("packed", ["1", "0"])
def test_an_image_that_changed_under_its_name_is_scored_again_and_no_other(
    run_dir: Path, own_splits: Path, packed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--cache_data={packed}"]
    before = pd.read_csv(scored(run_dir, own_splits, *flags) / "results_in.csv")
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(own_splits / "A_test" / "2.png")
    capsys.readouterr()
    after = pd.read_csv(scored(run_dir, own_splits, *flags) / "results_in.csv")
    changed = (before["mse"] != after["mse"]).groupby(before["filename"]).any()
    assert list(changed[changed].index) == ["A_test/2.png"]
    printed = capsys.readouterr().out
    assert "in: 1 changed image" in printed
    assert "in: 5 of 6 images were done" in printed
    assert "B: 5 of 5 images were done" in printed
    assert pd.read_csv(scored(run_dir, own_splits, *flags) / "results_in.csv").equals(after)


def test_tables_of_before_contents_were_kept_are_not_scored_again(
    run_dir: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ood = scored(run_dir, own_splits)
    for path in ood.glob("contents_*.json"):
        path.unlink()
    capsys.readouterr()
    scored(run_dir, own_splits)
    assert "in: 6 of 6 images were done" in capsys.readouterr().out
    assert (ood / "contents_in.json").exists()


def test_another_training_set_under_one_name_is_refused(
    train: Command, tmp_path: Path, own_splits: Path
) -> None:
    run = train(tmp_path / "runs" / "A", data=own_splits)
    before = (run / "checkpoint.pth").read_bytes()
    image = own_splits / "A_train" / "3.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    with pytest.raises(UserError, match=r"checkpoint\.pth: .*12 images.*A_train\.csv.* 11"):
        train(run, data=own_splits)
    assert (run / "checkpoint.pth").read_bytes() == before


def test_training_images_that_test_are_refused_or_counted(
    train: Command, tmp_path: Path, own_splits: Path
) -> None:
    run = train(tmp_path / "runs" / "A", data=own_splits)
    training = read_split(own_splits / "A_train.csv").images
    with pytest.raises(UserError, match=r"A_train\.csv: .*12 images"):
        scored(run, own_splits, f"--in_ids={own_splits / 'A_train.csv'}")
    copy = own_splits / "copy.png"
    copy.write_bytes((own_splits / training[0]).read_bytes())
    tests = read_split(own_splits / "A_test.csv").images
    write_split(own_splits / "C_test.csv", ["copy.png", *tests])
    scored(run, own_splits, f"--in_ids={own_splits / 'C_test.csv'}")
    (sentence,) = (text for text in detected(run)["warnings"] if "trained on" in text)
    assert sentence.startswith("1 image of in ")


def test_a_copy_under_another_name_is_counted(run_dir: Path, own_splits: Path) -> None:
    for i in (1, 2):
        image = own_splits / "A_test" / f"{i}.png"
        (own_splits / "B_test" / f"{i}.png").write_bytes(image.read_bytes())
    scored(run_dir, own_splits)
    (sentence,) = (text for text in detected(run_dir)["warnings"] if "copies" in text)
    assert sentence.startswith("2 images of B ")
    scored(run_dir, own_splits, "--first_n=2", "--first_n_val=2")  # others are kept for later
    (sentence,) = (text for text in detected(run_dir)["warnings"] if "copies" in text)
    assert sentence.startswith("1 image of B ")
    (own_splits / "B_test" / "0.png").write_bytes((own_splits / "B_test" / "1.png").read_bytes())
    scored(run_dir, own_splits)
    found = [text for text in detected(run_dir)["warnings"] if "copies" in text]
    assert [text[:13] for text in found] == ["1 image of B ", "3 images of B"]


def test_a_table_in_the_wrong_role_is_refused(run_dir: Path, own_splits: Path) -> None:
    ood = scored(run_dir, own_splits)
    path = ood / "results_B.csv"
    path.write_text(path.read_text().replace(",out,", ",in,"))
    with pytest.raises(UserError, match=r"results_B\.csv: .*type in, expected out"):
        detected(run_dir)


def test_rows_that_the_original_sampler_doubled_count_once(run_dir: Path, own_splits: Path) -> None:
    ood = scored(run_dir, own_splits)
    expected = detected(run_dir)
    path = ood / "results_in.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1], lines[2]]))
    found = detected(run_dir)
    assert found["targets"] == expected["targets"]
    assert [text for text in found["warnings"] if "2 rows" in text]
    path.write_text("".join([*lines, lines[1].rsplit(",", 1)[0] + ",0.5\n"]))
    with pytest.raises(UserError, match=rf"results_in\.csv, row {len(lines) + 1}: "):
        detected(run_dir)


def test_sets_stored_in_other_types_are_doubted(run_dir: Path, own_splits: Path) -> None:
    for path in (own_splits / "B_test").glob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16)).save(path)
    scored(run_dir, own_splits)
    warnings = " ".join(detected(run_dir)["warnings"])
    assert "uint16" in warnings
    assert "uint8" in warnings


def test_checkpoints_that_do_not_fit_are_one_sentence(run_dir: Path, tmp_path: Path) -> None:
    content = torch.load(run_dir / "checkpoint_best.pth", weights_only=True)
    newer = {**content["options"]["DiffusionOptions"], "later": 1}
    first = next(iter(content["weights"]))
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "newer": ({"options": {**content["options"], "DiffusionOptions": newer}}, "later"),
        "no_options": ({"options": {}}, "DiffusionOptions"),
        "less": ({"weights": {k: v for k, v in content["weights"].items() if k != first}}, first),
        "other_format": ({"format": 2}, "format 2"),
    }
    for name, (changes, said) in wrong.items():
        path = saved(tmp_path / f"{name}.pth", {**content, **changes})
        with pytest.raises(UserError, match=rf"{name}\.pth: .*{said}"):
            Diffusion.load(path)
    options = content["options"]
    values = {
        "model_type": "huge",
        "beta_start": "a",
        "num_classes": None,
        "beta_schedule": "of_later",
    }
    for name, value in values.items():
        changed = {**options, "DiffusionOptions": {**options["DiffusionOptions"], name: value}}
        path = saved(tmp_path / f"{name}.pth", {**content, "options": changed})
        with pytest.raises(UserError, match=rf"{name}\.pth: .*{name}"):
            Diffusion.load(path)
    for weights in ([], {1: content["weights"][first]}, None):
        path = saved(tmp_path / "weights.pth", {**content, "weights": weights})
        with pytest.raises(UserError, match=r"weights\.pth: .*weights"):
            Diffusion.load(path)
    path = saved(tmp_path / "no_weights.pth", {k: v for k, v in content.items() if k != "weights"})
    with pytest.raises(UserError, match=r"no_weights\.pth: .*weights"):
        Diffusion.load(path)


def test_a_checkpoint_without_word_of_its_training_is_read(run_dir: Path, tmp_path: Path) -> None:
    content = torch.load(run_dir / "checkpoint_best.pth", weights_only=True)
    for training in (None, {}):
        path = saved(tmp_path / "old.pth", {**content, "training": training, "classes": None})
        assert Diffusion.load(path).trained_on(["0" * 32]) == 0


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_network_are_read(run_dir: Path, tmp_path: Path, prefix: str) -> None:
    content = torch.load(run_dir / "checkpoint_best.pth", weights_only=True)
    weights = {prefix + name: weight for name, weight in content["weights"].items()}
    found = Diffusion.load(saved(tmp_path / "w.pth", {**content, "weights": weights}))
    expected = Diffusion.load(run_dir / "checkpoint_best.pth")
    for own, other in zip(found.network.parameters(), expected.network.parameters(), strict=True):
        assert torch.equal(own, other)


def test_an_original_checkpoint_scores_by_its_own_weights(
    run_dir: Path, own_splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pd.read_csv(scored(run_dir, own_splits) / "results_in.csv")
    weights = load_checkpoint(run_dir / "checkpoint_best.pth")["weights"]
    ancestor = tmp_path / "runs" / "original"
    ancestor.mkdir()
    content = {"epoch": 3, "global_step": 9, "best_loss": 0.1, "optimizer_state_dict": {}}
    saved(ancestor / "checkpoint.pth", {**content, "model_state_dict": weights})
    found = pd.read_csv(
        scored(ancestor, own_splits, "--is_grayscale", "--model_type=tiny") / "results_in.csv"
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    assert "original ddpm-ood" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"original.checkpoint\.pth: .*small"):
        scored(ancestor, own_splits, "--is_grayscale")


def run_python(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "errors": "replace", "timeout": 120, **more}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], **options)


def test_a_stray_rank_is_one_sentence() -> None:
    code = (
        "from diffusion_ood import cli\n"
        "from diffusion_ood.runtime import distributed\n"
        "def main():\n"
        "    with distributed.process_group('cpu'): pass\n"
        "cli.run(main)\n"
    )
    found = run_python(code, env={**os.environ, "LOCAL_RANK": "0"})
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "LOCAL_RANK" in found.stderr
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-u", "-c", code],
        env={**os.environ, **alone, "MASTER_PORT": "29617"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        begin = time.monotonic()
        line = process.stdout.readline()
        waited = time.monotonic() - begin
        process.kill()
    assert "2 processes" in line
    assert waited < 60, "most of it imports torch"


MISTAKE = """
from diffusion_ood import cli
from diffusion_ood.commands import ood_detection
cli.run(lambda: ood_detection.main(["--nosuch"]))
"""
GROUP = {
    **{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"},
    "MASTER_PORT": "29618",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") for value in ("x", "-1")),
        *(("RANK", "1"), ("WORLD_SIZE", "0"), ("MASTER_PORT", "99999"), ("MASTER_PORT", "x")),
        *(("LOCAL_RANK", ""), ("MASTER_ADDR", ""), ("LOCAL_WORLD_SIZE", "x")),
    ],
)
def test_nonsense_in_the_environment_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, text in {**GROUP, name: value}.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=rf"\b{name}\b"):
        launch.is_launched()


def test_a_port_that_says_nothing_does_not_hold_a_mistake_back() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        code = (
            "from diffusion_ood.commands import ood_detection as d; from diffusion_ood import cli"
        )
        found = run_python(
            f"{code}; cli.run(lambda: d.main(['--nosuch']))",
            env={**os.environ, **GROUP, "MASTER_PORT": str(silent.getsockname()[1])},
        )
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert time.monotonic() - begin < 30, "most of it imports torch"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_mistake_has_its_exit_code_where_nothing_can_be_printed() -> None:
    with open("/dev/full", "w") as full:
        found = subprocess.run([sys.executable, "-c", MISTAKE], stderr=full, check=False)
    assert found.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_character_ends_nothing(encoding: str) -> None:
    code = "from diffusion_ood import cli; cli.run(lambda: print('2 × 3 → ᾱ'))"
    found = run_python(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (found.returncode, found.stderr) == (0, "")


def test_closed_streams_end_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from tqdm import tqdm; from diffusion_ood import cli\n"
        "def main():\n"
        "    print('x'); list(tqdm(range(3))); print('y', file=sys.stderr)\n"
        f"    open({str(tmp_path / 'done')!r}, 'w').close()\n"
        "cli.run(main)\n"
    )
    subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "$CODE" >&- 2>&-'],
        env={**os.environ, "CODE": code},
        check=True,
    )
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--intensity_range", "-1000,1000"], "=-1,1"),
        (["--out_ids", "a.csv", "b.csv"], "commas"),
        (["--eval-checkpoint=last"], "--eval_checkpoint"),
        (["-budget=3"], "--budget"),
        (["\u2014budget=3"], "--budget"),
    ],
)
def test_the_form_of_a_flag_is_hinted_at(flags: list[str], hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        cli.parse("", reconstruct.GROUPS, ["--output_dir=x", "--model_name=y", *flags])


def test_names_of_files_in_another_form_are_hinted_at(run_dir: Path, own_splits: Path) -> None:
    (own_splits / "caf\u00e9.png").write_bytes((own_splits / "A_test" / "0.png").read_bytes())
    for name, hint in (("cafe\u0301.png", "NFC"), ("A_test\\0.png", "/")):
        write_split(own_splits / "D_test.csv", [name])
        with pytest.raises(UserError, match=rf"D_test\.csv, row 2: .*{hint}"):
            scored(run_dir, own_splits, f"--in_ids={own_splits / 'D_test.csv'}", "--run_val=0")


def prepared(tmp_path: Path, folder: Path, *flags: str) -> None:
    get_datasets.main([f"--data_root={tmp_path / 'd'}", f"--image_folder={folder}", *flags])


def test_a_split_that_cannot_calibrate_is_said_at_once(
    tmp_path: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(tmp_path, own_splits / "A_train", "--name=a", "--val_fraction=0.4")
    assert "warning: " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"`name`: .*a,b"):
        prepared(tmp_path, own_splits / "A_train", "--name=a,b")


def test_a_folder_whose_name_is_no_utf_8_is_one_sentence(tmp_path: Path, own_splits: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (own_splits / "A_train").rename(folder / "s")
    with pytest.raises(UserError, match="UTF-8"):
        prepared(tmp_path, folder / "s", "--name=lat", "--test_fraction=1")


@pytest.mark.parametrize(
    "flag", ["--eval_checkpoint", "--lpips_weights", "--classifier_checkpoint"]
)
def test_a_home_folder_is_known_in_every_path(
    flag: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    argv = [f"--output_dir={run_dir.parent}", "--model_name=A", "--run_val=0", "--run_in=0"]
    with pytest.raises(UserError, match=str(tmp_path / "none.pth")):
        reconstruct.main([*argv, f"{flag}=~/none.pth", "--run_out=0"])
    with pytest.raises(UserError, match=r"~nobody\.here"):
        reconstruct.main([*argv, f"{flag}=~nobody.here/none.pth", "--run_out=0"])


def test_an_edited_set_and_its_original_do_not_share_rows(run_dir: Path, own_splits: Path) -> None:
    flipped = scored(run_dir, own_splits, f"--in_ids={own_splits / 'A_vflip_test.csv'}")
    before = pd.read_csv(flipped / "results_in.csv")
    after = pd.read_csv(scored(run_dir, own_splits) / "results_in.csv")
    assert (before["filename"] == after["filename"]).all()
    assert (before["mse"] != after["mse"]).all()


def test_other_labels_of_the_same_images_are_another_training(
    train: Command, tmp_path: Path, own_splits: Path
) -> None:
    path = own_splits / "A_train.csv"
    images = read_split(path).images
    write_split(path, images, [str(i % 2) for i in range(len(images))])
    write_split(own_splits / "A_val.csv", read_split(own_splits / "A_val.csv").images, ["0"] * 6)
    run = train(tmp_path / "runs" / "A", "--num_classes=2", data=own_splits)
    order = list(range(len(images)))[::-1]
    write_split(path, [images[i] for i in order], [str(i % 2) for i in order])
    train(run, "--num_classes=2", data=own_splits)
    write_split(path, images, [str((i + 1) % 2) for i in range(len(images))])
    with pytest.raises(UserError, match=r"checkpoint\.pth: .*labels.*A_train\.csv"):
        train(run, "--num_classes=2", data=own_splits)


def test_copies_of_a_training_image_are_another_training(
    train: Command, tmp_path: Path, own_splits: Path
) -> None:
    run = train(tmp_path / "runs" / "A", data=own_splits)
    images = read_split(own_splits / "A_train.csv").images
    (own_splits / "copy.png").write_bytes((own_splits / images[0]).read_bytes())
    write_split(own_splits / "A_train.csv", [*images, "copy.png"])
    with pytest.raises(UserError, match=r"checkpoint\.pth: .*12 images.*A_train\.csv"):
        train(run, data=own_splits)


def test_a_division_does_not_leave_parts_of_another_behind(
    tmp_path: Path, own_splits: Path
) -> None:
    folder = own_splits / "A_train"
    prepared(tmp_path, folder, "--name=a", "--val_fraction=0.4")
    with pytest.raises(UserError, match=r"a_train\.csv: "):
        prepared(tmp_path, folder, "--name=a", "--test_fraction=1")


def test_a_name_that_is_written_twice_in_two_ways_is_one(own_splits: Path) -> None:
    write_split(own_splits / "D_test.csv", ["A_test/0.png", "./A_test//0.png"])
    with pytest.raises(UserError, match=r"D_test\.csv, row 3: .* row 2"):
        read_split(own_splits / "D_test.csv")


def test_a_damaged_file_of_contents_is_named(run_dir: Path, own_splits: Path) -> None:
    path = scored(run_dir, own_splits) / "contents_in.json"
    for text in ("{", "[]", '{"A_test/0.png": null}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"contents_in\.json: "):
            scored(run_dir, own_splits)


def test_validation_images_that_train_are_counted(
    train: Command, tmp_path: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in (0, 1, 2):
        image = own_splits / "A_train" / f"{i}.png"
        (own_splits / "A_val" / f"{i}.png").write_bytes(image.read_bytes())
    train(tmp_path / "runs" / "A", data=own_splits)
    (line,) = (s for s in capsys.readouterr().out.splitlines() if "copies of training" in s)
    assert line.startswith("warning: 3 images of ")


def test_data_in_a_folder_whose_name_is_no_text_are_scored(run_dir: Path, own_splits: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(own_splits.parent) + b"/caf\xe9"))
    data = own_splits.rename(folder)
    scored(run_dir, data)
    detected(run_dir)
    assert (run_dir / "ood" / "report.html").stat().st_size > 10_000
    with pytest.raises(UserError, match="`output_dir`"):
        scored(folder / "A", data)


def test_a_table_that_was_changed_is_said(run_dir: Path, own_splits: Path) -> None:
    ood = scored(run_dir, own_splits)
    path = ood / "results_B.csv"
    pd.read_csv(path).assign(mse=0.5).to_csv(path, index=False)
    (sentence,) = (text for text in detected(run_dir)["warnings"] if "changed" in text)
    assert sentence.startswith("results_B.csv ")


def test_an_image_is_once_in_a_set_under_whatever_name(run_dir: Path, own_splits: Path) -> None:
    os.link(own_splits / "A_test" / "0.png", own_splits / "twin.png")
    write_split(own_splits / "D_test.csv", ["A_test/0.png", "twin.png"])
    with pytest.raises(UserError, match=r"D_test\.csv, row 3: .* row 2"):
        scored(run_dir, own_splits, f"--in_ids={own_splits / 'D_test.csv'}")


def test_what_is_wrong_in_a_later_set_is_said_before_any_is_scored(
    run_dir: Path, own_splits: Path
) -> None:
    (own_splits / "B_test" / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"B_test\.csv, row 5: "):
        scored(run_dir, own_splits)
    assert not list((run_dir / "ood").glob("results_*.csv"))


def test_a_first_image_of_another_size_is_the_one_that_is_skipped(
    run_dir: Path, own_splits: Path
) -> None:
    Image.new("L", (12, 12)).save(own_splits / "A_test" / "0.png")
    ood = scored(run_dir, own_splits, "--on_error=skip")
    assert pd.read_csv(ood / "results_in.csv")["filename"].nunique() == 5


def test_a_runs_own_pictures_are_no_images(
    run_dir: Path, tmp_path: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(run_dir, own_splits, "--save_images=2")
    assert list(run_dir.rglob("*.png"))
    run_dir.parent.rename(own_splits / "A_train" / "runs")
    prepared(tmp_path, own_splits / "A_train", "--name=a", "--test_fraction=1")
    assert "12 images; left out: folders of runs of this program (1)" in capsys.readouterr().out


def test_a_grey_folder_is_trained_in_grey(
    tmp_path: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(tmp_path, own_splits / "A_train", "--name=a", "--val_fraction=0.4")
    assert "--is_grayscale=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(("image_shape", value) for value in (None, "abc", (1, 8), (1, 0, 8), (-1, 8, 8))),
        *(("classes", value) for value in (5, "ab", [1, 2])),
        *(("training", value) for value in ([1], {"contents": None})),
        *(("options", value) for value in ([], {"DiffusionOptions": "x"})),
    ],
)
def test_entries_of_another_kind_name_the_checkpoint(
    entry: str, value: object, run_dir: Path, tmp_path: Path
) -> None:
    content = torch.load(run_dir / "checkpoint_best.pth", weights_only=True)
    path = saved(tmp_path / "strange.pth", {**content, entry: value})
    with pytest.raises(UserError, match=rf"strange\.pth: .*{entry}"):
        Diffusion.load(path)


def test_the_model_of_an_ancestor_is_read_back(run_dir: Path, tmp_path: Path) -> None:
    model = Diffusion.load(run_dir / "checkpoint_best.pth")
    model.training = {}  # as of an ancestor's
    model.save(tmp_path / "model.pth")
    assert Diffusion.load(tmp_path / "model.pth").trained_on(["0" * 32]) == 0


def test_checkpoints_of_classifiers_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    options = ClassifierOptions(num_classes=2, classifier_type="narrow")
    values = to_dict(options)
    weights = Classifier(options, (1, 8, 8)).state_dict()
    content = {
        **{"format": 1, "image_shape": (1, 8, 8), "classes": ("a", "b"), "weights": weights},
        "options": {"ClassifierOptions": values},
    }
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod."):
        wrapped = {f"{prefix}{name}": value for name, value in weights.items()}
        path = saved(tmp_path / "wrapped.pth", {**content, "weights": wrapped})
        network, _ = load_classifier(path)
        assert all(value.equal(weights[name]) for name, value in network.state_dict().items())
    later = {"options": {"ClassifierOptions": {**values, "classifier_type": "huge"}}}
    changes: dict[str, dict[str, Any]] = {
        **{"huge": later, "classes": {"classes": None}, "weights": {"weights": [1]}},
        **{"image_shape": {"image_shape": "abc"}},
    }
    for said, changed in changes.items():
        path = saved(tmp_path / "changed.pth", {**content, **changed})
        with pytest.raises(UserError, match=rf"changed\.pth: .*{said}"):
            load_classifier(path)


@pytest.mark.parametrize(
    ("words", "hint", "other"),
    [
        (["--output-dir=runs"], "--output_dir is", None),  # and so a required one is missing
        (["-output_dir", "runs"], "--output_dir is", None),
        (["\u2014output_dir", "runs"], "--output_dir is", None),
        (["--output_dir=runs", "--image_size", "8", "8"], "--image_size", "commas"),
        (["--output_dir=runs", "--out_ids", "a", "b"], "commas", None),
        (["--output_dir=~nobody.here/runs"], "--output_dir", "Path"),
    ],
)
def test_a_flag_that_was_meant_is_named(words: list[str], hint: str, other: str | None) -> None:
    with pytest.raises(UserError) as error:
        reconstruct.main(["--model_name=A", *words])
    assert hint in str(error.value)
    assert other is None or other not in str(error.value)


@pytest.mark.parametrize("action", ["open(folder)", "(file / 'x').mkdir()", "file.mkdir()"])
def test_another_kind_of_path_is_a_mistake_of_the_user(action: str, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from diffusion_ood import cli\n"
        f"folder = Path({str(tmp_path)!r}); file = folder / 'file'; file.touch()\n"
        f"cli.run(lambda: {action})\n"
    )
    found = run_python(code)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert str(tmp_path) in found.stderr


@pytest.mark.parametrize("value", [0, 1])
def test_a_truth_value_may_be_stored_as_a_number(value: int, run_dir: Path, tmp_path: Path) -> None:
    content = torch.load(run_dir / "checkpoint_best.pth", weights_only=True)
    options = content["options"]
    changed = {**options, "ImageOptions": {**options["ImageOptions"], "is_grayscale": value}}
    path = saved(tmp_path / "number.pth", {**content, "options": changed})
    assert Diffusion.load(path).image_options.is_grayscale == value
    changed["ImageOptions"]["is_grayscale"] = value + 2
    with pytest.raises(UserError, match=r"number\.pth: .*is_grayscale"):
        Diffusion.load(saved(path, {**content, "options": changed}))


def test_a_home_folder_of_nobody_names_the_checkpoints_option(run_dir: Path) -> None:
    flags = [f"--output_dir={run_dir.parent}", "--model_name=A"]
    with pytest.raises(UserError, match=r"`eval_checkpoint`: ~nobody\.here"):
        reconstruct.main([*flags, "--eval_checkpoint=~nobody.here/x.pth", "--run_val=0"])
