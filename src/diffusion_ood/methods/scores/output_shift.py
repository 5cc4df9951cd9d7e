"""How far a classifier's outputs move from an image to its reconstructions (Liu et al. 2022).

With z the output divided by its length, f_j that of level j and f_0 that of the image itself:

    global   G_j = ‖z_0 − z_j‖₁,    local   S_j = ‖z_{j−1} − z_j‖₁,    in [0, 2√d]

The outputs are the logits (d classes) or the pooled features. From the logits of the image alone:

    msp       −max softmax(f_0)   (Hendrycks & Gimpel 2017)
    maxlogit  −max f_0            (Hendrycks et al. 2022)
    energy    −log Σ exp f_0      (Liu et al. 2020, T = 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.runtime.device import prepare

Classifier = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps images `(B, C, *S)` in [0, 1] to logits `(B, K)` and features `(B, F)`."""

MOVEMENTS = ("logit_l1", "feature_l1")
BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "msp": lambda logits: -logits.softmax(1).amax(1),
    "maxlogit": lambda logits: -logits.amax(1),
    "energy": lambda logits: -logits.logsumexp(1),
}
NAMES = (*MOVEMENTS, *BASELINES)

_TINY = 1e-10  # keeps a zero vector zero


def unit(outputs: Tensor) -> Tensor:
    """Outputs `(…, d)` divided by their Euclidean length."""
    return outputs / (outputs.norm(dim=-1, keepdim=True) + _TINY)


def movements(reference: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Global and local L1 distances, `(B, J, R)` each.

    Args:
        reference: unit vectors of the images themselves, shape `(B, d)`.
        outputs: unit vectors at J rising levels and R repeats, shape `(B, J, R, d)`.
    """
    start = reference[:, None, None].expand(-1, 1, outputs.shape[2], -1)
    before = torch.cat([start, outputs[:, :-1]], dim=1)
    return (start - outputs).abs().sum(-1), (before - outputs).abs().sum(-1)


class OutputShift(PairScore):
    """Which of the scores to take, by which classifier.

    Args:
        classifier: in evaluation mode.
        names: some of `NAMES`.
        repeats: draws of noise at each level.
    """

    def __init__(self, classifier: Classifier, names: Sequence[str], repeats: int) -> None:
        self.classifier = classifier
        self.repeats = repeats
        self.moving = tuple(name for name in MOVEMENTS if name in names)
        self.baselines = tuple(name for name in BASELINES if name in names)

    @property
    def columns(self) -> tuple[str, ...]:
        """A global and a local one for each movement."""
        moving = (f"{name}_{kind}" for name in self.moving for kind in ("global", "local"))
        return (*moving, *self.baselines)

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits `(B, K)` and features `(B, F)` of images `(B, C, *S)` in [0, 1], on the CPU."""
        if isinstance(self.classifier, nn.Module):
            prepare(self.classifier, images.device)
        logits, features = self._outputs(images)
        return logits.cpu(), features.cpu()

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """The outputs that move, as unit vectors side by side, `(B, values)`."""
        if not self.moving:
            return reconstructions.new_empty(len(reconstructions), 0)
        return torch.cat([unit(part) for part in self._moving(self._outputs(reconstructions))], 1)

    def finish(self, reference: tuple[Tensor, ...], values: Tensor) -> Tensor:
        """Every column, `(B, draws, columns)`."""
        columns: list[Tensor] = []
        start = self._moving(reference)
        sizes = [part.shape[1] for part in start]
        for part, outputs in zip(start, values.split(sizes, 2) if sizes else (), strict=True):
            pair = movements(unit(part), outputs.unflatten(1, (-1, self.repeats)))
            columns += [part.flatten(1) for part in pair]
        of_image = [BASELINES[name](reference[0])[:, None] for name in self.baselines]
        columns += [score.expand(-1, values.shape[1]) for score in of_image]
        return torch.stack(columns, 2)

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.classifier(images)
        return logits.float(), features.float()

    def _moving(self, outputs: tuple[Tensor, ...]) -> list[Tensor]:
        named = zip(MOVEMENTS, outputs, strict=True)
        return [part for name, part in named if name in self.moving]
