"""Scores by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.methods.scores.output_shift import OutputShift
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.networks.alexnet import MISSING, find_alexnet_features
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import SCORES_OF_IMAGES
from diffusion_ood.registries import SCORES
from diffusion_ood.runtime import distributed


def scores_of(names: Sequence[str], lpips_weights: str | Path | None = None) -> list[PairScore]:
    """The scores of these names that need no classifier, in the order of `SCORES`.

    Raises:
        UserError: LPIPS, and AlexNet's weights are not there.
    """
    built: list[PairScore] = []
    for kind in dict.fromkeys(SCORES[name] for name in SCORES if name in names):
        if kind is PerceptualDifference:
            weights = None if lpips_weights is None else Path(lpips_weights)
            built.append(PerceptualDifference(find_alexnet_features(weights)))
        elif kind is not OutputShift:
            built.append(kind())
    return built


def asked_scores(options: ReconstructOptions) -> list[PairScore]:
    """The scores that `reconstruct.py` is asked for; without AlexNet's weights, no LPIPS."""
    return scores_of(without_lpips(options), options.lpips_weights)


def without_lpips(options: ReconstructOptions) -> Sequence[str]:
    """The scores asked for; LPIPS is left out, with a sentence, where its weights are not there."""
    asked = options.scores or SCORES_OF_IMAGES
    lpips = {name for name in asked if SCORES[name] is PerceptualDifference}
    if not lpips or find_alexnet_features(options.lpips_weights) is not None:
        return asked
    distributed.print_once(f"LPIPS is left out: {MISSING}")
    return [name for name in asked if name not in lpips]
