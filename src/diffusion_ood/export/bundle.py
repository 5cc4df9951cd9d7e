"""A detector as a MONAI bundle: a folder that `python -m monai.bundle run` executes.

The layout and the fields are those of the MONAI Bundle Specification. The names in the
configuration are those of MONAI's bundle properties, by which programs find a bundle's parts.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import as_text, atomic_write, write_json
from diffusion_ood.version import __version__

METADATA, INFERENCE = Path("configs", "metadata.json"), Path("configs", "inference.json")
MODEL, README = Path("models", "model.pt"), Path("docs", "README.md")  # the specification's names
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
VERSION = "1.0.0"
TASK = "Out-of-distribution detection: whether a model may be trusted on an image"
CHANNELS = {1: ["grey"], 3: ["red", "green", "blue"]}


def export_bundle(path: Path, bundle: Path, *, run: str, authors: str, copyright: str) -> None:
    """Write a bundle; an unfinished one of the same detector is finished.

    Args:
        path: a detector's file.
        bundle: the folder.
        run: the command that runs the bundle from within its folder, for its README.
        authors: for the metadata, as is `copyright`.

    Raises:
        UserError: the file is no detector, or the folder holds anything else.
    """
    detector = Detector.load(path, "cpu")
    _refuse_other(bundle, detector)
    name = as_text(path.stem)
    # First, since by it an unfinished bundle is known.
    write_json(bundle / METADATA, _metadata(detector, name, authors, copyright))
    with open(path, "rb") as source, atomic_write(bundle / MODEL, "wb") as copy:
        shutil.copyfileobj(source, copy)
    write_json(bundle / INFERENCE, _inference(name))
    with atomic_write(bundle / README) as file:
        file.write(_readme(detector, name, run))


def _refuse_other(bundle: Path, detector: Detector) -> None:
    """Refuse a folder in which anything but a bundle of this detector lies."""
    if not bundle.exists() or (bundle.is_dir() and not any(bundle.iterdir())):
        return
    expected = "expected a new folder or the bundle of the same detector"
    try:
        found = json.loads((bundle / METADATA).read_text(encoding="utf-8"))["detector"]["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = "a folder of something else" if bundle.is_dir() else "a file"
        raise UserError(f"`bundle` {bundle}: found {kind}, {expected}") from None
    if found != detector.digest:
        raise UserError(f"`bundle` {bundle}: found that of {str(found)[:12]}, {expected}")


def _metadata(detector: Detector, name: str, authors: str, copyright: str) -> dict[str, Any]:
    channels, *sides = detector.image_shape
    summary = detector.summary()
    del summary["val_scores"]  # one for each validation image
    whole = {"dtype": "float32", "value_range": [0, 1], "is_patch_data": False}
    image = {"type": "image", "format": "magnitude", "modality": "n/a", "num_channels": channels}
    image |= {**whole, "spatial_shape": sides, "channel_def": _numbered(CHANNELS[channels])}
    pred = {"type": "probabilities", "format": "classes", "num_channels": 1, "spatial_shape": [1]}
    pred |= {**whole, "dtype": "float64"}
    pred |= {"channel_def": _numbered(["p-value: share of usual images that are as unusual"])}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "changelog": {VERSION: f"exported by diffusion-ood {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"diffusion-ood": __version__},
        "name": name,
        "task": TASK,
        "description": (
            "Says of each image, with a p-value, whether it belongs to the distribution that a "
            "diffusion model was trained on. Of images that do, "
            f"{100 * detector.target_fpr:g} % are called out of distribution, on average."
        ),
        "authors": authors,
        "copyright": copyright,
        "intended_use": "Research; a usual image is no proof that another model is right about it",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "detector": summary,
    }


def _numbered(names: list[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _inference(name: str) -> dict[str, Any]:
    """The configuration; `bundle_root`, `dataset_dir`, `output_dir` and `device` are to be set."""
    return {
        "imports": ["$import os", "$import pathlib"],
        "bundle_root": ".",
        "ckpt_path": f"$os.path.join(@bundle_root, {MODEL.parent.name!r}, {MODEL.name!r})",
        "dataset_dir": "$os.path.join(@bundle_root, 'data')",
        "output_dir": "$os.path.join(@bundle_root, 'eval')",
        "device": {"_target_": "diffusion_ood.runtime.device.pick_device"},
        "detector": {
            "_target_": "diffusion_ood.Detector.load",
            "path": "@ckpt_path",
            "device": "@device",
        },
        "network_def": "$@detector.content.diffusion.network",
        "inferer": "$@detector.measure",
        "dataset": {
            "_target_": "diffusion_ood.screening.inputs.gather",
            "places": "$[pathlib.Path(@dataset_dir)]",
        },
        "evaluator": {
            "_target_": "diffusion_ood.screening.screener.Screener",
            "detector": "@detector",
            "images": "@dataset",
            "output_dir": "@output_dir",
            "name": name,
        },
        "run": ["$@evaluator.run()"],
    }


def _readme(detector: Detector, name: str, run: str) -> str:
    channels, *sides = detector.image_shape
    size = f"{' x '.join(map(str, sides))} pixels ({', '.join(CHANNELS[channels])})"
    return f"""# {name}

{TASK}. {" ".join(f"{s[0].upper()}{s[1:]}." for s in detector.calibrated_to())}

Images become {size}. Calls of the network for each: {detector.calls_per_image}.
What runs it is diffusion-ood {__version__} or later with its extra `[bundle]`:

    {run}

`DECISIONS/decisions.csv` has a row for each image of the folder `IMAGES`: file, score, p_value and
is_ood, as of `diffusion-ood screen {MODEL.as_posix()} IMAGES`. `DECISIONS/report.html` shows the
most unusual. The same command again goes on where it stopped. `device`, too, can be set.
"""
