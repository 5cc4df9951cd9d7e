"""The detector from Python: what it says, whatever the form and the company of an image."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ramps import JOINED, noise, ramps

from diffusion_ood import Detector, Diffusion
from diffusion_ood.calibration.conformal import p_values
from diffusion_ood.errors import UserError
from diffusion_ood.options import ReconstructOptions

MIXED = np.concatenate([ramps(6, 3), noise(5, 4)])


def test_an_image_has_one_score_in_any_form_and_company(detector: Detector, tmp_path: Path) -> None:
    together = detector.score(MIXED)
    alone = [detector.score(MIXED[k : k + 1]).score[0] for k in range(len(MIXED))]
    np.testing.assert_allclose(alone, together.score, atol=1e-6, rtol=0)
    paths = []
    for k, image in enumerate(MIXED):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(image).save(paths[-1])
    moved = shutil.copy(paths[2], tmp_path / "elsewhere.png")
    files = detector.score([*paths, moved])
    np.testing.assert_array_equal(files.score[:-1], together.score)
    assert files.score[-1] == files.score[2]
    unit = torch.from_numpy(MIXED[:, None].astype(np.float32) / 255)
    for images in (unit, unit.numpy(), MIXED[..., None], list(MIXED)):
        np.testing.assert_allclose(detector.score(images).score, together.score, atol=1e-6)


def test_decisions_follow_from_the_validation_scores(detector: Detector) -> None:
    found = detector.score(MIXED)
    np.testing.assert_array_equal(found.p_value, p_values(found.score, detector.val_scores))
    np.testing.assert_array_equal(found.is_ood, found.p_value <= 0.1)
    assert found.is_ood[6:].all()
    assert found.p_value[6:].max() == 1 / 61
    np.testing.assert_array_equal(detector.predict(MIXED), np.where(found.is_ood, -1, 1))
    np.testing.assert_array_equal(detector.score_samples(MIXED), -found.score)
    limit = detector.summary()["threshold"]
    np.testing.assert_array_equal(found.score > limit, found.is_ood)
    assert set(found.loudest) <= {"denoising", "score_geometry", "features"}


def test_no_images_have_no_scores(detector: Detector) -> None:
    found = detector.score(np.empty((0, 8, 8), np.uint8))
    assert len(found) == 0
    assert found.by_method.shape[0] == 0


def test_threads_get_the_same_answers(detector: Detector) -> None:
    expected = detector.score(MIXED).score
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda k: detector.score(MIXED[k : k + 1]).score[0], range(11)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_maps_cost_no_call_and_change_no_score(detector: Detector) -> None:
    pixels = torch.from_numpy(MIXED[:, None].astype(np.float32) / 255)
    before = detector._evaluator.calls
    plain = detector.measure(pixels)
    middle = detector._evaluator.calls
    with_maps = detector.measure(pixels, maps=True)
    assert detector._evaluator.calls - middle == middle - before == 11 * detector.calls_per_image
    np.testing.assert_array_equal(plain.score, with_maps.score)
    assert plain.maps is None
    assert with_maps.maps is not None
    assert with_maps.maps.shape == (11, 8, 8)
    assert with_maps.maps[6:].mean() > 2 * with_maps.maps[:6].mean()


def test_the_false_alarms_of_new_images_are_near_the_target(detector: Detector) -> None:
    rate = detector.score(ramps(300, 7)).is_ood.mean()
    assert 0.02 <= rate <= 0.2  # 0.1 ± what 60 validation images leave open


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (ReconstructOptions(methods=("reconstruction",), budget=4, scores=("mse",)), "zscore"),
        (ReconstructOptions(methods=("score_geometry",), num_levels=2), "log_gaussian"),
        (
            ReconstructOptions(methods=("joined", "path"), budget=3, scores=("mse",)),
            "any_of",
        ),
    ],
    ids=["one, directed", "one, either way", "joined and another"],
)
def test_methods_are_exchangeable(
    diffusion: Diffusion, tmp_path: Path, options: ReconstructOptions, kinds: str
) -> None:
    made = Detector.fit(diffusion, ramps(40, 1), ramps(30, 2), options=options, device="cpu")
    assert made.content.joined.kind == kinds
    found = made.score(MIXED)
    assert found.score[6:].min() > np.median(found.score[:6])
    made.save(tmp_path / "d")
    np.testing.assert_array_equal(
        Detector.load(tmp_path / "d", "cpu").score(MIXED).score, found.score
    )


def test_without_training_images_joined_goes_without_features(diffusion: Diffusion) -> None:
    made = Detector.fit(diffusion, ramps(20, 1), options=JOINED, device="cpu")
    assert [method.name for method in made.content.methods] == ["denoising", "score_geometry"]
    with pytest.raises(UserError, match="training_ids"):
        Detector.fit(diffusion, ramps(20, 1), options=ReconstructOptions(methods=("features",)))


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_validation_images_are_refused(diffusion: Diffusion, num: int) -> None:
    with pytest.raises(UserError, match="validation_ids"):
        Detector.fit(diffusion, ramps(2, 1)[:num], options=JOINED, device="cpu")


@pytest.mark.parametrize(
    "images",
    [noise(2, 1)[:, :7], noise(2, 1).astype(np.float64), noise(2, 1)[:, None, None]],
    ids=["size", "range", "axes"],
)
def test_wrong_arrays_are_refused(detector: Detector, images: np.ndarray) -> None:
    with pytest.raises(UserError, match="image 0"):
        detector.score(images)


def test_methods_that_need_a_classifier_are_refused(diffusion: Diffusion) -> None:
    with pytest.raises(UserError, match="diffood"):
        Detector.fit(diffusion, ramps(9, 1), options=ReconstructOptions(methods=("diffood",)))


def test_a_rate_is_between_0_and_1(diffusion: Diffusion) -> None:
    with pytest.raises(UserError, match="target_fpr"):
        Detector.fit(diffusion, ramps(9, 1), options=JOINED, target_fpr=2)


def test_scores_that_need_a_classifier_are_refused(diffusion: Diffusion) -> None:
    options = ReconstructOptions(methods=("denoising",), scores=("logit_l1",))
    with pytest.raises(UserError, match="logit_l1"):
        Detector.fit(diffusion, ramps(9, 1), options=options)
