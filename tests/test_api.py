"""The public names: `Diffusion` saved and loaded, and the example of docs/api.md."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from documents import ROOT
from gaussian import random_diffusion
from PIL import Image

import diffusion_ood
from diffusion_ood import Diffusion, Evaluator, measure
from diffusion_ood.commands import reconstruct
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.scores import chosen
from diffusion_ood.model import versions
from diffusion_ood.options import DiffusionOptions, ImageOptions, LoadingOptions

SPLITS = {"val": "A_val", "in": "A_test", "B": "B_test"}
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Diffusion, Path]:
    """A model with classes in a range of its own, and where it was saved."""
    options = DiffusionOptions(
        model_type="tiny",
        num_classes=2,
        prediction_type="v_prediction",
        beta_schedule="cosine",
        data_range="pm1",
        b_scale=0.5,
        snr_shift=0.25,
    )
    images = ImageOptions(is_grayscale=True, image_size=8, intensity_range=(0.0, 4.0))
    diffusion = Diffusion(options, (1, 8, 8), images, ("cat", "dog"))
    diffusion.network.load_state_dict(random_diffusion(num_classes=2).network.state_dict())
    diffusion.network.eval()
    path = tmp_path / "model.pth"
    diffusion.save(path)
    return diffusion, path


def test_a_loaded_model_is_the_saved_one(saved: tuple[Diffusion, Path]) -> None:
    diffusion, path = saved
    loaded = Diffusion.load(path)
    for found in (loaded, Diffusion.load(str(path))):
        assert found.options == diffusion.options
        assert found.image_options == diffusion.image_options
        assert found.image_shape == (1, 8, 8)
        assert found.classes == ("cat", "dog")
        assert found.null_label == 2
        assert found.codec.limits == (-0.5, 0.5)
        assert not found.network.training
        weights = found.network.state_dict()
        for name, weight in diffusion.network.state_dict().items():
            assert torch.equal(weights[name], weight), name
    t = torch.tensor([1, 500, 999])
    assert torch.equal(loaded.schedule.alphas_cumprod(t), diffusion.schedule.alphas_cumprod(t))
    with torch.inference_mode():
        assert torch.equal(loaded.denoiser()(IMAGES, t), diffusion.denoiser()(IMAGES, t))


def test_the_digest_is_that_of_the_file(saved: tuple[Diffusion, Path], tmp_path: Path) -> None:
    diffusion, path = saved
    loaded = Diffusion.load(path)
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    again = tmp_path / "again.pth"
    loaded.save(again)
    assert Diffusion.load(again).digest == loaded.digest
    with torch.no_grad():
        next(diffusion.network.parameters()).add_(1)
    diffusion.save(path)
    assert Diffusion.load(path).digest != loaded.digest


def test_a_saved_model_measures_as_before(saved: tuple[Diffusion, Path]) -> None:
    diffusion, path = saved
    method = Reconstruction(budget=4, scores=["mse"])
    tables = [
        measure(method, IMAGES, Evaluator(model, "cpu", compile="off"))
        for model in (diffusion, Diffusion.load(path))
    ]
    assert tables[0].equals(tables[1])


def test_the_checkpoint_of_a_training_is_loaded(trained: Path) -> None:
    diffusion = Diffusion.load(trained / "checkpoint_best.pth")
    assert diffusion.image_shape == (1, 8, 8)
    assert diffusion.options.model_type == "tiny"
    assert diffusion.image_options.is_grayscale
    assert 1 <= (diffusion.epoch or 0) <= 10


def test_a_missing_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        Diffusion.load(tmp_path / "model.pth")


def test_a_side_that_cannot_be_halved_is_a_user_error() -> None:
    with pytest.raises(UserError, match="`image_size`"):
        Diffusion(DiffusionOptions(model_type="tiny"), (1, 9, 9))


def test_versions_are_texts() -> None:
    found = versions()
    assert {"diffusion_ood", "torch", "monai", "networks", "python"} <= found.keys()
    assert all(isinstance(version, str) and version for version in found.values())


def test_the_package_imports_no_torch_until_it_is_needed() -> None:
    code = (
        "import sys, diffusion_ood; "
        "print({'torch', 'monai', 'pandas', 'numpy', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(diffusion_ood.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", diffusion_ood.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(diffusion_ood, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = diffusion_ood.nothing
    assert not hasattr(diffusion_ood, "_nothing")


def arrays(csv: Path) -> tuple[np.ndarray, list[str]]:
    """The images of a split as an array of NumPy, and their paths there."""
    found = open_images(
        read_split(csv), ImageOptions(is_grayscale=True), LoadingOptions(num_workers=0)
    )
    return found.batch(list(range(len(found)))).numpy(), list(found.split.images)


def examples() -> list[str]:
    """The Python blocks of docs/api.md."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.S | re.M)


def test_the_example_of_the_documents_measures_as_the_command_does(
    run_dir: Path,
    splits: Path,
    score_flags: Callable[[Path], list[str]],
    random_features: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: random_features)
    example, _ = examples()
    assert len(example.splitlines()) <= 10
    documented = "runs/mine/checkpoint_best.pth"
    assert documented in example
    sets = {name: arrays(splits / f"{csv}.csv") for name, csv in SPLITS.items()}
    names = {"validation": sets["val"][0], "images": sets["B"][0]}
    exec(example.replace(documented, str(run_dir / "checkpoint_best.pth")), names)
    assert len(names["scores"]) == len(names["images"])
    assert np.isfinite(names["scores"]).all()

    flags = [flag for flag in score_flags(run_dir) if "num_inference_steps" not in flag]
    reconstruct.main([*flags, "--budget=10"])
    for name, (images, paths) in sets.items():
        found = names["measure"](names["method"], images, names["evaluator"], keys=paths)
        expected = pd.read_csv(run_dir / f"ood/results_{name}.csv").drop(columns="type")
        assert list(expected.columns) == ["filename", "t", "mse", "perceptual_difference"]
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=0, atol=1e-6)


def test_the_detector_of_the_documents_trusts_what_its_files_are_trusted_for(
    run_dir: Path,
    splits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, example = examples()
    documented = "runs/mine/checkpoint_best.pth"
    assert documented in example
    sets = {name: arrays(splits / f"{csv}.csv")[0] for name, csv in SPLITS.items()}
    training = np.concatenate([arrays(splits / f"{n}.csv")[0] for n in ("A_train", "A_more")])
    names = {"validation": sets["val"], "training": training, "images": sets["B"]}
    exec(example.replace(documented, str(run_dir / "checkpoint_best.pth")), names)
    found, detector = names["found"], names["detector"]
    assert len(found) == len(sets["B"])
    assert len(names["trusted"]) == (~found.is_ood).sum()
    paths = [read_split(splits / "B_test.csv").image_path(i) for i in range(len(found))]
    stored = [np.asarray(Image.open(path)) for path in paths]
    last = np.stack(stored)[..., None]
    for images in (paths, stored, last, torch.from_numpy(last), np.stack(stored) / 255):
        np.testing.assert_allclose(detector.score(images).score, found.score, rtol=1e-6)
    assert np.array_equal(detector.predict(paths) == -1, found.is_ood)
    np.testing.assert_allclose(detector.score_samples(paths), -found.score, rtol=1e-6)


def test_a_compiled_network_takes_the_place_of_the_models_own() -> None:
    diffusion = Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8))
    compiled = torch.compile(diffusion.network)  # which has no truth value
    assert diffusion.denoiser(compiled).network is compiled
    assert diffusion.denoiser().network is diffusion.network
