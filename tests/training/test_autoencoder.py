"""Training an autoencoder: its loss, its validation and what its run directory holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.commands import train_vqvae
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import LAYERS
from diffusion_ood.options import LoadingOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.training.autoencoder_task import SLICES, perceptual_loss

Flags = Callable[[Path, Path], list[str]]
QUALITY = {"vq_tiny": {"l1", "psnr", "codes_used"}, "kl_tiny": {"l1", "psnr"}}


def flags_of(train_flags: Flags, run_dir: Path, splits: Path, model_type: str) -> list[str]:
    """Those of a diffusion model, with this size in place of its own."""
    flags = train_flags(run_dir, splits)
    return [flag.replace("=tiny", f"={model_type}") for flag in flags]


@pytest.mark.parametrize("model_type", QUALITY)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_leaves_what_the_autoencoder_is_loaded_from(
    model_type: str, precision: str, train_flags: Flags, splits: Path, tmp_path: Path
) -> None:
    flags = flags_of(train_flags, tmp_path / "A", splits, model_type)
    train_vqvae.main(
        [*flags, "--n_epochs=12", "--eval_freq=2", f"--precision={precision}", "--augmentation"]
    )
    best = load_checkpoint(tmp_path / "A" / "checkpoint_best.pth")
    assert best["quality"].keys() == QUALITY[model_type]
    assert best["best_loss"] == best["quality"]["l1"]
    config = json.loads((tmp_path / "A" / "config.json").read_text())
    assert config["AutoencoderOptions"]["model_type"] == model_type

    found = Autoencoder.load(tmp_path / "A" / "checkpoint_best.pth")
    assert (found.image_shape, found.latent_shape) == ((1, 8, 8), (8, 1, 1))
    loading = LoadingOptions(num_workers=0)
    images = open_images(read_split(splits / "A_val.csv"), found.image_options, loading)
    expected = images.batch(range(len(images)))
    decoded = found.decode(found.encode(expected)).clamp(0, 1)
    error = (decoded - expected).abs().mean().item()
    assert error == pytest.approx(best["quality"]["l1"], rel=1e-4 if precision == "fp32" else 0.1)
    assert error < (expected - expected.mean()).abs().mean()


def test_volumes_are_learnt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, number in {"train": 4, "val": 2}.items():
        for i in range(number):
            np.save(tmp_path / f"{name}{i}.npy", rng.random((16, 8, 8), np.float32))
        rows = "".join(f"{name}{i}.npy\n" for i in range(number))
        (tmp_path / f"{name}.csv").write_text(f"image\n{rows}")
    train_vqvae.main(
        [
            *(f"--output_dir={tmp_path}", "--model_name=V", "--model_type=vq_tiny"),
            *(f"--training_ids={tmp_path}/train.csv", f"--validation_ids={tmp_path}/val.csv"),
            *("--is_grayscale", "--spatial_dimension=3", "--batch_size=2", "--n_epochs=1"),
            *("--device=cpu", "--compile=off", "--num_workers=0", "--vqvae_learning_rate=1e-3"),
        ]
    )
    assert Autoencoder.load(tmp_path / "V" / "checkpoint.pth").latent_shape == (8, 2, 1, 1)


def test_a_checkpoint_of_another_network_is_no_autoencoder(trained: Path) -> None:
    with pytest.raises(UserError, match="expected AutoencoderOptions"):
        Autoencoder.load(trained / "checkpoint.pth")


def test_a_checkpoint_of_the_original_is_named_as_such(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {}}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"original ddpm-ood.*train_vqvae\.py"):
        Autoencoder.load(tmp_path / "checkpoint.pth")


def test_a_volume_is_compared_by_slices_of_each_direction() -> None:
    """Those that a seed gives, for each volume alone as among others, with gradients."""
    seen = []

    class Means:
        def reference(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape))
            return images

        def __call__(self, reference: Tensor, found: Tensor) -> Tensor:
            return (reference - found).abs().flatten(1).mean(1)

    images, found = torch.rand(2, 1, 6, 5, 3), torch.rand(2, 1, 6, 5, 3, requires_grad=True)

    def loss(rows: slice) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return perceptual_loss(Means(), images[rows], found[rows], generator)  # type: ignore[arg-type] # a stand-in

    both = loss(slice(None))
    k = SLICES
    assert seen == [(2 * k, 1, 5, 3), (2 * k, 1, 6, 3), (2 * 3, 1, 6, 5)]
    torch.testing.assert_close(torch.cat([loss(slice(1)), loss(slice(1, 2))]), both)
    both.sum().backward()
    assert found.grad is not None
    assert found.grad.abs().sum() > 0


def test_lpips_is_part_of_the_loss_where_it_has_a_weight(
    train_flags: Flags, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusion_ood.methods.scores import perceptual

    score = perceptual.PerceptualDifference(_alexnet())
    monkeypatch.setattr(perceptual, "PerceptualDifference", lambda: score)
    losses = []
    for weight in (0, 1):
        run_dir = tmp_path / str(weight)
        flags = flags_of(train_flags, run_dir, splits, "vq_tiny")
        train_vqvae.main([*flags, "--quick_test", f"--perceptual_weight={weight}"])
        losses.append(load_checkpoint(run_dir / "checkpoint.pth")["trainer"]["network"])
    name = "decoder.blocks.0.conv.weight"
    assert not torch.equal(losses[0][name], losses[1][name])


def _alexnet() -> dict[str, Tensor]:
    """Random weights of AlexNet's convolutions."""
    channels, kernels = (3, 64, 192, 384, 256, 256), (11, 5, 3, 3, 3)
    tensors = {}
    for k, layer in enumerate(LAYERS):
        shape = (channels[k + 1], channels[k], kernels[k], kernels[k])
        tensors[f"features.{layer}.weight"] = torch.randn(shape) * 0.05
        tensors[f"features.{layer}.bias"] = torch.zeros(shape[0])
    return tensors
