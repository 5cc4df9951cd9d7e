"""Every command of the documents is run: in its document's order, on tiny images.

Flags are added behind those of the document to make the work small; nothing in front is changed.
A new command is run with the others; what cannot be run here is in `EXCEPTIONS`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml
from dicom_files import save_series, series
from documents import ROOT, Line, blocks, commands, lines
from PIL import Image

from diffusion_ood import console
from diffusion_ood.data.sources.base import PARTS, ImageArray, Part, Source
from diffusion_ood.registries import SOURCES

EXCEPTIONS = {
    "python train_vqvae.py --output_dir=output_root --model_name=vqvae_decathlon": (
        "needs gigabytes of volumes; tests/networks/test_autoencoder.py builds its network"
    ),
    **{
        f"python {script}.py --output_dir=output_root --model_name=ddpm_decathlon": (
            "needs the volumes and the model before; tests/training/test_latents.py has its steps"
        )
        for script in ("train_ddpm", "reconstruct", "ood_detection")
    },
    "make demo": "trains for minutes; tests/newcomer.sh runs it, shortened",
    "make venv": "downloads gigabytes; tests/newcomer.sh runs it",
    "make test-browser": "needs a browser",
    "make test-cuda": "needs a GPU",
    "make test": "would run this test",
    "make lint test": "would run this test",
    "pip install": "downloads gigabytes",
    "diffusion-ood weights": "downloads",
    "apt-get install": "downloads, as root",
    **dict.fromkeys(
        (
            "find",
            "python examples/cut_into_shards.py",
            "python examples/join_decisions.py",
            "diffusion-ood screen scans.detector shards/SLURM_ARRAY_TASK_ID.csv",
        ),
        "one after the other a walk, which tests/test_scale.py takes in bash",
    ),
    "ray ": "a cluster; tests/screening has one of this machine",
    "diffusion-ood screen scans.detector /path/to/images --output=screening --ray=auto": "as ray",
    "diffusion-ood screen scans.detector s3:": (
        "needs object stores; tests/data/test_remote.py has some of fsspec"
    ),
    "srun": "needs Slurm; its torchrun is run under `Several processes`",
    "cd docker/": "leads to the next",
    "bash create_docker_image.sh": "needs an image registry; docker/test_image.sh builds without",
    "diffusion-ood serve": "runs until it is stopped; tests/serving/test_process.py stops it",
    "curl": "asks a service; tests/serving/test_documented.py asks it",
    "docker": "needs Docker; docker/test_image.sh runs the image",
}
SCRIPTS = {command.script: name for name, command in console.COMMANDS.items() if command.script}
SIDE = 16
IMAGES = 80  # of each part; 4 of them validate
SMALL = ("--device=cpu", "--num_workers=0", "--compile=off")
SHORT = (*SMALL, "--n_epochs=1", "--batch_size=32", f"--image_size={SIDE}")
# Volumes of 304 mm a side, whatever a document resamples and crops them to.
SHORT_3D = (*SMALL, "--n_epochs=1", "--batch_size=16", "--spacing=9,9,9", "--image_roi=32,32,32")
ADDED = {
    "train_ddpm.py": (*SHORT, "--model_type=tiny"),
    "train_vqvae.py": (*SHORT, "--model_type=vq_tiny"),
    "train_classifier.py": (*SHORT, "--classifier_type=narrow"),
    "reconstruct.py": (*SMALL, "--first_n=4", "--first_n_val=4"),
    "fit": ("--device=cpu", "--num_workers=0", "--budget=3"),
    "screen": ("--device=cpu",),
    "sample.py": ("--device=cpu", "--num_samples=4", "--num_inference_steps=4"),
    "main.py": (
        *("--device=cpu", "--num_images=4", "--sample_speed=10"),
        "--model_path=temp/train/base_multi/checkpoint_best.pth",
    ),
}
CONFIGURED = {
    "Dataset": {"image_size": SIDE, "num_workers": 0},
    "Model": {"struc": "tiny"},
    "Train": {"epoch": 1, "batch_size": 16},
    "Sample": {"batch_size": 4},
}


def added(script: str, flags: list[str]) -> tuple[str, ...]:
    """The flags that make a documented command small."""
    small = ADDED.get(script, ())
    text = " ".join(flags)
    if script == "main.py" and "train --config" in text:  # which makes the model
        return small[:-1]
    if "--spatial_dimension=3" in flags and small[: len(SHORT)] == SHORT:
        return (*SHORT_3D, *small[len(SHORT) :])
    if script != "reconstruct.py" or "--levels" in text:
        return small
    grid = ("--num_inference_steps=4", "--inference_skip_factor=2")
    return (*small, *(("--budget=2",) if "--budget" in text else grid))


def call(*words: str | Path) -> None:
    """Run a program, which finds the package as this process does."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def python(script: str, *flags: str) -> None:
    if script in SCRIPTS:
        diffusion_ood(SCRIPTS[script], *flags)
    else:
        call(sys.executable, ROOT / script, *flags)


def diffusion_ood(name: str, *flags: str) -> None:
    given = list(flags[: flags.index(">")] if ">" in flags else flags)
    if name in console.COMMANDS:
        console.main([name, *given, *added(console.COMMANDS[name].script or name, given)])
    else:  # --help ends its process
        entry = "from diffusion_ood.console import run; run()"
        call(sys.executable, "-c", entry, name, *given)


def torchrun(*words: str) -> None:
    k = next(k for k, word in enumerate(words) if word.endswith(".py"))
    flags = added(words[k], list(words[k + 1 :]))
    launcher = (sys.executable, "-m", "torch.distributed.run", *words[:k])
    call(*launcher, ROOT / words[k], *words[k + 1 :], *flags)


def make(*targets: str) -> None:
    call("make", "-C", ROOT, f"VENV={sys.prefix}", "-o", f"{sys.prefix}/installed", *targets)


def tensorboard(*flags: str) -> None:
    call(sys.executable, "-m", "tensorboard.main", *flags, "--inspect")  # and it ends


PROGRAMS: dict[str, Callable[..., None]] = {
    "python": python,
    "diffusion-ood": diffusion_ood,
    "torchrun": torchrun,
    "make": make,
    "tensorboard": tensorboard,
    **{name: lambda *words, name=name: call(name, *words) for name in ("cp", "mkdir", "tar")},
}


def excuse(line: Line) -> str | None:
    """The exception that a documented command falls under."""
    text = " ".join(line.words)
    return next((start for start in EXCEPTIONS if text.startswith(start)), None)


def walk(document: str, heading: str | None = None) -> None:
    """Run what a document has, or has under a heading, in a folder that stands for `/path/to`."""
    for block in blocks(ROOT / document, heading):
        for words in commands(block.replace("/path/to/", "")):
            if not excuse(Line(document, words)):
                PROGRAMS[words[0]](*words[1:])


def images(folder: Path, count: int = 60) -> None:
    """Noisy squares, another grey level and size in each folder, three of each patient."""
    rng = np.random.default_rng(len(str(folder)))
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        pixels[4:12, 4 : 6 + len(folder.name) % 6] += 120
        Image.fromarray(pixels).save(folder / f"patient{i // 3}_{i:03}.png")


def downloaded(name: str, source: Source) -> Source:
    """A data set as if it had been downloaded, of noise of its own brightness."""
    side = (218, 178) if name == "CelebA" else (28, 28) if source.is_grayscale else (32, 32)
    rng = np.random.default_rng(len(name))

    def pixels() -> ImageArray:
        noise = rng.integers(0, min(255, 100 + 10 * len(name)), (IMAGES, *side, 3), dtype=np.uint8)
        grey = noise[..., 0] if source.is_grayscale else noise
        return ImageArray(grey, [str(i % 10) for i in range(IMAGES)])

    parts: dict[Part, ImageArray] = {part: pixels() for part in source.counts or PARTS}
    return dataclasses.replace(
        source,
        read=lambda raw, seed: parts,
        counts=dict.fromkeys(parts, IMAGES),
        files={},
        downloads=(),
    )


def own_images() -> None:
    for name in ("images", "others"):
        images(Path(name))


def own_model() -> None:
    own_images()
    walk("README.md", "## Your own data")


def own_scans() -> None:
    own_images()
    walk("README.md", "## Screen your own images")


def studies() -> None:
    """CT of patients with two series each, and of others."""
    rng = np.random.default_rng(0)
    grid = np.indices((20, 20, 20)) - 9.5
    for folder, patients in (("studies", 40), ("others", 5)):
        for number in range(2 * patients):
            patient = f"{folder} {number // 2}"
            radii = rng.uniform(4, 8, 3).reshape(3, 1, 1, 1)
            ball = (np.square(grid / radii).sum(axis=0) < 1) * 1000 - 950
            tags = {"PatientID": patient, "SeriesInstanceUID": f"1.2.3.{len(folder)}.{number}"}
            files = series(
                np.int16(ball + rng.normal(0, 20, ball.shape)),
                spacing=(16, 16),
                step=16,
                StudyInstanceUID=f"1.2.4.{len(folder)}.{number // 2}",
                **tags,
            )
            save_series(Path(folder, str(number // 2), str(number)), files)


def archive() -> None:
    for name in ("HeadCT", "AbdomenCT", "ChestCT", "BreastMRI", "Hand"):
        images(Path("MedNIST", name))
    call("tar", "-czf", "MedNIST.tar.gz", "MedNIST")
    shutil.rmtree("MedNIST")


def both_methods() -> None:
    python("get_datasets.py", "--data_root=data_root", "--datasets=MNIST,FashionMNIST")
    Path("config").mkdir()
    for path in (ROOT / "config").glob("32_*.yml"):
        content = yaml.safe_load(path.read_text())
        for section, values in CONFIGURED.items():
            content[section] |= values
        Path("config", path.name).write_text(yaml.safe_dump(content))


# What a document needs beforehand, and its runs with the sets that they decide on.
FOUR = "in MNIST FashionMNIST_vflip FashionMNIST_hflip"
WALKS: dict[str, tuple[Callable[[], None] | None, dict[str, str]]] = {
    "README.md": (
        own_images,
        {
            "output_root/fashionmnist": FOUR,
            "output_root/fashionmnist_fast": FOUR,
            "runs/mine": "in other",
        },
    ),
    "README_additional.md": (
        None,
        {
            "output_root/cifar10": "in SVHN CelebA CIFAR10_vflip CIFAR10_hflip",
            "output_root/svhn": "in CIFAR10 CelebA SVHN_vflip SVHN_hflip",
            "output_root/celeba": "in CelebA_vflip CelebA_hflip",
            "output_root/fashionmnist_tiny": FOUR.replace("MNIST", "MNIST5k", 1),
        },
    ),
    "CONTRIBUTING.md": (None, {}),
    "data_splits/README.md": (lambda: images(Path("scans")), {}),
    "docs/extending.md": (None, {}),
    "docs/own_data.md": (archive, {"runs/headct": "in AbdomenCT BreastMRI ChestCT Hand"}),
    "docs/screening.md": (own_scans, {}),
    "docs/volumes.md": (studies, {}),
    "docs/performance.md": (own_model, {"runs/mine_fast": "in other"}),
    "docs/diffood.md": (
        both_methods,
        {
            "output_root/fashion_cond": "in MNIST",
            "temp/sample_ood/cifar10_r4": "in CIFAR100 SVHN TinyImageNet Textures Places365",
        },
    ),
}


def decided(run_dir: str) -> dict[str, int]:
    """How many images of each set have a decision."""
    files = Path(run_dir).glob("ood/decisions_*.csv")
    return {file.stem.removeprefix("decisions_"): len(pd.read_csv(file)) for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("document", WALKS)
def test_a_document_is_walked(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("downloaded")
    for name, source in SOURCES.items():
        setattr(module, name, downloaded(name, source))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(SOURCES, "data", {name: f"downloaded:{name}" for name in SOURCES})
    prepare, runs = WALKS[document]
    if prepare:
        prepare()
    walk(document)
    assert {run: decided(run) for run in runs} == {
        run: dict.fromkeys(sets.split(), 4) for run, sets in runs.items()
    }
    if prepare is studies:
        assert len(pd.read_csv("screening/decisions.csv")) == 10
        assert len(pd.read_csv("screening/groups.csv")) == 5
        assert len(list(Path("maps").rglob("*.nii.gz"))) == 10


@pytest.mark.parametrize("line", lines(), ids=str)
def test_a_documented_command_is_run_or_excused(line: Line) -> None:
    assert excuse(line) or (line.document in WALKS and line.words[0] in PROGRAMS)


def test_no_exception_has_outlived_its_command() -> None:
    assert {excuse(line) for line in lines()} - {None} == set(EXCEPTIONS)
    assert set(WALKS) == {line.document for line in lines() if not excuse(line)}


def test_a_command_of_a_new_kind_would_be_found() -> None:
    new = Line("README.md", ("fly", "--high"))
    with pytest.raises(AssertionError):
        test_a_documented_command_is_run_or_excused(new)
    with pytest.raises(AssertionError):
        test_a_documented_command_is_run_or_excused(new._replace(document="docs/new.md"))
