"""main.py and detect/ood_detect.py: the authors' own commands, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from diffusion_ood import cli
from diffusion_ood.commands import reconstruct, train_classifier, train_ddpm
from diffusion_ood.commands.diffood import main as diffood
from diffusion_ood.commands.diffood import ood_detect
from diffusion_ood.commands.diffood.config import KEYS, read_config
from diffusion_ood.errors import UserError
from diffusion_ood.options import DiffusionOptions, MainOptions, TrainOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.training import diffusion_task

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("32_*.yml"))
SIDE = 8
SETS = {"CIFAR10_train": 20, "CIFAR10_val": 6, "CIFAR10_test": 7, "SVHN_test": 5}
LISTED = 4  # images of OpenOOD's own list of TinyImageNet
SMALL = {
    "Dataset": {
        "name": "CIFAR10",
        "image_size": SIDE,
        "channels": 3,
        "num_workers": 0,
        "random_flip": True,
    },
    "Model": {"struc": "tiny", "num_classes": 2, "dropout": 0.1},
    "Train": {"epoch": 1, "batch_size": 5, "train_step": 300},
    "Optim": {"grad_clip": 1.0, "warmup": 2},
    "Sample": {"total_num": 6, "batch_size": 4},
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with small images under the data sets' names and a small config."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "temp" / "dataset" / "data_splits"
    folder.mkdir(parents=True)
    for name, size in SETS.items():
        rows = ["image,label"]
        for i in range(size):
            path = folder / f"{name}_{i}.png"
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3)) // (1 + i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            rows.append(f"{path.name},{i % 2}")
        (folder / f"{name}.csv").write_text("\n".join(rows))
    lists = tmp_path / "temp" / "dataset" / "benchmark_imglist" / "cifar10"
    pictures = lists.parents[1] / "images_classic" / "tin"
    lists.mkdir(parents=True)
    pictures.mkdir(parents=True)
    for i in range(LISTED):
        noise = rng.integers(0, 255, (2 * SIDE, 2 * SIDE, 3))
        Image.fromarray(noise.astype(np.uint8)).save(pictures / f"{i}.JPEG")
    (lists / "test_tin.txt").write_text("".join(f"tin/{i}.JPEG -1\n" for i in range(LISTED)))
    small = yaml.safe_load(next(p for p in CONFIGS if p.name == "32_cifar10_cond.yml").read_text())
    for section, values in SMALL.items():
        small[section] |= values
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "small.yml").write_text(yaml.safe_dump(small))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusion_task, "SAMPLE_STEPS", 2)
    return tmp_path


def test_the_commands_of_the_readme_work_one_after_the_other(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = "temp/dataset/data_splits/CIFAR10"
    run = "--config small.yml --device cpu"
    train_classifier.main(
        f"--output_dir=temp --model_name=model --training_ids={splits}_train.csv --num_classes=2 "
        f"--validation_ids={splits}_val.csv --classifier_type=narrow --n_epochs=1 --batch_size=5 "
        "--device=cpu --compile=off --num_workers=0".split()
    )
    (workplace / "temp/model/checkpoint.pth").rename(workplace / "temp/model/res18_cifar10.pth")
    diffood.main(f"--runner base_train {run} --train_path temp/train/base_multi".split())
    checkpoint = workplace / "temp/train/base_multi/checkpoint_best.pth"
    checkpoint.rename(workplace / "temp/train/ema-140000.ckpt")
    diffood.main(
        f"--runner base_fid --method DDIM --sample_speed 4 {run} --image_path temp/results "
        "--model_path temp/train/ema-140000.ckpt".split()
    )
    assert len(list((workplace / "temp/results").glob("[0-9]*.png"))) == 6
    diffood.main(
        f"--runner interpolation {run} --method DDIM --sample_speed 10 --num_images 6 "
        "--image_path temp/between --model_path temp/train/ema-140000.ckpt".split()
    )
    assert len(list((workplace / "temp/between").glob("img*.png"))) == 3 * (2 + 3 * 9)
    diffood.main(
        f"--runner ood_itp {run} --method DDIM --sample_speed 10 "
        "--model_path temp/train/ema-140000.ckpt --model_name cifar10 --repeat_size 4".split()
    )
    table = pd.read_csv(workplace / "temp/sample_ood/cifar10_r4/ood/results_in.csv")
    assert len(table) == 7 * 2 * 4  # the model was trained below t = 300: levels 120 and 240
    listed = pd.read_csv(workplace / "temp/sample_ood/cifar10_r4/ood/results_tin.csv")
    assert len(listed) == LISTED * 2 * 4
    capsys.readouterr()
    ood_detect.main(["--repeat_size", "4", "--id_name", "cifar10"])
    said = capsys.readouterr().out
    assert "logit_l1_global@240 (headline)" in said
    metrics = json.loads((workplace / "temp/sample_ood/cifar10_r4/ood/metrics.json").read_text())
    by_set = metrics["targets"]["logit_l1_global@240"]
    for group, name in (("near", "tin"), ("far", "SVHN")):  # as the package groups them
        assert f"({group} mean)" in said
        assert by_set[f"({group} mean)"]["auroc"]["value"] == by_set[name]["auroc"]["value"]
    (workplace / "config" / "ood_groups.yml").write_text("outer: [SVHN]\n")
    ood_detect.main(["-r", "4", "-n", "cifar10", "-s", "feature"])
    said = capsys.readouterr().out
    assert "feature_l1_global@240 (headline)" in said
    assert "(outer mean)" in said  # by the file of the folder one works in
    assert "(far mean)" not in said


def flags(path: Path, *argv: str) -> cli.CommandLine:
    """What train_ddpm.py is told of a configuration."""
    options = cli.parse("", (MainOptions,), ["--runner=train", f"--config={path}", *argv])
    given = diffood.training_flags(options[MainOptions], read_config(path))
    return cli.parse("", train_ddpm.GROUPS, given)


@pytest.mark.parametrize(
    ("name", "classes", "batch", "max_t"),
    [
        ("32_cifar10_cond", 10, 128, 1000),
        ("32_cifar10_uncond", 0, 256, 1000),
        ("32_cifar100_cond", 100, 128, 600),
        ("32_cifar100_uncond", 0, 128, 240),
        ("32_cifar10_ood_cf", 10, 128, 1000),
    ],
)
def test_the_configurations_say_what_the_authors_did(
    name: str, classes: int, batch: int, max_t: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(path for path in CONFIGS if path.stem == name)
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = flags(path)
    options, model = line[TrainOptions], line[DiffusionOptions]
    assert (model.model_type, model.num_classes, model.data_range) == ("ddim32", classes, "pm1")
    assert (model.beta_schedule, model.beta_start, model.beta_end) == ("linear_beta", 1e-4, 0.02)
    assert (options.batch_size, options.max_train_t) == (2 * batch, max_t)
    assert (options.lr, options.warmup_steps, options.ema_decay) == (2e-4, 5000, 0.9999)
    assert (options.res_dropout, options.antithetic_t, options.flip) == (0.1, True, True)
    assert options.label_dropout == pytest.approx(0.1)
    assert options.grad_clip == pytest.approx(1 / 3072)


def test_all_configurations_were_looked_at() -> None:
    assert len(CONFIGS) == 6


def test_the_small_configuration_trains_the_tiny_network() -> None:
    line = flags(next(path for path in CONFIGS if path.stem == "32_cifar10_tiny"))
    assert (line[DiffusionOptions].model_type, line[DiffusionOptions].num_classes) == ("tiny", 10)


def test_training_keeps_what_the_configuration_says(workplace: Path) -> None:
    diffood.main(["--runner", "train", "--config", "small.yml", "--device", "cpu"])
    stored = load_checkpoint(workplace / "temp/train/checkpoint.pth")
    assert stored["options"]["DiffusionOptions"]["num_classes"] == 2
    assert stored["trainer"]["step"] == 4


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("warmup:", "warm_up:", "Optim.warm_up"),
        ("lr: 0.0002", "", "Optim.lr"),
        ("num_classes: 2", "num_classes: ten", "Model.num_classes.*'ten'"),
        ("dropout: 0.1", "dropout: yes", "Model.dropout.*True"),
        ("random_flip: true", "random_flip: 1", "Dataset.random_flip.* 1"),
        ("Model:", "Model: [", "YAML"),
        ("Model:", "Other: 1\nModel:", r"small\.yml"),
    ],
)
def test_a_configuration_with_a_mistake_is_refused(
    old: str, new: str, named: str, workplace: Path
) -> None:
    path = workplace / "config" / "small.yml"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(UserError, match=named):
        read_config(Path("small.yml"))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_configuration_does_something(key: str, workplace: Path) -> None:
    """Another value changes what one of the commands is told."""
    config = read_config(Path("small.yml"))
    (workplace / "d.pth").touch()
    options = cli.parse("", (MainOptions,), ["--runner=train", "--config=c", "--disc_path=d.pth"])[
        MainOptions
    ]

    def told(values: dict[str, object]) -> list[str]:
        return [
            *diffood.training_flags(options, values),
            *diffood.sampling_flags(options, values),
            *diffood.scoring_flags(options, values),
        ]

    others = {"Dataset.channels": 1, "Train.t_type": "uniform"}
    value = config[key]
    other = others.get(key, f"{value}_other" if isinstance(value, str) else value / 2)
    assert told({**config, key: other}) != told(config)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("--runner=ood_itp --config=none.yml", r"--config: .*none\.yml"),
        ("--runner=ood_itp --config=small.yml", r"res18_cifar10\.pth"),
        ("--runner=fly --config=small.yml", "--runner"),
    ],
)
def test_a_mistake_names_its_flag_or_file(argv: str, named: str, workplace: Path) -> None:
    with pytest.raises(UserError, match=named):
        diffood.main(argv.split())


def test_the_commands_are_those_of_the_package() -> None:
    """The adapters name flags: a renamed one would be found here, not by a user."""
    assert {"levels", "repeats", "scores"} <= set(
        reconstruct.ReconstructOptions.__dataclass_fields__
    )
