"""Codecs: what the model sees of images, and back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from latents import TINY, Identity, codec_of, latent_diffusion, vq_vae

from diffusion_ood.diffusion.codec import LatentCodec, PixelCodec
from diffusion_ood.diffusion.levels import log_snr
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint

SHAPES = [(1, 16, 16), (3, 8, 12), (1, 8, 8, 8)]


def images(shape: tuple[int, ...], n: int = 5) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", SHAPES)
def test_latents_are_normalised_and_come_back(shape: tuple[int, ...]) -> None:
    autoencoder = vq_vae(shape)
    codec, y = codec_of(autoencoder), images(shape, 32)
    x = codec.encode(y)
    assert x.shape[1:] == codec.x_shape(shape) == autoencoder.latent_shape
    known = codec.encode(torch.rand(32, *shape, generator=torch.Generator().manual_seed(1)))
    channels = known.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)), atol=1e-3, rtol=0)
    torch.testing.assert_close(channels.std(1), torch.ones(len(channels)), atol=1e-3, rtol=1e-2)
    z = autoencoder.encode(y)
    torch.testing.assert_close(codec.of_latents(z), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(x), autoencoder.decode(z), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.encode(y), codec.of_latents(z), atol=1e-3, rtol=0)


@pytest.mark.parametrize("pad", [(), (0, 1), (1, 0, 2, 1)])
@pytest.mark.parametrize("b_scale", [1.0, 4.0])
def test_the_pad_is_cut_off_and_the_scale_divided_out_before_decoding(
    pad: tuple[int, ...], b_scale: float
) -> None:
    shape = (1, 16, 16)
    plain, codec = (
        codec_of(vq_vae(shape), **how) for how in ({}, {"pad": pad, "b_scale": b_scale})
    )
    y = images(shape)
    x = codec.encode(y)
    assert x.shape[1:] == codec.x_shape(shape)
    assert x.shape[2:] == tuple(8 + sum(pad[k : k + 2]) for k in (2, 0))
    torch.testing.assert_close(codec.latents(x), plain.encode(y), atol=1e-6, rtol=0)
    torch.testing.assert_close(codec.decode(x), plain.decode(plain.encode(y)), atol=1e-5, rtol=0)
    assert x.square().sum().item() == pytest.approx(
        b_scale**2 * plain.encode(y).square().sum().item(), rel=1e-4
    )
    flipped = codec.flip(x, (2,))
    torch.testing.assert_close(codec.latents(flipped), codec.latents(x).flip(3), rtol=0, atol=0)
    torch.testing.assert_close(codec.flip(flipped, (2,)), x, rtol=0, atol=0)


@pytest.mark.parametrize("quantised", [True, False])
def test_an_image_is_coded_alike_in_any_company(quantised: bool) -> None:
    codec, y = codec_of(vq_vae(), quantised=quantised), images((1, 16, 16), 37)
    whole = codec.encode(y)
    alone = torch.cat([codec.encode(one[None]) for one in y])
    assert torch.equal(whole, alone)
    assert torch.equal(codec.decode(whole), torch.cat([codec.decode(one[None]) for one in whole]))
    assert codec.encode(y[:0]).shape == (0, *codec.x_shape((1, 16, 16)))


def test_encodings_and_their_codes_are_decoded_alike() -> None:
    codes, encodings = (codec_of(vq_vae(), quantised=quantised) for quantised in (True, False))
    y = images((1, 16, 16))
    assert (codes.raw_latents(y) - encodings.raw_latents(y)).abs().max() > 0.01
    found = codes.decode(codes.encode(y)), encodings.decode(encodings.encode(y))
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def test_levels_and_clipping_go_by_how_latents_are_spread() -> None:
    codec = codec_of(vq_vae(), b_scale=2.0)
    assert codec.bounds == (-8.0, 8.0)
    schedule = latent_diffusion().schedule
    spread = 2 * schedule.half_log_snr(torch.arange(1000)) + math.log(3) + 2 * math.log(2)
    torch.testing.assert_close(log_snr(schedule, codec.limits), spread)
    pixels = PixelCodec("pm1", 0.5)
    assert pixels.limits == pixels.bounds == (-0.5, 0.5)


def test_a_volume_is_coded_by_itself() -> None:
    sizes = []

    class Watched(Identity):
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            sizes.append(len(z))
            return super().decode(z)

    codec = LatentCodec(Watched((1, 32, 32, 32)), torch.zeros(1), torch.ones(1))
    codec.decode(torch.zeros(3, 1, 32, 32, 32))
    assert sizes == [1, 1, 1]


def test_a_checkpoint_holds_the_codec(tmp_path: Path) -> None:
    model = latent_diffusion(pad=(0, 4), b_scale=3.0, quantised=False)
    model.save(tmp_path / "a.pth")
    found = Diffusion.load(tmp_path / "a.pth")
    assert isinstance(found.codec, LatentCodec)
    assert (found.is_latent, found.image_shape, found.x_shape) == (True, (1, 16, 16), (3, 8, 12))
    assert (found.codec.pad, found.codec.b_scale, found.codec.quantised) == ((0, 4), 3.0, False)
    assert found.codec.autoencoder.digest == "vq"
    y = images((1, 16, 16))
    assert torch.equal(found.codec.encode(y), model.codec.encode(y))
    assert found.codec.bounds == model.codec.bounds
    assert "codec" not in Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8)).content()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", torch.zeros(4)),
        ("mean", [0.0, 0.0, 0.0]),
        ("std", torch.tensor([1.0, 0.0, 1.0])),
        ("std", torch.tensor([1.0, math.nan, 1.0])),
        ("mean", torch.tensor([1.0, math.inf, 1.0])),
        ("bounds", [1.0, -1.0]),
        ("limits", 3),
        ("autoencoder", {}),
        ("autoencoder", vq_vae((1, 8, 8)).content()),
    ],
)
def test_a_wrong_codec_is_refused(name: str, value: object, tmp_path: Path) -> None:
    content = latent_diffusion().content()
    save_checkpoint(tmp_path / "a.pth", {**content, "codec": {**content["codec"], name: value}})
    with pytest.raises(UserError, match=r"a\.pth"):
        Diffusion.load(tmp_path / "a.pth")
    save_checkpoint(tmp_path / "b.pth", {**content, "codec": 3})
    with pytest.raises(UserError, match=r"b\.pth"):
        Diffusion.load(tmp_path / "b.pth")
    assert "codec" in load_checkpoint(tmp_path / "b.pth")


def test_latents_that_the_network_cannot_halve_want_a_pad() -> None:
    codec = codec_of(vq_vae((1, 12, 12), TINY))
    with pytest.raises(UserError, match=r"`latent_pad`.*1,1,1,1"):
        Diffusion(DiffusionOptions(model_type="tiny"), (1, 12, 12), codec=codec)
    with pytest.raises(UserError, match="`latent_pad`"):
        latent_diffusion(pad=(0, 1, 0, 1, 0, 1))
    for pad in ((1,), (-1, 1)):
        with pytest.raises(UserError, match="`latent_pad`"):
            DiffusionOptions(latent_pad=pad)
