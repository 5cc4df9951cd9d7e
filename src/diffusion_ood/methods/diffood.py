"""How far a classifier's outputs move from an image to its reconstructions (Liu et al. 2022).

The settings of DiffOOD ("Out-of-Distribution Detection with Diffusion-based Neighborhood", arXiv
2211.11255): three noise levels with the same noise at all of them, and a class-conditional model
that is guided towards the class which the classifier sees in the image. Each of them can be varied
by `Reconstruction` with the same scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood.errors import UserError
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.options import ReconstructOptions

if TYPE_CHECKING:
    from typing_extensions import Self

LEVELS = (120, 240, 360)
STEPS = 50
GUIDANCE = 2.0
REPEATS = 4
SCORES = ("logit_l1", "feature_l1", "msp", "maxlogit", "energy")


class DiffOOD(Reconstruction):
    """DiffOOD with the published levels, steps and guidance.

    Args:
        classifier: checkpoint of `train_classifier.py`, of the diffusion model's classes.
        repeats: draws of noise.
        sampler: a key of `SAMPLERS`.
        seed: of the noise.

    Raises:
        UserError: a classifier that is not there.
    """

    name = "diffood"

    def __init__(
        self,
        classifier: str | Path,
        *,
        repeats: int = REPEATS,
        sampler: str = "pndm4",
        seed: int = 2,
    ) -> None:
        super().__init__(
            levels=LEVELS,
            num_inference_steps=STEPS,
            repeats=repeats,
            sampler=sampler,
            scores=SCORES,
            classifier=classifier,
            labels="pred",
            guidance=GUIDANCE,
            seed=seed,
        )

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Self:
        """With the classifier, sampler and seed that are asked for, and repeats above 1."""
        if options.classifier_checkpoint is None:
            raise UserError("`methods` diffood: found no `classifier_checkpoint`, expected one")
        return cls(
            options.classifier_checkpoint,
            repeats=options.repeats if options.repeats > 1 else REPEATS,
            sampler=options.sampler or "pndm4",
            seed=options.seed,
        )
