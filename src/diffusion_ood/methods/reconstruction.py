"""Reconstructions from many noise levels, and how far each is from its image (Graham et al. 2023).

Every image is noised to each start point and led back. MSE and LPIPS from image to reconstruction
are the columns ("Denoising diffusion models for out-of-distribution detection", 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import Sampler
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.methods.forms import Forms
from diffusion_ood.methods.scores.base import PairScore, Scorer
from diffusion_ood.methods.scores.chosen import scores_of, without_lpips
from diffusion_ood.methods.scores.output_shift import OutputShift
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.resnet import Classifier, load_classifier
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.registries import SAMPLERS, SCORES
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.files import sha256
from diffusion_ood.runtime.transfers import later
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import BudgetGrid, Grid, LevelGrid, TimeGrid, network_calls
from diffusion_ood.trajectories.noise import image_noise
from diffusion_ood.trajectories.order import full_width, in_order

MAX_VALUES = 2**23  # of images whose features are held for comparison


@dataclass(kw_only=True, eq=False)
class Reconstruction(Method):
    """The distance of reconstructions to their image, a row for each start point and repeat.

    The start points are those of the whole time grid, of a few `levels`, or as many as a `budget`
    of network calls pays for.

    Args:
        budget: network calls an image, all repeats together, in place of the grid.
        budget_steps: steps from each noise level that the budget pays for.
        num_inference_steps: steps of the whole time grid.
        inference_skip_factor: every N-th start point of the grid is used.
        levels: start from these noise levels alone, with the same noise at all of them.
        repeats: draws of noise at each start point.
        sampler: a key of `SAMPLERS`; by default plms, and dpmpp_2m with a budget.
        scores: keys of `SCORES`, or scores themselves.
        classifier: checkpoint of `train_classifier.py`, for its scores and for `labels`.
        labels: the class that a model with classes is told: `none`, `pred` or `true`.
        guidance: strength β of classifier-free guidance.
        clip_denoised: whether predictions x̂_0 on the way are clipped to the range of images.
        lpips_weights: file of AlexNet's weights for LPIPS; by default torch's cache is looked in.
        seed: of the noise.

    Raises:
        UserError: weights or a classifier that are not there.
    """

    name = "reconstruction"

    budget: int | None = None
    budget_steps: int = 1
    num_inference_steps: int = 100
    inference_skip_factor: int = 1
    levels: Sequence[int] = ()
    repeats: int = 1
    sampler: str | None = None
    scores: Sequence[str | PairScore] = ("mse", "perceptual")
    classifier: str | Path | None = None
    labels: str = "none"
    guidance: float = 0.0
    clip_denoised: bool = False
    lpips_weights: str | Path | None = None
    seed: int = 2

    def __post_init__(self) -> None:
        self.levels = tuple(self.levels)
        self.sampler = self.sampler or ("plms" if self.budget is None else "dpmpp_2m")
        self._sampler: Sampler = SAMPLERS[self.sampler]
        self.needs_classes = self.labels == "true"
        if self.labels not in ("none", "pred", "true"):
            raise UserError(f"`labels`: found {self.labels!r}, expected none, pred or true")
        if self.guidance and self.labels == "none":
            raise UserError("`guidance`: has no effect with `labels` none, expected pred or true")
        self._network: Classifier | None = None
        self._of_classifier: dict[str, Any] = {}
        if self.classifier is not None:
            self._network, self._of_classifier = load_classifier(Path(self.classifier))
        self._scores = self._built()
        if not self.columns:
            raise UserError("`scores`: none of them can be computed, expected at least mse")

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Reconstruction:
        """The reconstructions that `reconstruct.py` is asked for; without its weights, no LPIPS."""
        return cls(
            budget=options.budget,
            budget_steps=options.budget_steps,
            num_inference_steps=options.num_inference_steps,
            inference_skip_factor=options.inference_skip_factor,
            levels=options.levels,
            repeats=options.repeats or cls.repeats,
            sampler=options.sampler,
            scores=without_lpips(options),
            classifier=options.classifier_checkpoint,
            labels=options.labels,
            guidance=options.guidance,
            clip_denoised=options.clip_denoised,
            lpips_weights=options.lpips_weights,
            seed=options.seed,
        )

    def __str__(self) -> str:
        straight = self.budget is not None and self.budget_steps == 1
        return f"{self.name}, {'x_0 predicted straight' if straight else f'by {self.sampler}'}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table, those of all scores."""
        return tuple(column for score in self._scores for column in score.columns)

    def grid(self, diffusion: Diffusion) -> Grid:
        """The start points, and the way down from them."""
        schedule, steps = diffusion.schedule, self.num_inference_steps
        if self.levels:
            return LevelGrid(schedule.num_timesteps, steps, tuple(self.levels))
        if self.budget is None:
            return TimeGrid(schedule.num_timesteps, steps, self.inference_skip_factor)
        calls_a_level = self.budget_steps * self._calls_a_step
        return BudgetGrid(schedule, self.budget // calls_a_level, self.budget_steps)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every start point and repeat."""
        return [(t, k) for t in self.grid(diffusion).starts for k in range(self.repeats)]

    def calls(self, diffusion: Diffusion) -> int:
        """Network calls an image; two for each of a guided step."""
        return network_calls(self.grid(diffusion), self._sampler) * self._calls_a_step

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """What the numbers depend on."""
        found: dict[str, Any] = {
            "sampler": self.sampler,
            "num_inference_steps": self.num_inference_steps,
            "starts": list(self.grid(diffusion).starts),
            "budget": self.budget,
            "budget_steps": self.budget_steps,
            "scores": list(self.columns),
            "seed": self.seed,
        }
        if self.levels:
            found["noise"] = "shared by all levels of a repeat"
        if self.clip_denoised:
            found["clip_denoised"] = True
        if self.repeats > 1:
            found["repeats"] = self.repeats
        if self.labels != "none":
            found |= {"labels": self.labels, "guidance": self.guidance}
        if self.classifier is not None:
            found["classifier"] = sha256(Path(self.classifier))
        return found

    def check(self, diffusion: Diffusion) -> None:
        """Raise a `UserError` for labels without classes, or a classifier of other images."""
        if self.labels != "none" and not diffusion.classes:
            raise UserError(
                f"`labels` {self.labels}: the diffusion model has no classes; "
                "train it with `num_classes`, or leave `labels` out"
            )
        if not self._of_classifier:
            return
        shape, names = (tuple(self._of_classifier[key]) for key in ("image_shape", "classes"))
        if shape != diffusion.image_shape:
            raise UserError(
                f"{self.classifier}: found a classifier of images of {shape}, expected "
                f"{diffusion.image_shape} like those of the diffusion model"
            )
        if self.labels == "pred" and names != diffusion.classes:
            raise UserError(
                f"{self.classifier}: found a classifier of the classes {', '.join(names)}, "
                f"expected those of the diffusion model, {', '.join(diffusion.classes)}"
            )

    @torch.inference_mode()
    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """The images whose reconstructions are all there, as soon as they are."""
        size = max(1, MAX_VALUES // max(1, batch.images[:1].numel()))
        for start in range(0, len(batch), size):
            for rows in self._measure(batch.part(range(start, start + size)), evaluator):
                yield Rows([start + image for image in rows.images], rows.measured)

    def _measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        grid, known = self.grid(evaluator.diffusion), batch.forms(evaluator.diffusion)
        num_draws = len(grid.starts) * self.repeats
        scorers = [Scorer(s, known.take(s.form), num_draws) for s in self._scores]
        left = torch.full((len(batch),), num_draws)
        shown = [scorer.reference for scorer in scorers if isinstance(scorer.score, OutputShift)]
        classes = self._classes(batch, shown[0][0] if shown else None)

        def done() -> Iterator[Tensor]:
            for image, draw, x in self._reconstruct(batch, evaluator, grid, self.repeats, classes):
                for scorer in scorers:
                    scorer.update(image, draw, x.take(scorer.score.form))
                left.sub_(torch.bincount(image, minlength=len(left)))
                yield image.unique()[left[image.unique()] == 0]

        for images in filter(len, later(done(), evaluator.device)):
            yield Rows(images.tolist(), torch.cat([s.compute(images) for s in scorers], dim=2))

    @torch.inference_mode()
    def panels(
        self, batch: ImageBatch, evaluator: Evaluator, grid: Grid, repeats: int = 1
    ) -> Tensor:
        """Images beside their reconstructions, t rising: `(B, 1 + draws, C, *S)` in [0, 1]."""
        panels = torch.empty(len(batch), 1 + len(grid.starts) * repeats, *batch.images.shape[1:])
        panels[:, 0] = batch.images.cpu()
        classes = self._classes(batch, None)
        for image, draw, found in self._reconstruct(batch, evaluator, grid, repeats, classes):
            panels[image, 1 + draw] = found.take("image").cpu()
        return panels

    def _reconstruct(
        self,
        batch: ImageBatch,
        evaluator: Evaluator,
        grid: Grid,
        repeats: int,
        classes: Sequence[int | None],
    ) -> Iterator[tuple[Tensor, Tensor, Forms]]:
        """Numbers of images (n,) and draws (n,), and their reconstructions.

        Draw k · repeats + r is repeat r at start point number k.
        """
        diffusion, num_draws = evaluator.diffusion, len(grid.starts) * repeats
        x_0 = batch.forms(diffusion).x.cpu()
        times = [grid.times(start) for start in grid.starts]  # once, not for every image
        steps, most = [len(passed) - 1 for passed in times], evaluator.width(self.guidance)
        trajectories = (
            Trajectory(
                image * num_draws + k * repeats + repeat,
                times[k],
                partial(self._noisy, diffusion, x_0[image], batch.keys[image], times[k][0], repeat),
                classes[image],
            )
            for image, k in in_order(len(batch), steps, most)
            for repeat in range(repeats)
        )
        how: dict[str, Any] = {"guidance": self.guidance, "clip": self.clip_denoised}
        how["width"] = full_width(len(batch) * repeats, steps, most)
        for step in evaluator.run(trajectories, self._sampler, **how):
            rows, x = step.ends()
            if rows:
                number = torch.tensor(rows)
                yield number // num_draws, number % num_draws, Forms(diffusion.codec, x)

    def _noisy(self, diffusion: Diffusion, x_0: Tensor, key: str, t: int, repeat: int) -> Tensor:
        """An x_0 `(C, *S)` with its own noise of this start point and repeat."""
        eps = image_noise(x_0.shape, self.seed, key, CLEAN if self.levels else t, repeat)
        return diffusion.schedule.add_noise(x_0[None], eps[None], torch.tensor([t]))[0]

    def _classes(self, batch: ImageBatch, logits: Tensor | None) -> Sequence[int | None]:
        """The class that each image is taken for, if any; by the classifier's logits, if known."""
        if self.labels == "none":
            return [None] * len(batch)
        if self.labels == "pred":
            if logits is None:
                assert self._network is not None, "the constructor asks for a classifier"
                prepare(self._network, batch.images.device)
                logits = self._network(batch.images)[0].float().cpu()
            return logits.argmax(1).tolist()
        if batch.classes is None:
            raise UserError("`labels` true: the classes of the images are not known")
        return batch.classes.tolist()

    @property
    def _calls_a_step(self) -> int:
        return self.repeats * (2 if self.guidance else 1)

    def _built(self) -> list[PairScore]:
        """The scores asked for, those of the classifier as one at the end."""
        names = [score for score in self.scores if isinstance(score, str)]
        built = [score for score in self.scores if not isinstance(score, str)]
        of_classifier = [name for name in names if SCORES[name] is OutputShift]
        if self._network is None and (of_classifier or self.labels == "pred"):
            asked = f"`scores` {of_classifier[0]}" if of_classifier else "`labels` pred"
            raise UserError(f"{asked}: found no `classifier_checkpoint`, expected one")
        built += scores_of(names, self.lpips_weights)
        if self._network is not None and of_classifier:
            built.append(OutputShift(self._network, of_classifier, self.repeats))
        return built
