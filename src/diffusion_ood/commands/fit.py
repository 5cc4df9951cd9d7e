r"""Fit a detector: one file that says of any image whether it belongs to a model's distribution.

    diffusion-ood fit --output_dir runs --model_name mine \
        --validation_ids data/data_splits/mine_val.csv \
        --training_ids data/data_splits/mine_train.csv --detector mine.detector

Reads a run's checkpoint and splits. `diffusion-ood screen` asks the detector about images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from diffusion_ood import cli
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectorOptions, LoadingOptions, ReconstructOptions, RunOptions
from diffusion_ood.options.reconstruction import JOINED, MIN_REFERENCE, refuse_idle
from diffusion_ood.runtime import launch, run_directory

if TYPE_CHECKING:
    from diffusion_ood.data.loaders import ImageSet
    from diffusion_ood.data.splits import Split
    from diffusion_ood.methods.base import Method
    from diffusion_ood.model import Diffusion
    from diffusion_ood.trajectories.evaluator import Evaluator

GROUPS = (RunOptions, DetectorOptions, LoadingOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments.

    Raises:
        UserError: a wrong flag or image, or images that are too few or all of one score.
    """
    line = cli.parse(__doc__, GROUPS, argv)
    run, asked = line[RunOptions], line[DetectorOptions]
    refuse_idle(asked.methods, line.given)
    if launch.is_launched() and launch.number("WORLD_SIZE") > 1:
        raise UserError("found several processes, expected one: start this without torchrun")
    checkpoint = run_directory.checkpoint_path(run.run_dir, asked.eval_checkpoint)
    run_directory.require_checkpoint(checkpoint)
    from diffusion_ood.data.splits import read_split

    validation = read_split(asked.validation_ids)
    training = read_split(asked.training_ids) if asked.training_ids else None

    from diffusion_ood.detector import Detector, methods_of, new_evaluator
    from diffusion_ood.detector.file import refuse_other_file
    from diffusion_ood.methods.chosen import for_model
    from diffusion_ood.model import Diffusion

    refuse_other_file(asked.detector)
    diffusion = Diffusion.load(checkpoint)
    options = for_model(_options(asked), diffusion)
    methods = methods_of(options, learning=training is not None)
    val = _validation(_open(validation, asked.first_n_val, diffusion, line), diffusion)
    reference = None
    if training is not None and any(method.learns for method in methods):
        reference = _open(training, asked.first_n_reference, diffusion, line)
        _refuse_shared(val, reference)
    evaluator = new_evaluator(diffusion, asked.device, asked.precision)
    _announce(options, methods, evaluator, len(val), len(reference) if reference else 0)
    detector = Detector.fit(
        diffusion,
        val,
        reference,
        options=options,
        target_fpr=asked.target_fpr,
        device=evaluator.device,
        precision=asked.precision,
        keep_names=asked.keep_names,
        progress=True,
    )
    detector.save(asked.detector)
    for sentence in detector.calibrated_to():
        print(cli.as_flags(sentence))
    screen = f"{cli.CONSOLE} screen {asked.detector} IMAGE_OR_FOLDER_OR_CSV"
    print(f"written: {asked.detector}; next: {screen}")


def _options(asked: DetectorOptions) -> ReconstructOptions:
    """What `reconstruct.py` would be told to measure the same."""
    return ReconstructOptions(
        methods=asked.methods,
        budget=asked.budget,
        num_levels=asked.num_levels,
        repeats=asked.repeats,
        scores=asked.scores,
        seed=asked.seed,
    )


def _open(split: Split, first: int | None, diffusion: Diffusion, line: cli.CommandLine) -> ImageSet:
    """The first images of a split."""
    from diffusion_ood.data.slices import sliced
    from diffusion_ood.scoring.opening import open_for

    split = sliced(split, diffusion.image_options)
    split = split if first is None else split.first(first)
    return open_for(diffusion, split, split.name, line[LoadingOptions], line[RunOptions].run_dir)


def _validation(images: ImageSet, diffusion: Diffusion) -> ImageSet:
    """The same, after a word about those that were trained on, which look too usual."""
    from diffusion_ood.scoring.opening import count_trained_on

    if number := count_trained_on(diffusion, images, "calibrate on"):
        print(f"warning: {number} of {len(images)} validation images were trained on")
    return images


def _refuse_shared(val: ImageSet, training: ImageSet) -> None:
    """Validation images that methods learn from would look more usual than any new image."""
    if len(training) < MIN_REFERENCE:
        raise UserError(
            f"`training_ids`: found {len(training)}, expected at least {MIN_REFERENCE} images"
        )
    shared = len({*val.digests} & {*training.digests})
    if shared:
        raise UserError(
            f"`validation_ids`, `training_ids`: found {shared} images in both, expected none"
        )


def _announce(
    options: ReconstructOptions,
    methods: Sequence[Method],
    evaluator: Evaluator,
    val: int,
    reference: int,
) -> None:
    """Say what it will cost, by a measured call of the network."""
    from diffusion_ood.detector import methods_of
    from diffusion_ood.methods.cost import announcement, cheaper_methods
    from diffusion_ood.methods.pointwise import shared_calls
    from diffusion_ood.runtime.words import counted

    diffusion = evaluator.diffusion
    names = ", ".join(method.name for method in methods)
    print(f"{names}: {counted(shared_calls(methods, diffusion), 'network call')} an image")
    if JOINED in options.methods and not reference:
        print(cli.as_flags("joined goes without features: there are no `training_ids`"))

    def calls(methods: Sequence[Method]) -> int:
        learning = sum(method.calls(diffusion) for method in methods if method.learns)
        return shared_calls(methods, diffusion) * val + learning * reference

    cheaper = cheaper_methods(options, partial(methods_of, learning=reference > 0), diffusion)
    if said := announcement(evaluator, methods, calls(methods), cheaper, calls(cheaper)):
        print(cli.as_flags(said))
