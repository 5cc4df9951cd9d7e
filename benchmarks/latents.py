"""What screening a volume costs in voxel space and in latents, and the memory of a large one.

    benchmarks/latents.py --side 64 --repeats 3

Times are of x̂_0 from ten noise levels (`denoising`), networks of random weights and a volume read
already; interleaved, the least of each. Memory is the peak of a process that scores a volume of
128 pixels a side by a VQ-VAE `vq_small` and a `tiny` U-Net, x̂_0 of all levels decoded and compared
by MSE and LPIPS.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torchvision.models import alexnet

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.diffusion.codec import LatentCodec
from diffusion_ood.methods.autoencoder import AutoencoderError
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.measure import measure_all
from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.methods.scores.chosen import scores_of
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.model import Diffusion
from diffusion_ood.options import AutoencoderOptions, DiffusionOptions
from diffusion_ood.trajectories.evaluator import Evaluator

LEVELS, LARGE = 10, 128
OPTIONS = DiffusionOptions(model_type="tiny")


def main() -> None:
    """Print times, their ratios and the peak memory as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--autoencoder", default="vq_tiny")
    parser.add_argument("--peak", action="store_true", help="score a large volume here")
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.peak:
        print(json.dumps({"peak_gb": peak()}))
        return
    found = {"side": given.side, "threads": torch.get_num_threads(), **times(given)}
    command = [sys.executable, __file__, "--peak"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(json.dumps({**found, **json.loads(done.stdout.splitlines()[-1])}, indent=2))


def latent_model(model_type: str, side: int) -> Diffusion:
    """A model of volumes, on latents of this autoencoder."""
    shape = 1, side, side, side
    autoencoder = Autoencoder(AutoencoderOptions(model_type=model_type), shape)
    channels = autoencoder.latent_shape[0]
    codec = LatentCodec(autoencoder, torch.zeros(channels), torch.ones(channels))
    return Diffusion(OPTIONS, shape, codec=codec)


def times(given: argparse.Namespace) -> dict[str, object]:
    """The seconds that each way takes for one volume."""
    voxels = Diffusion(OPTIONS, (1, *[given.side] * 3))
    latents = latent_model(given.autoencoder, given.side)
    known, fast = scores_of(("mse",)), scores_of(("mse_latent",))
    ways: dict[str, tuple[Diffusion, list[Method]]] = {
        "voxels": (voxels, [Denoising(num_levels=LEVELS, scores=known)]),
        "latents": (latents, [Denoising(num_levels=LEVELS, scores=fast)]),
        "latents_and_autoencoder": (
            latents,
            [Denoising(num_levels=LEVELS, scores=fast), AutoencoderError(scores=known)],
        ),
        "latents_decoded": (latents, [Denoising(num_levels=LEVELS, scores=known)]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, (model, methods) in ways.items():
            evaluator = Evaluator(model, "cpu", compile="off")
            volume = torch.rand(1, *model.image_shape)
            begin = time.perf_counter()
            measure_all(methods, ImageBatch(volume, ["a"]), evaluator)
            seconds[name].append(time.perf_counter() - begin)
    least = {name: min(found) for name, found in seconds.items()}
    ratios = {name: least["voxels"] / value for name, value in least.items()}
    return {"seconds": seconds, "times_sooner": ratios}


def peak() -> float:
    """The most memory of this process in GB, after it has scored a large volume."""
    model = latent_model("vq_small", LARGE)
    features = {f"features.{k}": v for k, v in alexnet().features.state_dict().items()}
    scores: list[PairScore] = [*scores_of(("mse",)), PerceptualDifference(features)]
    methods: list[Method] = [Denoising(num_levels=LEVELS, scores=scores), AutoencoderError()]
    volume = torch.rand(1, *model.image_shape)
    measure_all(methods, ImageBatch(volume, ["a"]), Evaluator(model, "cpu", compile="off"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
