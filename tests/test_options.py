"""Options: every impossible value is refused by the name of its flag."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffusion_ood import options
from diffusion_ood.errors import UserError
from diffusion_ood.options import DiffusionOptions, ImageOptions, RunOptions
from diffusion_ood.options.fields import option, refuse_outside

REQUIRED: dict[str, dict[str, Any]] = {
    "RunOptions": {"output_dir": Path("out"), "model_name": "m"},
    "TrainOptions": {"training_ids": Path("a"), "validation_ids": Path("b")},
    "DatasetOptions": {"data_root": Path("d")},
}

REFUSED = [
    *[("RunOptions", "model_name", name) for name in ("", "a/b", "..", ".", "/a")],
    ("ImageOptions", "spatial_dimension", 4),
    ("ImageOptions", "image_size", 0),
    *[("ImageOptions", "image_roi", roi) for roi in ((3,), (3, 0), (3, -2), (3, 3, 3), ())],
    *[("ImageOptions", "intensity_range", pair) for pair in ((1.0,), (1.0, 1.0), (2.0, 1.0))],
    ("ImageOptions", "intensity_range", (float("nan"), 1.0)),
    ("LoadingOptions", "num_workers", -1),
    *[("DiffusionOptions", name, 0.0) for name in ("b_scale", "snr_shift", "beta_start")],
    ("DiffusionOptions", "beta_end", 1.0),
    ("DiffusionOptions", "beta_end", 1e-5),  # below beta_start
    ("DiffusionOptions", "simplex_noise", True),
    *[
        ("TrainOptions", name, 0)
        for name in (
            "n_epochs",
            "batch_size",
            "lr",
            "eval_freq",
            "checkpoint_every",
            "max_train_t",
        )
    ],
    ("TrainOptions", "lr", float("nan")),
    ("TrainOptions", "ema_decay", 1.0),
    ("TrainOptions", "ema_decay", -0.1),
    *[
        ("ReconstructOptions", name, 0)
        for name in (
            "first_n",
            "first_n_val",
            "num_inference_steps",
            "inference_skip_factor",
            "batch_size",
        )
    ],
    ("EvaluationOptions", "max_batch", 0),
    ("ReconstructOptions", "save_images", -1),
    ("DetectOptions", "t_skip", 0),
    ("DetectOptions", "n_bootstrap", -1),
    ("DetectOptions", "target_fpr", 0.0),
    ("DetectOptions", "target_fpr", 1.0),
    ("DatasetOptions", "num_workers", -1),
    ("DatasetOptions", "seed", -1),
    ("DatasetOptions", "image_folder", Path("f")),  # without a name
    ("DatasetOptions", "name", "n"),  # without a folder
    ("DatasetOptions", "group_by", "(.*)"),  # without a folder
    ("DatasetOptions", "test_fraction", 0.0),
    ("DatasetOptions", "test_fraction", 1.1),
]


def build(cls: str, **values: Any) -> Any:
    return getattr(options, cls)(**{**REQUIRED.get(cls, {}), **values})


@pytest.mark.parametrize(("cls", "field", "value"), REFUSED)
def test_an_impossible_value_is_refused_by_its_flag(cls: str, field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"`{field}`"):
        build(cls, **{field: value})


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_a_data_set_has_the_name_of_one_folder(name: str) -> None:
    with pytest.raises(UserError, match="`name`"):
        build("DatasetOptions", image_folder=Path("f"), name=name)


@pytest.mark.parametrize("cls", sorted({cls for cls, _, _ in REFUSED} | {"ComputeOptions"}))
def test_the_defaults_are_possible_and_cannot_be_changed_later(cls: str) -> None:
    built = build(cls)
    field = dataclasses.fields(built)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(built, field, None)


def test_two_names_of_one_schedule_are_equal() -> None:
    for short, full in (("linear", "linear_beta"), ("scaled_linear", "scaled_linear_beta")):
        assert DiffusionOptions(beta_schedule=short) == DiffusionOptions(beta_schedule=full)
    assert DiffusionOptions(beta_schedule="linear") != DiffusionOptions(beta_schedule="cosine")


def test_the_limits_themselves_are_allowed() -> None:
    assert build("TrainOptions", ema_decay=0.0, max_train_t=1).max_train_t == 1
    assert ImageOptions(spatial_dimension=3, image_roi=(1, -1, 5)).image_roi == (1, -1, 5)
    assert DiffusionOptions(beta_start=0.01, beta_end=0.01).beta_end == 0.01


def test_grey_images_have_one_channel_and_others_three() -> None:
    assert (ImageOptions(is_grayscale=True).channels, ImageOptions().channels) == (1, 3)


def test_a_run_lies_in_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunOptions(Path("out"), "m").ood_dir == Path("out/m/ood")
    monkeypatch.setenv("HOME", "/home/user")
    assert RunOptions(Path("~/out"), "m").run_dir == Path("/home/user/out/m")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_that_has_one_core_decodes_in_one_process() -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    shown = "from diffusion_ood.options import LoadingOptions as L; print(L().num_workers)"
    done = subprocess.run([sys.executable, "-c", f"{one}; {shown}"], capture_output=True, text=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"least": 1}, (1, 10**400), (0, -1)),
        ({"above": 0, "most": 2.5}, (1e-300, 2.5), (0, 2.6)),
        ({"least": 0, "below": 1}, (0, 0.99), (-1e-9, 1)),
    ],
)
def test_bounds_are_kept_and_what_is_not_finite_is_refused(
    bounds: dict[str, float], inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    for value in inside:
        refuse_outside("x", value, **bounds)
    for value in (*outside, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(UserError, match=rf"`x`: .*{value}.*{max(bounds.values())}"):
            refuse_outside("x", value, **bounds)


def test_a_bound_that_is_not_known_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        option("a number", 1, leest=0)
