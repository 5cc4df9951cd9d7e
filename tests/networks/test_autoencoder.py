"""Autoencoders: their sizes, what they refuse, and the codes of a VQ-VAE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.commands import train_vqvae
from diffusion_ood.errors import UserError
from diffusion_ood.networks.autoencoder import VectorQuantised, build_autoencoder
from diffusion_ood.networks.codebook import DEAD_SHARE, quantised_step
from diffusion_ood.options import AutoencoderOptions, AutoencoderTrainOptions
from diffusion_ood.registries import AUTOENCODERS
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint

GREY = (1, 16, 16)
README = [
    "--vqvae_downsample_parameters=[[2,4,1,1],[2,4,1,1],[2,4,1,1],[2,4,1,1]]",
    "--vqvae_upsample_parameters=[[2,4,1,1,0],[2,4,1,1,0],[2,4,1,1,0],[2,4,1,1,0]]",
    "--vqvae_num_channels=[256,256,256,256]",
    "--vqvae_num_res_channels=[256,256,256,256]",
    "--vqvae_embedding_dim=128",
    "--vqvae_num_embeddings=2048",
    "--vqvae_decay=0.9",
    "--vqvae_learning_rate=3e-5",
]
RUN = ["--output_dir=runs", "--model_name=a", "--training_ids=a.csv", "--validation_ids=b.csv"]


def vq(shape: tuple[int, ...] = GREY, **options: float) -> VectorQuantised:
    torch.manual_seed(0)
    chosen = AutoencoderOptions(model_type="vq_tiny", **options)  # type: ignore[arg-type] # ints
    network = build_autoencoder(chosen, shape)
    assert isinstance(network, VectorQuantised)
    return network.eval()


def parameters(options: AutoencoderOptions, shape: tuple[int, ...]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_autoencoder(options, shape).parameters())


def state(network: VectorQuantised) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("model_type", "number"),
    [("vq_tiny", 940_713), ("vq_original", 49_177_601), ("vq_paper", 112_179_329)],
)
def test_sizes_have_the_published_numbers_of_parameters(model_type: str, number: int) -> None:
    assert parameters(AutoencoderOptions(model_type=model_type), (1, 32, 32, 32)) == number


def test_the_flags_of_the_original_readme_are_its_network() -> None:
    line = cli.parse("", train_vqvae.GROUPS, [*RUN, *README])
    options = line[AutoencoderOptions]
    assert options.vqvae_downsample_parameters == (2, 4, 1, 1) * 4
    assert line[AutoencoderTrainOptions].vqvae_learning_rate == 3e-5
    assert parameters(options, (1, 128, 128, 128)) == 112_179_329
    with torch.device("meta"):
        network = build_autoencoder(options, (1, 128, 128, 128))
    assert network.latent_shape == (128, 8, 8, 8)


@pytest.mark.parametrize("model_type", AUTOENCODERS)
@pytest.mark.parametrize("shape", [(3, 32, 16), (1, 16, 16, 32)])
def test_every_size_gives_back_images_and_volumes(model_type: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = build_autoencoder(AutoencoderOptions(model_type=model_type), shape)
        z = network.encode(torch.empty(2, *shape), quantised=False)
        assert z.shape[1:] == network.latent_shape
        assert network.decoder(z).shape == (2, *shape)


@pytest.mark.parametrize(
    ("options", "shape", "named"),
    [
        ({}, (1, 28, 28), "24 or 32"),
        ({}, (1, 4, 4), "such as 8;"),
        ({"vqvae_num_channels": (8, 0)}, GREY, "vqvae_num_channels"),
        ({"vqvae_num_res_channels": (8, 8)}, GREY, "vqvae_num_res_channels"),
        ({"vqvae_downsample_parameters": (2, 4, 1)}, GREY, "vqvae_downsample_parameters"),
        ({"vqvae_upsample_parameters": (2, 4, 1, 1, 1)}, GREY, "vqvae_upsample_parameters"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: dict[str, tuple[int, ...]], shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        build_autoencoder(AutoencoderOptions(model_type="vq_tiny", **options), shape)  # type: ignore[arg-type] # tuples


def test_codes_are_no_option_of_a_network_without_any() -> None:
    with pytest.raises(UserError, match="vqvae_decay"):
        AutoencoderOptions(model_type="kl_tiny", vqvae_decay=0.9)


@pytest.mark.parametrize(
    "flags",
    [
        ["--lr=1e-3", "--vqvae_learning_rate=1e-3"],
        ["--vqvae_in_channels=1"],
        ["--is_grayscale", "--vqvae_out_channels=3"],
        ["--vqvae_ddp_sync=0"],
        ["--adversarial_weight=0.01"],
        ["--adversarial_warmup=1"],
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(flags: list[str]) -> None:
    with pytest.raises(UserError, match=flags[-1].strip("-").split("=")[0]):
        train_vqvae.main([*RUN, *flags])


def test_the_codes_begin_as_encodings_and_then_take_the_closed_formula() -> None:
    network = vq(vqvae_num_embeddings=8, vqvae_decay=0.7, vqvae_epsilon=0.01)
    codebook = network.codebook.train()
    z = torch.randn(6, *network.latent_shape)
    vectors = z.flatten(2).transpose(1, 2).flatten(0, 1)
    rows = torch.arange(8) * 3
    codes = vectors[rows]
    found, losses = quantised_step(codebook, z, rows)
    nearest = torch.cdist(vectors, codes).argmin(1)
    counts = nearest.bincount(minlength=8).float()
    sums = torch.zeros(8, 8).index_add(0, nearest, vectors)
    mean = len(vectors) / 8
    expected_counts = 0.7 * mean + 0.3 * counts
    smooth = (expected_counts + 0.01) / (len(vectors) + 8 * 0.01) * len(vectors)
    expected = (0.7 * mean * codes + 0.3 * sums) / smooth[:, None]
    torch.testing.assert_close(codebook.ema_cluster_size, expected_counts)
    torch.testing.assert_close(codebook.embedding.weight, expected)
    quantised = codes[nearest].unflatten(0, (6, -1)).transpose(1, 2).reshape(z.shape)
    torch.testing.assert_close(found, quantised)
    torch.testing.assert_close(losses, 0.25 * (quantised - z).square().flatten(1).mean(1))


def test_a_code_that_nothing_uses_is_an_encoding_again() -> None:
    network = vq(vqvae_num_embeddings=4, vqvae_decay=0.5)
    codebook = network.codebook.train()
    z = torch.randn(8, *network.latent_shape)
    vectors = z.flatten(2).transpose(1, 2).flatten(0, 1)
    quantised_step(codebook, z, torch.arange(4))
    codebook.embedding.weight[3] = codebook.ema_w[3] = 1e3
    ages = []
    for step in range(9):  # its count is near the mean, then halves
        quantised_step(codebook, z, torch.full((4,), step))
        ages.append(codebook.ema_cluster_size[3].item())
    revived = next(k for k in range(1, 9) if ages[k] > ages[k - 1])
    assert ages[revived - 1] <= DEAD_SHARE * len(vectors) / 4
    assert codebook.embedding.weight[3].norm() < 100


def test_evaluation_changes_nothing_and_codes_are_fixed_points() -> None:
    network = vq()
    network.train()
    network(torch.rand(4, *GREY), network.draw(4, slice(None), torch.Generator()))
    network.eval()
    before, images = state(network), torch.rand(4, *GREY)
    z = network.encode(images)
    decoded = network.decode(z)
    assert all(torch.equal(value, before[name]) for name, value in state(network).items())
    assert torch.equal(network.decode(network.encode(images, quantised=False)), decoded)
    with torch.autocast("cpu", torch.bfloat16):  # codes are chosen in float32
        assert z.dtype == torch.float32
        network.encoder = torch.nn.Identity()
        assert torch.equal(network.encode(z), z)


def test_a_codebook_of_all_encodings_loses_nothing() -> None:
    network = vq(vqvae_num_embeddings=8)
    z = torch.randn(2, *network.latent_shape)
    codebook = network.codebook
    codebook.embedding.weight.copy_(z.flatten(2).transpose(1, 2).flatten(0, 1))
    found, losses = quantised_step(codebook, z, torch.arange(8))
    torch.testing.assert_close(found, z)
    assert losses.tolist() == [0, 0]


def test_an_autoencoder_comes_back_from_its_content(tmp_path: Path) -> None:
    autoencoder = Autoencoder(AutoencoderOptions(model_type="vq_tiny"), GREY)
    save_checkpoint(tmp_path / "a.pth", autoencoder.content())
    found = Autoencoder.load(tmp_path / "a.pth")
    assert found.digest == load_checkpoint(tmp_path / "a.pth")["digest"]
    images = torch.rand(2, *GREY)
    z = found.encode(images)
    assert z.shape == (2, *found.latent_shape) == (2, 8, 2, 2)
    assert torch.equal(z, autoencoder.encode(images))
    assert not found.decode(z).requires_grad
    inside = Autoencoder.of_content(found.content(), Path("inside"))
    assert inside.digest == found.digest
