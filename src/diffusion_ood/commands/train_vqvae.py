"""Train an autoencoder, whose latents a diffusion model can learn instead of pixels.

Reads two split CSVs; writes checkpoints, config.json and logs to output_dir/model_name.
Run the same command again to resume from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.errors import UserError
from diffusion_ood.options import (
    AutoencoderOptions,
    AutoencoderTrainOptions,
    ImageOptions,
    groups_of_a_run,
)

GROUPS = groups_of_a_run(AutoencoderTrainOptions, AutoencoderOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    fit = line[AutoencoderTrainOptions]
    if {"lr", "vqvae_learning_rate"} <= line.given:
        raise UserError("`lr`, `vqvae_learning_rate`: found both, which are one; give one of them")
    channels = line[ImageOptions].channels
    for name, found in (
        ("vqvae_in_channels", fit.vqvae_in_channels),
        ("vqvae_out_channels", fit.vqvae_out_channels),
    ):
        if found not in (None, channels):
            raise UserError(f"`{name}`: found {found}, but `is_grayscale` says {channels}")

    from diffusion_ood.data.splits import read_split

    splits = [read_split(path, flips=False) for path in (fit.training_ids, fit.validation_ids)]

    # The imports of torch and MONAI take seconds.
    from diffusion_ood.methods.scores.perceptual import PerceptualDifference
    from diffusion_ood.runtime import distributed
    from diffusion_ood.training.autoencoder_task import AutoencoderTask
    from diffusion_ood.training.run import TrainingRun, open_data
    from diffusion_ood.training.task import TrainingSettings

    perceptual = PerceptualDifference() if fit.perceptual_weight else None
    settings: TrainingSettings[AutoencoderTrainOptions, AutoencoderOptions]
    settings = TrainingSettings(*line.groups)
    with distributed.process_group(settings.compute.device) as device:
        training, validation = open_data(splits, settings)
        task = AutoencoderTask(settings, device, training, validation, perceptual)
        TrainingRun(task).train()
        for name, value in task.quality.items():
            distributed.print_once(f"validation {name}: {value:.4f}")
