"""Run files: options survive JSON and checkpoints, and contradictions name their flag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffusion_ood.commands import run_files
from diffusion_ood.errors import UserError
from diffusion_ood.options import DiffusionOptions, ImageOptions, RunOptions, TrainOptions

IMAGES = ImageOptions(is_grayscale=True, image_roi=(160, -1), intensity_range=(0.0, 4.0))


@pytest.mark.parametrize("options", [IMAGES, ImageOptions(), DiffusionOptions(b_scale=0.5)])
def test_options_come_back_equal_through_json(options: object) -> None:
    stored = json.loads(json.dumps(to_dict(options)))
    assert run_files.restore(type(options), stored) == options


def test_paths_become_texts() -> None:
    assert to_dict(RunOptions(Path("a/b"), "m")) == {"output_dir": "a/b", "model_name": "m"}


def test_all_options_fit_into_json() -> None:
    json.dumps(to_dict(TrainOptions(Path("a.csv"), Path("b.csv"))))


def test_equal_values_are_no_contradiction_whether_list_or_tuple() -> None:
    stored = json.loads(json.dumps(to_dict(IMAGES)))
    run_files.refuse_contradiction(to_dict(IMAGES), stored, stored, Path("c.pth"))


def test_a_contradiction_names_the_flag_both_values_and_the_file() -> None:
    asked, stored = to_dict(ImageOptions(image_size=32)), to_dict(ImageOptions())
    with pytest.raises(UserError, match=r"--image_size: found 32, but c\.pth .* with None"):
        run_files.refuse_contradiction(asked, stored, ["image_size"], Path("c.pth"))
    run_files.refuse_contradiction(asked, stored, ["is_grayscale"], Path("c.pth"))


def test_kept_checkpoints_are_named_by_their_epoch() -> None:
    assert run_directory.epoch_checkpoint(Path("out/m"), 7) == Path("out/m/checkpoint_7.pth")


def test_versions_are_texts() -> None:
    found = versions()
    assert {"diffusion_ood", "torch", "monai", "networks", "python"} <= found.keys()
    assert all(isinstance(version, str) and version for version in found.values())
