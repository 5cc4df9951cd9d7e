"""How far a classifier's outputs move from an image to its reconstructions (Liu et al. 2022).

The settings of DiffOOD ("Out-of-Distribution Detection with Diffusion-based Neighborhood", arXiv
2211.11255): three noise levels with the same noise at all of them, and a class-conditional model
that is guided towards the class which the classifier sees in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffusion_ood.errors import UserError
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.options import ReconstructOptions


@dataclass(kw_only=True, eq=False)
class DiffOOD(Reconstruction):
    """Reconstructions with the published levels, steps and guidance, by four draws of noise.

    Args:
        classifier: checkpoint of `train_classifier.py`, of the diffusion model's classes.

    Raises:
        UserError: a classifier that is not there.
    """

    name = "diffood"

    classifier: str | Path = field(kw_only=False)
    levels: Sequence[int] = (120, 240, 360)
    num_inference_steps: int = 50
    repeats: int = 4
    sampler: str | None = "pndm4"
    scores: Sequence[str | PairScore] = ("logit_l1", "feature_l1", "msp", "maxlogit", "energy")
    labels: str = "pred"
    guidance: float = 2.0

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> DiffOOD:
        """With the classifier, the sampler, the repeats and the seed that are asked for."""
        if options.classifier_checkpoint is None:
            raise UserError("`methods` diffood: found no `classifier_checkpoint`, expected one")
        return cls(
            options.classifier_checkpoint,
            repeats=options.repeats or cls.repeats,
            sampler=options.sampler or cls.sampler,
            seed=options.seed,
        )
