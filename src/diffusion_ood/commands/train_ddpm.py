"""Train a denoising diffusion model on in-distribution images.

Reads two split CSVs; writes checkpoints, config.json and logs to output_dir/model_name.
Run the same command again to resume from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.errors import UserError
from diffusion_ood.options import DiffusionOptions, RunOptions, TrainOptions, groups_of_a_run

GROUPS = groups_of_a_run(TrainOptions, DiffusionOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    fit = line[TrainOptions]
    if "label_dropout" in line.given and not line[DiffusionOptions].num_classes:
        raise UserError("`label_dropout`: has no effect without `num_classes`; give both")
    _refuse_idle(fit, line.given)

    from diffusion_ood.data.splits import read_split
    from diffusion_ood.runtime.run_directory import epoch_checkpoint, require_checkpoint

    splits = [read_split(path, flips=False) for path in (fit.training_ids, fit.validation_ids)]
    if fit.ddpm_checkpoint_epoch is not None:
        require_checkpoint(epoch_checkpoint(line[RunOptions].run_dir, fit.ddpm_checkpoint_epoch))

    # The imports of torch and MONAI take seconds.
    from diffusion_ood.autoencoder import Autoencoder
    from diffusion_ood.options.stored import refuse_contradiction
    from diffusion_ood.runtime import distributed
    from diffusion_ood.training.diffusion_task import DiffusionTask
    from diffusion_ood.training.run import TrainingRun, open_data
    from diffusion_ood.training.task import TrainingSettings

    settings: TrainingSettings[TrainOptions, DiffusionOptions] = TrainingSettings(*line.groups)
    autoencoder = None
    if fit.vqvae_checkpoint is not None:
        autoencoder = Autoencoder.load(fit.vqvae_checkpoint)
        seen = autoencoder.image_options  # what is not given is its own
        names = [f.name for f in dataclasses.fields(seen) if f.name in line.given]
        refuse_contradiction(settings.image, seen, names, fit.vqvae_checkpoint)
        settings = dataclasses.replace(settings, image=seen)
    with distributed.process_group(settings.compute.device) as device:
        training, validation = open_data(splits, settings)
        task = DiffusionTask(settings, device, training, validation, autoencoder)
        TrainingRun(task).train(fit.ddpm_checkpoint_epoch)


def _refuse_idle(fit: TrainOptions, given: frozenset[str]) -> None:
    """Refuse options that latents make no sense of, or images."""
    if fit.vqvae_checkpoint is None:
        for name in sorted(given & {"latent", "latent_pad"}):
            raise UserError(f"`{name}`: has no effect without `vqvae_checkpoint`; give both")
        return
    if "data_range" in given:
        raise UserError(
            "`data_range`: has no effect with `vqvae_checkpoint`, whose latents are normalised; "
            "leave it out"
        )
    for name in ("augmentation", "flip"):
        if getattr(fit, name):
            raise UserError(
                f"`{name}`: found with `vqvae_checkpoint`, whose latents are encoded once, "
                "expected images that stay as they are; leave it out"
            )
