"""Options of drawing samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.options.fields import SEED, OptionGroup, option
from diffusion_ood.registries import SAMPLERS


@dataclass(frozen=True)
class SampleOptions(OptionGroup):
    """Samples: how many, of which classes, by which steps, and where they go."""

    num_samples: int = option("samples, over all processes together", 64, least=1, most=1_000_000)
    image_path: Path | None = option("folder of the samples; default: samples/ of the run", None)
    format: Literal["png", "npy"] = option(
        "a PNG a sample, or all in samples.npy, float32 in 0 to 1 of shape (N, C, …)", "png"
    )
    guidance: float = option(
        "strength β of classifier-free guidance; 0 is the conditional model itself", 0.0, least=0
    )
    clip_denoised: bool = option(
        "clip each prediction of the image to the images' range; without, guided samples of a "
        "small model saturate",
        True,
    )
    classes: tuple[str, ...] = option(
        "names of the classes to draw in turn, of a model with classes; default: all", ()
    )
    num_inference_steps: int = option("steps of the whole time grid", 50, least=1)
    sampler: str = option("how a trajectory steps down the grid", "ddim", choices=SAMPLERS)
    eval_checkpoint: str = option("best, last, or the path of a checkpoint", "best")
    classifier_checkpoint: Path | None = option(
        "checkpoint of train_classifier.py; says how often it sees the class asked for",
        None,
        exists=True,
    )
    reference_ids: Path | None = option(
        "split CSV of real images; says the Fréchet distance of `features` to them", None
    )
    features: Literal["classifier", "alexnet", "inception"] = option(
        "network whose features are compared; the FID is of inception's", "classifier"
    )
    inception_weights: Path | None = option(
        "file of pytorch-fid's weights of Inception for `features` inception; "
        "default: the one in torch's cache",
        None,
        exists=True,
    )
    lpips_weights: Path | None = option(
        "file of AlexNet's convolution weights for `features` alexnet", None, exists=True
    )
    seed: int = option("seed of the samples", 2, **SEED)


@dataclass(frozen=True)
class InterpolationOptions(OptionGroup):
    """Interpolation: between which images, by which steps, and where the pictures go."""

    checkpoint: Path = option("checkpoint of train_ddpm.py", exists=True)
    image_ids: Path = option("split CSV of the images; each is paired with the next one")
    num_pairs: int = option("pairs of images, the first ones of the split", 16, least=1)
    image_path: Path = option("folder of the pictures", Path("interpolation"))
    num_inference_steps: int = option("steps of the whole time grid", 50, least=1)
    sampler: str = option("how a trajectory steps up and down the grid", "ddim", choices=SAMPLERS)
