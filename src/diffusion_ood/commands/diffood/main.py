"""DiffOOD's runners, as calls of this package's commands.

    base_train     trains the diffusion model of a configuration     train_ddpm
    base_fid       draws samples of it                               sample
    ood_itp        scores test images by the classifier's outputs    reconstruct
    interpolation  draws what lies between training images           interpolate

`detect/ood_detect.py` reports on what ood_itp has scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusion_ood import cli
from diffusion_ood.commands import interpolate, reconstruct, sample, train_ddpm
from diffusion_ood.commands.diffood.config import KEYS, read_config
from diffusion_ood.errors import UserError
from diffusion_ood.options.diffood import SCORED, TEMP, MainOptions, scored_run
from diffusion_ood.runtime import launch

LEVELS = (0, 120, 240, 360)  # as far as the model was trained on them
SCORES = "logit_l1,feature_l1,msp,maxlogit,energy"
NUM_IMAGES = 1000  # of each set
FILES = {"tin": "TinyImageNet", "texture": "Textures"}  # whose names are not their files'

GROUPS = (MainOptions,)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the runner asked for."""
    options = cli.parse(__doc__, GROUPS, argv)[MainOptions]
    config = read_config(options.config)
    runners = {
        "base_train": (train_ddpm.main, training_flags),
        "base_fid": (sample.main, sampling_flags),
        "ood_itp": (reconstruct.main, scoring_flags),
        "interpolation": (interpolate.main, interpolation_flags),
    }
    runners["train"] = runners["training"] = runners["base_train"]
    runners["fid"], runners["detection"] = runners["base_fid"], runners["ood_itp"]
    command, flags = runners[options.runner]
    command([*flags(options, config), f"--device={options.device}"])


def training_flags(options: MainOptions, config: dict[str, Any]) -> list[str]:
    """Flags of train_ddpm.py.

    The authors' batch size is that of one process, ours of all together. Their clip is for a loss
    summed over an image, ours for its mean.
    """
    processes = launch.number("WORLD_SIZE", 1)
    values = config["Dataset.channels"] * config["Dataset.image_size"] ** 2
    if config["Dataset.channels"] not in (1, 3):
        raise UserError(f"Dataset.channels: found {config['Dataset.channels']}, expected 1 or 3")
    if config["Train.t_type"] not in ("symmetry", "uniform"):
        raise UserError(
            f"Train.t_type: found {config['Train.t_type']!r}, expected symmetry or uniform"
        )
    same = [f"--{option}={config[key]}" for key, (_, option) in KEYS.items() if option]
    hidden = [f"--label_dropout={1 - config['Train.cond_ratio']:.6g}"]
    name = config["Dataset.name"]
    return [
        f"--output_dir={options.train_path.parent}",
        f"--model_name={options.train_path.name}",
        f"--training_ids={_split(options, name, 'train')}",
        f"--validation_ids={_split(options, name, 'val')}",
        f"--is_grayscale={int(config['Dataset.channels'] == 1)}",
        *same,
        *(hidden if config["Model.num_classes"] else []),
        "--data_range=pm1",
        f"--batch_size={config['Train.batch_size'] * processes}",
        f"--antithetic_t={int(config['Train.t_type'] == 'symmetry')}",
        f"--grad_clip={config['Optim.grad_clip'] / values}",
    ]


def sampling_flags(options: MainOptions, config: dict[str, Any]) -> list[str]:
    """Flags of sample.py."""
    folder = options.image_path
    guidance = config["Sample.guidance"] if config["Model.num_classes"] else 0
    return [
        f"--output_dir={folder.parent}",
        f"--model_name={folder.name}",
        f"--image_path={folder}",
        f"--eval_checkpoint={_model_path(options)}",
        f"--num_samples={options.num_images or config['Sample.total_num']}",
        f"--max_batch={config['Sample.batch_size']}",
        f"--num_inference_steps={options.sample_speed}",
        f"--sampler={options.method.lower()}",
        f"--guidance={guidance}",
        "--no-clip_denoised",  # as the authors sample
    ]


def interpolation_flags(options: MainOptions, config: dict[str, Any]) -> list[str]:
    """Flags of the interpolation, between images of the training set."""
    pairs = [f"--num_pairs={options.num_images // 2}"] if options.num_images else []
    return [
        f"--image_ids={_split(options, config['Dataset.name'], 'train')}",
        f"--image_path={options.image_path}",
        f"--checkpoint={_model_path(options)}",
        f"--num_inference_steps={options.sample_speed}",
        f"--sampler={options.method.lower()}",
        f"--max_batch={config['Sample.batch_size']}",
        *pairs,
    ]


def scoring_flags(options: MainOptions, config: dict[str, Any]) -> list[str]:
    """Flags of reconstruct.py."""
    name = options.model_name
    classifier = options.disc_path or TEMP / "model" / f"res18_{name}.pth"
    if not classifier.exists():
        raise UserError(
            f"{classifier}: found no classifier, expected one of train_classifier.py; "
            "--disc_path says where it is"
        )
    labels = ["--labels=pred", f"--guidance={config['Sample.guidance']}"]
    sets = [_split(options, other, "test") for other in options.ood_names if other != name]
    there = [path for path in sets if path.exists()]
    if not there:
        raise UserError(
            f"{options.data_root}: found none of {', '.join(path.name for path in sets)}, expected "
            "at least one; get_datasets.py makes them"
        )
    number = options.num_images or NUM_IMAGES
    return [
        f"--output_dir={SCORED}",
        f"--model_name={scored_run(name, options.repeat_size)}",
        f"--eval_checkpoint={_model_path(options)}",
        f"--classifier_checkpoint={classifier}",
        f"--validation_ids={_split(options, name, 'val')}",
        f"--in_ids={_split(options, name, 'test')}",
        f"--out_ids={','.join(map(str, there))}",
        *(f"--first_n={number}", f"--first_n_val={number}"),
        f"--scores={SCORES}",
        f"--levels={','.join(str(t) for t in LEVELS if t <= config['Train.train_step'])}",
        f"--repeats={options.repeat_size}",
        f"--num_inference_steps={options.sample_speed}",
        f"--sampler={options.method.lower()}",
        f"--num_workers={config['Dataset.num_workers']}",
        *(labels if config["Model.num_classes"] else []),
    ]


def _model_path(options: MainOptions) -> Path:
    return options.model_path or options.train_path / "checkpoint_best.pth"


def _split(options: MainOptions, name: str, part: str) -> Path:
    """The split of a data set, whose name may be written in other cases than its file's.

    Without one it is the image list that the authors read, where that is there.
    """
    folder = options.data_root / "data_splits"
    wanted = f"{FILES.get(name, name)}_{part}.csv"
    found = (path for path in folder.glob("*.csv") if path.name.lower() == wanted.lower())
    listed = options.data_root / "benchmark_imglist" / options.model_name / f"{part}_{name}.txt"
    return next(found, listed if listed.exists() else folder / wanted)
