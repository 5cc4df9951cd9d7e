"""Options survive JSON and checkpoints; contradictions name their option."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffusion_ood.errors import UserError
from diffusion_ood.model import versions
from diffusion_ood.options import DiffusionOptions, ImageOptions, RunOptions, TrainOptions
from diffusion_ood.options.stored import from_dict, refuse_contradiction, stored_options, to_dict
from diffusion_ood.runtime.run_directory import (
    checkpoint_path,
    epoch_checkpoint,
    require_checkpoint,
)

IMAGES = ImageOptions(is_grayscale=True, image_roi=(160, -1), intensity_range=(0.0, 4.0))
PATH = Path("c.pth")


@pytest.mark.parametrize("options", [IMAGES, ImageOptions(), DiffusionOptions(b_scale=0.5)])
def test_options_come_back_equal_through_json(options: object) -> None:
    stored = json.loads(json.dumps(to_dict(options)))
    assert from_dict(type(options), stored) == options


def test_paths_become_texts() -> None:
    assert to_dict(RunOptions(Path("a/b"), "m")) == {"output_dir": "a/b", "model_name": "m"}


def test_all_options_fit_into_json() -> None:
    json.dumps(to_dict(TrainOptions(Path("a.csv"), Path("b.csv"))))


def test_options_younger_than_a_checkpoint_have_their_defaults() -> None:
    content = {"options": {"ImageOptions": {"image_size": 32}}}
    assert stored_options(ImageOptions, content, PATH) == ImageOptions(image_size=32)


def test_volumes_of_a_checkpoint_older_than_orientation_lie_as_stored() -> None:
    content = {"options": {"ImageOptions": {"spatial_dimension": 3}}}
    found = stored_options(ImageOptions, content, PATH)
    assert found == ImageOptions(spatial_dimension=3, orientation="stored")
    content["options"]["ImageOptions"]["orientation"] = "RAS"
    assert stored_options(ImageOptions, content, PATH) == ImageOptions(spatial_dimension=3)


def test_a_checkpoint_of_another_kind_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match=r"c\.pth.*ImageOptions.*DiffusionOptions"):
        stored_options(DiffusionOptions, {"options": {"ImageOptions": {}}}, PATH)


def test_equal_values_are_no_contradiction_whether_list_or_tuple() -> None:
    stored = from_dict(ImageOptions, json.loads(json.dumps(to_dict(IMAGES))))
    refuse_contradiction(IMAGES, stored, to_dict(IMAGES), PATH)


def test_a_contradiction_names_the_option_both_values_and_the_file() -> None:
    asked, stored = ImageOptions(image_size=32), ImageOptions()
    with pytest.raises(UserError, match=r"`image_size`.* 32.*c\.pth.* None"):
        refuse_contradiction(asked, stored, ["image_size"], PATH)
    refuse_contradiction(asked, stored, ["is_grayscale"], PATH)


def test_checkpoints_are_named_by_their_epoch_or_what_they_are() -> None:
    assert epoch_checkpoint(Path("out/m"), 7) == Path("out/m/checkpoint_7.pth")
    assert checkpoint_path(Path("out/m"), "best") == Path("out/m/checkpoint_best.pth")
    assert checkpoint_path(Path("out/m"), "last") == Path("out/m/checkpoint.pth")
    assert checkpoint_path(Path("out/m"), "x.pth") == Path("x.pth")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pth"):
        require_checkpoint(tmp_path / "none.pth")


def test_versions_are_texts() -> None:
    found = versions()
    assert {"diffusion_ood", "torch", "monai", "networks", "python"} <= found.keys()
    assert all(isinstance(version, str) and version for version in found.values())
