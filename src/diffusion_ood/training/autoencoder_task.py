"""The training task of an autoencoder, its loss, and how well it reconstructs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.networks.autoencoder import (
    AutoencoderNetwork,
    VectorQuantised,
    build_autoencoder,
)
from diffusion_ood.networks.codebook import nearest_numbers
from diffusion_ood.options import AutoencoderOptions, AutoencoderTrainOptions
from diffusion_ood.report.logs import Tracker
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.training.task import TrainingSettings, TrainingTask, log_values, sheet
from diffusion_ood.training.trainer import Batch, Network, Plan, Trainer

SLICES = 4  # of each direction, whose LPIPS stands for that of a volume in a training step
NUM_SHOWN = 8  # images, and below them their reconstructions
LEAST_MSE = 1e-10  # so that the PSNR of a perfect reconstruction is 100 dB


class AutoencoderTask(TrainingTask[AutoencoderTrainOptions, AutoencoderOptions]):
    """Training of an autoencoder; what the last validation measured is in `quality`.

    Raises:
        UserError: a side that the network's levels cannot halve.
    """

    def __init__(
        self,
        settings: TrainingSettings[AutoencoderTrainOptions, AutoencoderOptions],
        device: torch.device,
        training: ImageSet,
        validation: ImageSet,
        perceptual: PerceptualDifference | None = None,
    ) -> None:
        super().__init__(settings, training, {"validation": validation})
        self.quality: dict[str, float] = {}
        self.metrics = {"quality": self.quality}
        self.autoencoder = build_autoencoder(settings.model, tuple(training.shape))
        self.network = prepare(self.autoencoder, device)
        self._perceptual = perceptual

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Adam on the loss below.

        There is no average of the weights: the codes are running means of what the encoder of
        their time gave, and fit no other one.
        """
        fit = self.fit
        plan = Plan(
            lr=fit.lr if fit.vqvae_learning_rate is None else fit.vqvae_learning_rate,
            total_steps=fit.n_epochs * steps_per_epoch,
            seed=fit.seed,
            precision=self.settings.compute.precision,
        )
        return Trainer(self.network, self.loss, plan)

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """The images, with small random movements if `augmentation` is on."""
        if not self.fit.augmentation:
            return images
        moves = augmentation(tuple(self.training.shape), seed=self.fit.seed, epoch=epoch)
        return moves(images, indices)

    def loss(self, network: Network, batch: Batch, seed: int) -> Tensor:
        """Mean absolute and squared differences (b,), the latents' losses and perhaps LPIPS.

        The absolute one alone is next to flat where all reconstructions are the images' median:
        of digits, which are mostly black, nothing but black was learnt for a long time.
        """
        generator = torch.Generator().manual_seed(seed)
        drawn = self.autoencoder.draw(batch.n, batch.shard, generator)
        found, losses = network(batch.images, to_device(drawn, batch.images.device))
        found = found.to(batch.images.dtype)
        difference = (found - batch.images).flatten(1)
        losses = losses + difference.abs().mean(1) + difference.square().mean(1)
        if self._perceptual:
            with torch.autocast(found.device.type, enabled=False):
                lpips = perceptual_loss(self._perceptual, batch.images, found, generator)
            losses = losses + self.fit.perceptual_weight * lpips
        return losses

    @torch.inference_mode()
    def validate(self, network: nn.Module, epoch: int, tracker: Tracker | None) -> float:
        """The mean absolute difference of images and reconstructions, which are clamped to [0, 1].

        Their PSNR, the share of codes that are the nearest of anything, and pictures are logged.
        """
        assert isinstance(network, AutoencoderNetwork)
        images, device = self.evaluated["validation"], next(network.parameters()).device
        total = torch.zeros(3, dtype=torch.float64)
        used = torch.zeros(self._num_codes(), device=device)
        batches = self.batches(images)
        for batch in distributed.shard(batches):
            expected = images.batch(batch).to(device)
            z = network.encode(expected, quantised=False)
            if isinstance(network, VectorQuantised):
                used += nearest_numbers(network.codebook, z).flatten().bincount(minlength=len(used))
            difference = (network.decode(z).float().clamp(0, 1) - expected).double().flatten(1)
            psnr = -10 * difference.square().mean(1).clamp(min=LEAST_MSE).log10()
            sums = [difference.abs().mean(1).sum().item(), psnr.sum().item(), len(batch)]
            total += torch.tensor(sums, dtype=torch.float64)
        error, psnr_db, count = distributed.sum_over_processes(total.to(device).float()).tolist()
        self.quality.update(l1=error / count, psnr=psnr_db / count)
        if len(used):
            share = (distributed.sum_over_processes(used) > 0).float().mean().item()
            self.quality["codes_used"] = share
        if tracker:
            shown = images.batch(batches[0][:NUM_SHOWN])
            found = network.decode(network.encode(shown.to(device))).float().cpu()
            picture = sheet(torch.cat([shown, found]), len(shown))
            tracker.image("val", "reconstructions", picture, epoch)
            log_values(tracker, "val", epoch, loss=self.quality["l1"], **self.quality)
        return self.quality["l1"]

    def _num_codes(self) -> int:
        network = self.autoencoder
        return network.codebook.num_embeddings if isinstance(network, VectorQuantised) else 0


def perceptual_loss(
    perceptual: PerceptualDifference, images: Tensor, found: Tensor, generator: torch.Generator
) -> Tensor:
    """LPIPS (b,) of reconstructions; of volumes its mean over slices of each direction.

    The slices are drawn by the generator, the same ones of all images.
    """
    pairs = [(images, found)]
    if images.ndim == 5:
        pairs = []
        for axis in (2, 3, 4):
            chosen = torch.randperm(images.shape[axis], generator=generator)[:SLICES]
            pairs.append((_slices(images, axis, chosen), _slices(found, axis, chosen)))
    scores = []
    for expected, reconstructed in pairs:
        with torch.no_grad():
            reference = perceptual.reference(expected)
        scores.append(perceptual(reference, reconstructed).unflatten(0, (len(images), -1)))
    return torch.cat(scores, 1).mean(1)


def _slices(images: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """Slices `(B·k, C, H, W)` of volumes `(B, C, *S)`."""
    slices = images.index_select(axis, to_device(chosen, images.device))
    return slices.movedim(axis, 1).flatten(0, 1)
