"""A MONAI classifier that refuses what a detector calls out of distribution.

    python examples/guard_a_model.py demo/digits.detector demo/data

`make demo` writes both. The classifier learns the training digits, and is then asked about test
digits: as they are, mirrored, in noise, and over photographs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from monai.networks.nets import Classifier
from torch import Tensor, nn

from diffusion_ood import Detector, cli
from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.splits import Split, read_split

REFUSED = -1
DIGITS = tuple("0123456789")
CHANNELS, STRIDES = (8, 16, 32), (2, 2, 2)
BATCH, RATE, NOISE = 64, 0.01, 0.4


def guarded(model: nn.Module, detector: Detector, images: Tensor) -> Tensor:
    """The class of each image `(N, C, *S)`, `REFUSED` where the model is not to be trusted."""
    with torch.inference_mode():
        classes = model(images).argmax(1)
    return classes.masked_fill(torch.from_numpy(detector.score(images).is_ood), REFUSED)


def train(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """A small classifier of these images."""
    model = Classifier(images.shape[1:], len(DIGITS), CHANNELS, STRIDES, norm="batch")
    batches = torch.cat([torch.randperm(len(images)) for _ in range(epochs)]).split(BATCH)
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=len(batches))
    for batch in batches:
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def mix(digits: Tensor, photographs: Tensor) -> dict[str, Tensor]:
    """Half of the digits as they are, and a sixth of them changed in each of three ways."""
    step = len(digits) // 6
    usual, mirrored, noisy, over = digits.split([len(digits) - 3 * step, step, step, step])
    return {
        "usual": usual,
        "mirrored": mirrored.flip(-1),
        "noisy": (noisy + NOISE * torch.randn_like(noisy)).clamp(0, 1),
        "over": torch.maximum(over, photographs[torch.arange(step) % len(photographs)]),
    }


def main(file: str, data: str, epochs: str = "8") -> None:
    """Print, in percent, how often the classifier is right, guarded or not."""
    torch.manual_seed(0)
    detector, folder = Detector.load(file), Path(data, "data_splits")

    def read(name: str) -> tuple[Split, Tensor]:
        split = read_split(folder / f"{name}.csv")
        paths = map(split.image_path, range(len(split)))
        return split, torch.stack([detector.reader.read(path) for path in paths])

    (learned, images), (test, digits) = read("MNIST5k_train"), read("MNIST5k_test")
    model = train(images, class_numbers(learned, DIGITS), int(epochs))
    mixed = mix(digits, read("PhotoPatches_test")[1])
    sizes = [len(part) for part in mixed.values()]
    images, labels = torch.cat(list(mixed.values())), class_numbers(test, DIGITS)
    with torch.inference_mode():
        right = model(images).argmax(1) == labels
    kept = guarded(model, detector, images) != REFUSED

    print(f"{'':10}{'images':>10}{'right':>10}{'refused':>10}{'right of kept':>16}")
    parts = dict(zip(mixed, zip(right.split(sizes), kept.split(sizes), strict=True), strict=True))
    for kind, (is_right, is_kept) in {**parts, "all": (right, kept)}.items():
        shares = (is_right, ~is_kept, is_right[is_kept])
        plain, refused, guarded_ = (100 * share.float().mean().item() for share in shares)
        print(f"{kind:10}{len(is_kept):10}{plain:10.1f}{refused:10.1f}{guarded_:16.1f}")


if __name__ == "__main__":
    cli.run(lambda: main(*sys.argv[1:]))
