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
from torch import Tensor

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


class ClassifierScores:
    """Which of the scores to take, by which classifier.

    Args:
        classifier: on its device, in evaluation mode.
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
        """Of the score table: a global and a local one for each movement."""
        moving = (f"{name}_{kind}" for name in self.moving for kind in ("global", "local"))
        return (*moving, *self.baselines)

    def watch(self, images: Tensor) -> Watch:
        """Begin with images `(B, C, *S)` in [0, 1]; their reconstructions are to be shown."""
        return Watch(self, images)


class Watch:
    """The classifier's outputs on one batch of images and on what is made of them."""

    def __init__(self, scores: ClassifierScores, images: Tensor) -> None:
        self._scores = scores
        self._reference = self._outputs(images)
        self._seen: list[tuple[Tensor, Tensor, tuple[Tensor, Tensor]]] = []

    @property
    def predicted(self) -> Tensor:
        """The class of each image, (B,), on the CPU."""
        return self._reference[0].argmax(1)

    def show(self, image: Tensor, slot: Tensor, reconstructions: Tensor) -> None:
        """Take in reconstructions `(n, C, *S)` of these images (n,) in these slots (n,)."""
        if self._scores.moving:
            self._seen.append((image, slot, self._outputs(reconstructions)))

    def values(self, num_slots: int) -> Tensor:
        """Every column of every image and slot, `(B, num_slots, columns)`; NaN where unseen."""
        logits = self._reference[0]
        shape = (len(logits), num_slots)
        columns: list[Tensor] = []
        for name in self._scores.moving:
            kind = MOVEMENTS.index(name)
            reference = unit(self._reference[kind])
            outputs = reference.new_full((*shape, reference.shape[1]), torch.nan)
            for image, slot, found in self._seen:
                outputs[image, slot] = unit(found[kind])
            by_repeat = outputs.unflatten(1, (-1, self._scores.repeats))
            columns += [part.flatten(1) for part in movements(reference, by_repeat)]
        columns += [
            BASELINES[name](logits)[:, None].expand(shape) for name in self._scores.baselines
        ]
        return torch.stack(columns, dim=2) if columns else logits.new_empty((*shape, 0))

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self._scores.classifier(images)
        return logits.float().cpu(), features.float().cpu()
