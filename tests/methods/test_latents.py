"""Methods, scores and detectors of latent models; of an autoencoder without effect, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from latents import Identity, identity_pair, latent_diffusion
from torch import Tensor

from diffusion_ood import Detector, Diffusion, Evaluator
from diffusion_ood.errors import UserError
from diffusion_ood.methods.autoencoder import AutoencoderError
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.chosen import chosen_methods, for_model
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.features import Features
from diffusion_ood.methods.measure import measure
from diffusion_ood.methods.pixel_maps import PixelMaps
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.scores.chosen import scores_of
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.registries import METHODS

MSE, LATENT, AUTOENCODED = (scores_of((name,)) for name in ("mse", "mse_latent", "mse_autoencoded"))
KINDS = [name for name in METHODS if name not in ("diffood", "autoencoder")]
JOINED = ReconstructOptions(methods=("joined",), budget=30)


def images(shape: tuple[int, ...], n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def evaluator(diffusion: Diffusion) -> Evaluator:
    return Evaluator(diffusion, "cpu", compile="off")


def built(name: str, diffusion: Diffusion, scores: tuple[str, ...] = ("mse",)) -> Method:
    """A method that measures little, and knows reference images where it learns."""
    options = ReconstructOptions(
        methods=(name,), num_levels=3, num_inference_steps=4, scores=scores
    )
    (method,) = chosen_methods(for_model(options, diffusion))
    if isinstance(method, Features):
        reference = images(diffusion.image_shape, 24, 9)
        keys = [str(i) for i in range(24)]
        method.learn([ImageBatch(reference, keys)], evaluator(diffusion))
    return method


@pytest.fixture
def pair() -> tuple[Diffusion, Diffusion]:
    return identity_pair()


@pytest.mark.parametrize("name", KINDS)
def test_an_autoencoder_without_effect_changes_no_bit(
    name: str, pair: tuple[Diffusion, Diffusion]
) -> None:
    y = images((1, 8, 8))
    tables = [measure(built(name, model), y, evaluator(model)) for model in pair]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert np.isfinite(tables[0].iloc[:, 2:].to_numpy()).all()


def test_activations_of_one_place_are_features_too() -> None:
    model = latent_diffusion((1, 8, 8))  # whose latents of 4 × 4 are one at the lowest level
    found = measure(built("features", model), images((1, 8, 8)), evaluator(model))
    assert np.isfinite(found.iloc[:, 2:].to_numpy()).all()


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 8, 8)])
@pytest.mark.parametrize("name", [*KINDS, "autoencoder"])
def test_every_method_measures_latents(name: str, shape: tuple[int, ...]) -> None:
    model = latent_diffusion(shape, pad=() if len(shape) == 3 else (0, 4))
    y = images(shape, 4)
    whole = measure(built(name, model), y, evaluator(model))
    again = measure(built(name, model), y, evaluator(model), batch_size=1)
    values = whole.iloc[:, 2:].to_numpy()
    assert np.isfinite(values).all()
    assert values.std(0).any()
    scale = np.abs(values).max(0)
    np.testing.assert_allclose(again.iloc[:, 2:] / scale, values / scale, atol=2e-3)


@pytest.mark.parametrize("method", ["reconstruction", "denoising", "inpainting"])
def test_errors_of_latents_alone_decode_nothing(
    method: str, pair: tuple[Diffusion, Diffusion]
) -> None:
    _, model = pair
    autoencoder = model.codec.autoencoder
    assert isinstance(autoencoder, Identity)
    fast = measure(built(method, model, ("mse_latent",)), images((1, 8, 8)), evaluator(model))
    assert autoencoder.decoded == 0
    slow = measure(built(method, model), images((1, 8, 8)), evaluator(model))
    assert autoencoder.decoded > 0
    if method == "inpainting":  # whose predictions end within the range of images
        np.testing.assert_allclose(fast["inpainted_mse_latent"], slow["inpainted_mse"], rtol=1e-5)


def test_scores_say_what_they_compare() -> None:
    """At t = 0 nothing is denoised: x̂ is nearly x."""
    model = latent_diffusion()
    codec, y = model.codec, images((1, 16, 16))
    x = codec.encode(y)
    lost = (codec.decode(x).clamp(0, 1) - y).square().flatten(1).mean(1).numpy()
    method = Denoising(num_levels=2, scores=[*MSE, *LATENT, *AUTOENCODED])
    found = measure(method, y, evaluator(model)).groupby("t").mean(numeric_only=True)
    assert list(found) == ["mse", "mse_latent", "mse_autoencoded"]
    first = found.iloc[0]
    assert first["mse_autoencoded"] < 0.5 * lost.mean()
    assert first["mse"] == pytest.approx(lost.mean(), rel=0.5)
    plain = measure(AutoencoderError(), y, evaluator(model))
    assert plain["t"].tolist() == [-1] * 6
    np.testing.assert_allclose(plain["mse"], lost, rtol=1e-5)


def test_the_autoencoders_error_takes_no_call_and_an_autoencoder(
    pair: tuple[Diffusion, Diffusion],
) -> None:
    images_alone, identity = pair
    assert AutoencoderError().calls(identity) == 0
    found = measure(AutoencoderError(), images((1, 8, 8)), evaluator(identity))
    assert not found["mse"].any()
    with pytest.raises(UserError, match="`methods` autoencoder"):
        AutoencoderError().check(images_alone)
    with pytest.raises(UserError, match="`scores` mse_latent"):
        for_model(ReconstructOptions(scores=("mse_latent",)), images_alone)


def test_what_is_measured_by_default_follows_the_model(pair: tuple[Diffusion, Diffusion]) -> None:
    def scores(model: Diffusion, *methods: str) -> tuple[str, ...]:
        return for_model(ReconstructOptions(methods=methods), model).scores

    pixels, latent = pair
    assert scores(pixels, "joined") == scores(latent, "reconstruction") == ("mse", "perceptual")
    assert scores(latent, "joined") == scores(latent, "denoising") == ("mse_latent",)
    names = [m.name for m in chosen_methods(for_model(JOINED, latent))]
    assert names == ["denoising", "score_geometry", "features", "autoencoder"]
    assert len(chosen_methods(for_model(JOINED, pixels))) == 3


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted()


def fitted() -> Detector:
    model = latent_diffusion(pad=(0, 4), b_scale=2.0)
    options = ReconstructOptions(methods=("joined",), budget=10)
    y = images((1, 16, 16), 60)
    return Detector.fit(model, y[:30], y[30:], options=options, device="cpu")


def test_a_detector_of_latents_is_one_file(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "a.detector")
    found = Detector.load(tmp_path / "a.detector", "cpu")
    fitted().save(tmp_path / "b.detector")
    assert (tmp_path / "a.detector").read_bytes() == (tmp_path / "b.detector").read_bytes()
    y = images((1, 16, 16), 5, seed=4)
    ours, theirs = detector.measure(y, maps=True), found.measure(y, maps=True)
    np.testing.assert_array_equal(ours.score, theirs.score)
    np.testing.assert_array_equal(ours.maps, theirs.maps)
    assert ours.maps is not None
    assert ours.maps.shape == (5, 16, 16)
    assert set(ours.by_method) == {"denoising", "score_geometry", "features", "autoencoder"}
    alone = np.concatenate([detector.measure(one[None]).score for one in y])
    np.testing.assert_allclose(alone, ours.score, rtol=1e-5)


def test_a_detector_sees_what_its_autoencoder_loses(detector: Detector) -> None:
    usual, flat = images((1, 16, 16), 20, seed=5), torch.zeros(20, 1, 16, 16)
    flat[:, :, ::4] = 1
    scores = [detector.measure(y).score for y in (usual, flat)]
    assert scores[1].mean() > np.quantile(scores[0], 0.9)


def test_maps_are_of_what_is_decoded_anyway() -> None:
    assert PixelMaps.beside(Denoising(scores=LATENT)).of_latents
    assert not PixelMaps.beside(Denoising(scores=[*MSE, *LATENT])).of_latents


def test_pictures_of_reconstructions_are_decoded() -> None:
    model = latent_diffusion()
    method = Reconstruction(num_inference_steps=4, scores=LATENT)
    y = images((1, 16, 16), 2)
    batch = ImageBatch(y, ["a", "b"])
    found = method.panels(batch, evaluator(model), method.grid(model))
    assert found.shape == (2, 5, 1, 16, 16)
    assert 0 <= found.min() < found.max() <= 1
