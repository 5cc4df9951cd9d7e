"""Reconstructions whose predictions on the way are clipped."""

from __future__ import annotations

import torch
from gaussian import gaussian_diffusion

from diffusion_ood.methods.measure import measure
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.trajectories.evaluator import Evaluator


def test_nothing_is_clipped_unless_it_is_asked_for() -> None:
    """The settings, too, are those of earlier tables then."""
    diffusion = gaussian_diffusion()
    assert "clip_denoised" not in Reconstruction(scores=("mse",)).settings(diffusion)
    assert Reconstruction(scores=("mse",), clip_denoised=True).settings(diffusion)["clip_denoised"]
    evaluator = Evaluator(gaussian_diffusion(0.5, 4.0), "cpu", compile="off")
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    how = {"num_inference_steps": 3, "scores": ("mse",)}
    plain, clipped = (
        measure(Reconstruction(clip_denoised=clip, **how), images, evaluator, keys=list("abcd"))
        for clip in (False, True)
    )
    assert (plain["mse"] != clipped["mse"]).any()
