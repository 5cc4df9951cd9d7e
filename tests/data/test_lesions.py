"""Lesions: they can be seen on every ground, are small, and come of a seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffusion_ood.data.faults.base import SEVERITIES, Image, PairFault, generator, with_fault
from diffusion_ood.data.faults.lesions import CHANGE, MOST, VISIBLE, visible
from diffusion_ood.registries import FAULTS

SHAPES = [(1, 28, 28), (3, 32, 20), (1, 200, 150), (1, 12, 16, 9), (1, 5, 6)]


def with_lesions(image: Image, severity: int, key: str, other: Image | None = None) -> Image:
    donor = np.full_like(image, 0.5) if other is None else other
    return with_fault(FAULTS["lesions"], image, severity, generator(2, key), donor)


def test_lesions_have_masks_and_no_other_fault_has() -> None:
    masked = [n for n in FAULTS if isinstance(FAULTS[n], PairFault) and FAULTS[n].masked]
    assert masked == ["lesions"]


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_lesion_can_be_seen_on_every_ground(shape: tuple[int, ...], level: float) -> None:
    image = np.full(shape, level)
    for severity in SEVERITIES:
        for key in "abcdefgh":
            after = with_lesions(image, severity, key, np.full(shape, level))
            mask = visible(image, after)
            assert mask.any()
            assert ndimage.label(mask)[1] <= MOST
            np.testing.assert_allclose(after[:, ~mask], image[:, ~mask], atol=1e-12)
            if level == 0:  # a patch of the same black is none: an ellipse brightens it
                least = CHANGE[severity - 1]
                assert after[:, mask].min() == pytest.approx(least)
            if level == 1:
                assert after[:, mask].max() == pytest.approx(1 - CHANGE[severity - 1])


def test_ellipses_and_patches_are_both_drawn() -> None:
    image, other = np.full((1, 64, 64), 0.4), np.full((1, 64, 64), 0.77)
    found = [with_lesions(image, 3, str(key), other) for key in range(60)]
    patches = sum(bool((after == 0.77).any()) for after in found)
    brighter = sum(bool(np.isclose(after, 0.8).any()) for after in found)
    darker = sum(bool((after < 1e-9).any()) for after in found)
    assert min(patches, brighter, darker) > 10


def test_at_severity_3_lesions_are_small_and_clear() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for key in range(60):
        image = ndimage.gaussian_filter(rng.random((1, 64, 64)), [0, 6, 6])
        image = (image - image.min()) / np.ptp(image)
        after = with_lesions(image, 3, str(key), image[:, ::-1])
        mask = visible(image, after)
        shares.append(mask.mean())
        assert np.abs(after - image)[:, mask].min() >= VISIBLE
    assert 0.02 < np.mean(shares) < 0.15
    assert min(shares) > 0


@pytest.mark.parametrize("shape", [(3, 20, 35), (1, 8, 8), (1, 60, 60)])
def test_a_patch_may_come_from_other_sides_and_channels(shape: tuple[int, ...]) -> None:
    other = np.random.default_rng(0).random(shape)
    for own in ((1, 30, 30), (3, 10, 24)):
        for key in "abcdef":
            after = with_lesions(np.full(own, 0.2), 5, key, other)
            assert after.shape == own
            assert visible(np.full(own, 0.2), after).any()
