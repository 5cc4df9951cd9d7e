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


class OutputShift:
    """Which of the scores to take, by which classifier.

    Args:
        classifier: in evaluation mode.
        names: some of `NAMES`; none, where the predicted classes alone are wanted.
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

    def begin(self, images: Tensor, draws: int) -> OutputShiftScorer:
        """Begin with images `(B, C, *S)` in [0, 1], of each of which so many draws will come."""
        if isinstance(self.classifier, nn.Module):
            prepare(self.classifier, images.device)
        return OutputShiftScorer(self, images, draws)


class OutputShiftScorer:
    """The classifier's outputs on one batch of images and on their reconstructions."""

    def __init__(self, score: OutputShift, images: Tensor, draws: int) -> None:
        self._score = score
        self._draws = draws
        self._reference = self._outputs(images)
        self._moved = {
            name: outputs.new_full((len(images), draws, outputs.shape[1]), torch.nan)
            for name, outputs in zip(MOVEMENTS, self._reference, strict=True)
            if name in score.moving
        }

    @property
    def predicted(self) -> Tensor:
        """The class of each image, (B,), on the CPU."""
        return self._reference[0].argmax(1)

    def update(self, image: Tensor, draw: Tensor, reconstructions: Tensor) -> None:
        """Take in reconstructions `(n, C, *S)` of these images (n,) and draws (n,)."""
        if self._moved:
            found = dict(zip(MOVEMENTS, self._outputs(reconstructions), strict=True))
            for name, outputs in self._moved.items():
                outputs[image, draw] = unit(found[name])

    def compute(self, images: Tensor) -> Tensor:
        """Every column of these images (n,), `(n, draws, columns)`."""
        logits, references = self._reference[0], dict(zip(MOVEMENTS, self._reference, strict=True))
        columns: list[Tensor] = []
        for name, outputs in self._moved.items():
            by_repeat = outputs[images].unflatten(1, (-1, self._score.repeats))
            pair = movements(unit(references[name][images]), by_repeat)
            columns += [part.flatten(1) for part in pair]
        columns += [
            BASELINES[name](logits[images])[:, None].expand(-1, self._draws)
            for name in self._score.baselines
        ]
        return torch.stack(columns, 2) if columns else logits.new_empty(len(images), self._draws, 0)

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self._score.classifier(images)
        return logits.float().cpu(), features.float().cpu()
