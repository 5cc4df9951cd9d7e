"""Every command answers at once where nothing is to be computed: 0.5 s of CPU time at most."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import diffusion_ood

ROOT = Path(__file__).parents[1]
PACKAGES = str(Path(diffusion_ood.__file__).parents[1])
CPU_S, TRIES = 0.5, 3

# The flags with which a script is asked for a file, or a folder, `missing` that is not there.
RUN = ("--output_dir={folder}", "--model_name=missing")
SPLITS = ("--training_ids={folder}/missing.csv", "--validation_ids={folder}/missing.csv")
SCORED = ("--validation_ids={folder}/missing.csv", "--in_ids={folder}/missing.csv")
MISSING = {
    "get_datasets.py": ("--data_root={folder}", "--source_dir={folder}/missing"),
    "train_ddpm.py": (*RUN, *SPLITS),
    "train_classifier.py": (*RUN, *SPLITS),
    "train_vqvae.py": (*RUN, *SPLITS),
    "reconstruct.py": (*RUN, *SCORED, "--out_ids={folder}/missing.csv"),
    "ood_detection.py": RUN,
    "sample.py": (*RUN, "--num_samples=1"),
    "main.py": ("--runner=base_train", "--config=missing.yml"),
    "detect/ood_detect.py": ("--id_name=missing",),
}
COMMANDS = {
    "data": "get_datasets.py",
    "train": "train_ddpm.py",
    "train-classifier": "train_classifier.py",
    "train-vqvae": "train_vqvae.py",
    "reconstruct": "reconstruct.py",
    "detect": "ood_detection.py",
    "sample": "sample.py",
    "second": "main.py",
    "second-report": "detect/ood_detect.py",
}
CONSOLE = "import sys; sys.argv[0] = 'diffusion-ood'; from diffusion_ood.console import run; run()"

CALLS = [(script, (str(ROOT / script),), flags) for script, flags in MISSING.items()]
CALLS += [
    (f"diffusion-ood {name}", ("-c", CONSOLE, name), MISSING[script])
    for name, script in COMMANDS.items()
]
WITHOUT_FILES = [("diffusion-ood weights", ("-c", CONSOLE, "weights"), ())]


def each(calls: list[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("call", "missing"), [call[1:] for call in calls], ids=[call[0] for call in calls]
    )


each_command, each_with_files = each([*CALLS, *WITHOUT_FILES]), each(CALLS)


def answer(call: tuple[str, ...], *flags: str, folder: Path, code: int) -> str:
    """What the command prints; its CPU time and exit code are checked."""
    seconds = []
    while not seconds or (min(seconds) > CPU_S and len(seconds) < TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *call, *flags],
            env={**os.environ, "PYTHONPATH": PACKAGES},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == code, done.stderr
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) <= CPU_S
    return done.stdout + done.stderr


@each_command
def test_help(call: tuple[str, ...], missing: tuple[str, ...], tmp_path: Path) -> None:
    assert "--help" in answer(call, "--help", folder=tmp_path, code=0)


@each_command
def test_version(call: tuple[str, ...], missing: tuple[str, ...], tmp_path: Path) -> None:
    text = answer(call, "--version", folder=tmp_path, code=0)
    assert text == f"diffusion-ood {diffusion_ood.__version__}\n"


@each_command
def test_a_wrong_flag(call: tuple[str, ...], missing: tuple[str, ...], tmp_path: Path) -> None:
    flags = [flag.format(folder=tmp_path) for flag in missing]
    text = answer(call, *flags, "--nonsense=1", folder=tmp_path, code=2)
    assert text.startswith("error: ")
    assert "--nonsense" in text


@each_with_files
def test_a_missing_file(call: tuple[str, ...], missing: tuple[str, ...], tmp_path: Path) -> None:
    flags = [flag.format(folder=tmp_path) for flag in missing]
    text = answer(call, *flags, folder=tmp_path, code=2)
    assert text.startswith("error: ")
    assert "missing" in text
