"""Interpolate between pairs of images, as the second system's runner `interpolation`.

Reads a checkpoint and a split CSV; writes the pictures between each pair, and sheet.png with the
first of them, to --image_path.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import EvaluationOptions, InterpolationOptions, LoadingOptions
from diffusion_ood.runtime.words import counted

GROUPS = (InterpolationOptions, LoadingOptions, EvaluationOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    options, evaluation = line[InterpolationOptions], line[EvaluationOptions]
    split, wanted = read_split(options.image_ids), 2 * options.num_pairs
    if len(split) < wanted:
        raise UserError(
            f"{split.path}: found {counted(len(split), 'image')}, expected at least {wanted} for "
            f"`num_pairs` {options.num_pairs}"
        )

    from diffusion_ood.data.loaders import open_images
    from diffusion_ood.data.slices import sliced
    from diffusion_ood.model import Diffusion
    from diffusion_ood.runtime import distributed
    from diffusion_ood.sampling.interpolation import Interpolation
    from diffusion_ood.trajectories.evaluator import Evaluator

    with distributed.process_group(evaluation.device) as device:
        diffusion = Diffusion.load(options.checkpoint)
        evaluator = Evaluator.from_options(diffusion, device, evaluation)
        interpolation = Interpolation(evaluator, options.sampler, options.num_inference_steps)
        split = sliced(split, diffusion.image_options).first(wanted)
        images = open_images(split, diffusion.image_options, line[LoadingOptions])
        if images.shape != diffusion.image_shape:
            raise UserError(
                f"{split.path}: found images of {images.shape}, expected {diffusion.image_shape} "
                "like the model's"
            )
        interpolation.save(images.batch(range(len(images))), options.image_path)
