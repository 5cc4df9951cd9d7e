"""How much of an image the autoencoder of a latent model loses: a baseline without diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import Answers, Point, PointwiseMethod
from diffusion_ood.methods.scores.base import Distance, PairScore
from diffusion_ood.methods.scores.chosen import asked_scores, scores_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class AutoencoderError(PointwiseMethod):
    """The distance of D(E(y)) to an image y, a row an image, by no network call.

    Args:
        scores: the distances of images; by default MSE.
        seed: without effect.
    """

    name = "autoencoder"

    scores: Sequence[PairScore] = field(default_factory=lambda: scores_of(("mse",)))
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> AutoencoderError:
        """With those of the scores that are of images, at least MSE."""
        of_images = [score for score in asked_scores(options) if score.form == "image"]
        return cls(scores=of_images or scores_of(("mse",)), seed=options.seed)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all scores."""
        return tuple(column for score in self.scores for column in score.columns)

    def check(self, diffusion: Diffusion) -> None:
        """Raise a `UserError` for a model without an autoencoder."""
        if not diffusion.is_latent:
            raise UserError(
                "`methods` autoencoder: found a model of images, expected one of latents, trained "
                "with `vqvae_checkpoint`"
            )

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One, at the time of the clean image."""
        return [(CLEAN, 0)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The columns."""
        return {"columns": list(self.columns)}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """None."""
        return ()

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, 1, columns)`."""
        known = batch.forms(evaluator.diffusion)
        found = replace(known, images=None)
        found.decoded = known.decoded  # once, where others compare with it too
        return Distance(self.scores, known)(found)[:, None]
