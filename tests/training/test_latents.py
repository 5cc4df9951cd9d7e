"""Training on latents from the command line, and what the commands make of such a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from latents import TINY, vq_vae
from PIL import Image

from diffusion_ood import Detector, Diffusion
from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.commands import fit, interpolate, ood_detection, reconstruct, sample
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.diffusion.codec import LatentCodec
from diffusion_ood.errors import UserError
from diffusion_ood.options import AutoencoderOptions, LoadingOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint

Command = Callable[..., Path]
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def vqvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as train_vqvae.py's, of `TINY` on the images of `splits`."""
    path = tmp_path_factory.mktemp("vqvae") / "vqvae.pth"
    save_checkpoint(path, vq_vae(SHAPE).content())
    return path


@pytest.fixture(scope="module")
def latent_run(train: Command, vqvae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of two epochs on latents; not to be changed."""
    run_dir = tmp_path_factory.mktemp("latent") / "L"
    return train(run_dir, f"--vqvae_checkpoint={vqvae}", "--n_epochs=2", "--b_scale=2")


def last(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoint.pth")


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = last(a)["weights"], last(b)["weights"]
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def argv(run_dir: Path) -> list[str]:
    return [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--device=cpu"]


def test_latents_are_normalised_over_the_training_set(latent_run: Path, splits: Path) -> None:
    model = Diffusion.load(latent_run / "checkpoint_best.pth")
    assert isinstance(model.codec, LatentCodec)
    assert (model.image_shape, model.x_shape) == (SHAPE, (3, 4, 4))
    split = read_split(splits / "A_train.csv")
    images = open_images(split, model.image_options, LoadingOptions(0), progress=False)
    x = model.codec.encode(images.batch(range(len(images)))) / 2
    channels = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    ends = model.codec.bounds
    assert ends == (pytest.approx(2 * x.min().item()), pytest.approx(2 * x.max().item()))


def test_latents_are_encoded_once(
    latent_run: Path, vqvae: Path, train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "L"
    shutil.copytree(latent_run, run_dir)
    files = {path.name: path.stat().st_mtime_ns for path in run_dir.glob("latents_*")}
    assert len(files) == 2
    shapes = [np.load(path).shape for path in run_dir.glob("latents_*")]
    assert sorted(shapes) == [(6, 3, 4, 4), (12, 3, 4, 4)]
    monkeypatch.setattr(Autoencoder, "encode", None)
    train(run_dir, f"--vqvae_checkpoint={vqvae}", "--n_epochs=3", "--b_scale=2")
    assert {p.name: p.stat().st_mtime_ns for p in run_dir.glob("latents_*")} == files


def test_a_torn_file_of_latents_is_written_again(
    latent_run: Path, vqvae: Path, train: Command, tmp_path: Path
) -> None:
    run_dir = tmp_path / "L"
    shutil.copytree(latent_run, run_dir)
    whole = {path: path.read_bytes() for path in run_dir.glob("latents_*")}
    for path, content in whole.items():
        path.write_bytes(content[:-7])
    train(run_dir, f"--vqvae_checkpoint={vqvae}", "--n_epochs=3", "--b_scale=2")
    assert {path: path.read_bytes() for path in run_dir.glob("latents_*")} == whole


def test_a_resumed_run_is_the_one_never_interrupted(
    latent_run: Path, vqvae: Path, train: Command, tmp_path: Path
) -> None:
    flags = [f"--vqvae_checkpoint={vqvae}", "--b_scale=2"]
    other = tmp_path / "L" / "latents_of_another.npy"
    other.parent.mkdir()
    other.touch()
    run_dir = train(tmp_path / "L", *flags, "--n_epochs=1")
    assert not other.exists()
    shutil.rmtree(run_dir / "train")
    for path in run_dir.glob("latents_*"):
        path.unlink()
    train(run_dir, *flags, "--n_epochs=2")
    assert same_weights(run_dir, latent_run)
    assert last(run_dir)["codec"]["bounds"] == last(latent_run)["codec"]["bounds"]


@pytest.mark.slow
def test_two_processes_train_as_one(
    latent_run: Path,
    vqvae: Path,
    train_flags: Callable[[Path, Path], list[str]],
    splits: Path,
    launch: Callable[..., Any],
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "L"
    flags = [*train_flags(run_dir, splits), f"--vqvae_checkpoint={vqvae}"]
    script = str(Path(__file__).parents[2] / "train_ddpm.py")
    for done in launch(script, *flags, "--n_epochs=2", "--b_scale=2", processes=2):
        assert done.returncode == 0, done.stderr
    ours, theirs = last(run_dir), last(latent_run)
    assert ours["best_loss"] == pytest.approx(theirs["best_loss"], rel=1e-3)
    for name in ("mean", "std"):
        assert torch.equal(ours["codec"][name], theirs["codec"][name])


def test_another_autoencoder_or_none_is_refused(
    latent_run: Path, vqvae: Path, train: Command, trained: Path, tmp_path: Path
) -> None:
    run_dir, other = tmp_path / "L", tmp_path / "other.pth"
    shutil.copytree(latent_run, run_dir)
    save_checkpoint(other, {**vq_vae(SHAPE).content(), "more": 1})
    kept = set(run_dir.glob("latents_*"))
    for flags in ([f"--vqvae_checkpoint={other}"], []):
        with pytest.raises(UserError, match="autoencoder"):
            train(run_dir, *flags, "--b_scale=2", "--n_epochs=3")
    assert len(kept) == 2
    assert kept <= set(run_dir.glob("latents_*"))
    pixels = tmp_path / "A"
    pixels.mkdir()
    shutil.copy(trained / "checkpoint.pth", pixels)
    with pytest.raises(UserError, match="autoencoder"):
        train(pixels, f"--vqvae_checkpoint={vqvae}", "--n_epochs=11")


@pytest.mark.parametrize(
    "flag", ["--data_range=pm1", "--flip", "--augmentation", "--image_size=16", "--latent_pad=1"]
)
def test_what_latents_make_no_sense_of_is_refused(
    flag: str, vqvae: Path, train: Command, tmp_path: Path
) -> None:
    name = flag.split("=")[0][2:]
    with pytest.raises(UserError, match=f"`{name}`"):
        train(tmp_path / "L", f"--vqvae_checkpoint={vqvae}", flag)


@pytest.mark.parametrize("flag", ["--latent=encoded", "--latent_pad=0,1"])
def test_options_of_latents_alone_are_refused(flag: str, train: Command, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`vqvae_checkpoint`"):
        train(tmp_path / "L", flag)


def test_an_autoencoder_of_other_images_or_of_one_code_is_refused(
    train: Command, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    save_checkpoint(path, vq_vae((1, 16, 16)).content())
    with pytest.raises(UserError, match="`vqvae_checkpoint`"):
        train(tmp_path / "L", f"--vqvae_checkpoint={path}")
    flat = Autoencoder(TINY, SHAPE)
    flat.network.codebook.embedding.weight.data.zero_()
    flat.digest = "flat"
    save_checkpoint(path, flat.content())
    with pytest.raises(UserError, match="`vqvae_checkpoint`"):
        train(tmp_path / "L", f"--vqvae_checkpoint={path}")
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"other\.pth"):
        train(tmp_path / "L", f"--vqvae_checkpoint={path}")


def test_how_files_become_images_is_taken_from_the_autoencoder(
    train: Command, tmp_path: Path
) -> None:
    autoencoder = vq_vae((1, 16, 16))
    content = autoencoder.content()
    content["options"]["ImageOptions"]["image_size"] = 16
    save_checkpoint(tmp_path / "vqvae.pth", content)
    flags = ["--latent=encoded", "--latent_pad=[0,4,2,2]"]
    run_dir = train(tmp_path / "L", f"--vqvae_checkpoint={tmp_path / 'vqvae.pth'}", *flags)
    model = Diffusion.load(run_dir / "checkpoint.pth")
    assert model.image_options.image_size == 16
    assert (model.image_shape, model.x_shape) == ((1, 16, 16), (3, 12, 12))
    config = json.loads((run_dir / "config.json").read_text())
    assert config["DiffusionOptions"]["latent"] == "encoded"
    assert config["ImageOptions"]["image_size"] == 16


def test_an_autoencoder_kl_is_one_too(train: Command, splits: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = Autoencoder(AutoencoderOptions(model_type="kl_tiny"), (1, 32, 32))
    content = found.content()
    content["options"]["ImageOptions"]["image_size"] = 32
    save_checkpoint(tmp_path / "kl.pth", content)
    run_dir = train(tmp_path / "L", f"--vqvae_checkpoint={tmp_path / 'kl.pth'}")
    assert Diffusion.load(run_dir / "checkpoint.pth").x_shape == (8, 4, 4)


def test_tables_samples_and_a_detector_of_latents(
    latent_run: Path, vqvae: Path, score: Command, splits: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "L"
    shutil.copytree(latent_run, run_dir)
    scores = "--scores=mse,mse_latent,mse_autoencoded"
    ood = score(run_dir, scores, f"--vqvae_checkpoint={vqvae}", "--save_images=2")
    table = pd.read_csv(ood / "results_B.csv")
    assert list(table)[3:] == ["mse", "mse_latent", "mse_autoencoded"]
    assert np.isfinite(table.iloc[:, 2:].to_numpy()).all()
    score(run_dir, "--methods=autoencoder,denoising", "--num_levels=2", "--scores=mse_latent,mse")
    plain = pd.read_csv(ood / "autoencoder" / "results_B.csv")
    assert plain["t"].unique().tolist() == [-1]
    ood_detection.main([*argv(run_dir)[:2], "--min_t=10"])
    metrics = json.loads((ood / "metrics.json").read_text())
    assert {"denoising", "autoencoder", "reconstruction"} <= set(metrics["methods"])
    sample.main([*argv(run_dir), "--num_samples=3", "--num_inference_steps=2", "--compile=off"])
    assert Image.open(run_dir / "samples" / "000002.png").size == (8, 8)
    where = [f"--checkpoint={run_dir / 'checkpoint.pth'}", f"--image_path={tmp_path / 'between'}"]
    what = [f"--image_ids={splits / 'A_val.csv'}", "--num_pairs=1", "--num_inference_steps=10"]
    interpolate.main([*where, *what, "--device=cpu", "--compile=off"])
    assert Image.open(tmp_path / "between" / "img1-0-5.png").size == (8, 8)
    sets = [f"--validation_ids={splits / 'A_val.csv'}", "--budget=4"]
    fit.main([*argv(run_dir), *sets, f"--detector={tmp_path / 'a.detector'}"])
    detector = Detector.load(tmp_path / "a.detector", "cpu")
    assert detector.content.options.scores == ("mse_latent",)
    maps = detector.measure(torch.rand(2, *SHAPE), maps=True).maps
    assert maps is not None
    assert maps.shape == (2, 8, 8)


def test_scoring_refuses_another_autoencoder(
    latent_run: Path,
    run_dir: Path,
    vqvae: Path,
    score_flags: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.pth"
    save_checkpoint(other, {**vq_vae(SHAPE).content(), "more": 1})
    for folder, path in ((latent_run, other), (run_dir, vqvae)):
        with pytest.raises(UserError, match="`vqvae_checkpoint`"):
            reconstruct.main([*score_flags(folder), f"--vqvae_checkpoint={path}"])
