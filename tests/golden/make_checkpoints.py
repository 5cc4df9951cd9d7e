"""How the checkpoints of the golden run were made, once: `python tests/golden/make_checkpoints.py`.

Each is a checkpoint that the training commands wrote after one epoch, with other weights: they come
from a seed, and a repeating block of values lets a megabyte of them be packed into few bytes. In
the denoisers one way through the network passes its input on, so that the noise they find is like
the noise that is there, and reconstructions are neither the images nor black and white.
Checkpoints made anew have other digests, and the expected score tables have to be frozen anew.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden import cases

BLOCK = torch.from_numpy(np.random.default_rng(7).standard_normal(1021)).half().float()
TRAINING = (*cases.MACHINE, "--compile=off", "--n_epochs=1", "--batch_size=5")
MODEL = (*TRAINING, "--model_type=tiny", "--eval_freq=5")
SHARE = 0.75  # of the noise that is found
THREE = "--num_classes=3"


def main() -> None:
    """Train, exchange the weights, and pack each checkpoint beside its digest."""
    cases.CHECKPOINTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cases.write_images(place)
        grey = _split_flags(cases.DATA / "grey")
        colour = _split_flags(cases.SPLITS / "CIFAR10")
        weak = ("--is_grayscale", "--beta_start=1e-4", "--beta_end=0.003")
        cases.call(place, ["train", *_to("grey"), *grey, *MODEL, *weak])
        pm1 = ("--data_range=pm1", "--ema_decay=0.9")
        cases.call(place, ["train", *_to("colour"), *colour, *MODEL, THREE, *pm1])
        narrow = (*TRAINING, "--classifier_type=narrow", THREE)
        cases.call(place, ["train-classifier", *_to("classifier"), *colour, *narrow])
        for name, path in (
            ("grey", cases.GREY_MODEL),
            ("colour", cases.COLOUR_MODEL),
            ("classifier", cases.CLASSIFIER),
        ):
            _pack(place / "trained" / name / "checkpoint.pth", path.name)


def _to(name: str) -> tuple[str, str]:
    return "--output_dir=trained", f"--model_name={name}"


def _split_flags(stem: Path) -> tuple[str, str]:
    return f"--training_ids={stem}_test.csv", f"--validation_ids={stem}_val.csv"


def _pack(source: Path, name: str) -> None:
    """Exchange the weights of the checkpoint at `source` and pack it as `name`."""
    content = torch.load(source, weights_only=True)
    weights = {key: _filled(k, key, old) for k, (key, old) in enumerate(content["weights"].items())}
    if "out.2.conv.weight" in weights:
        _pass_on(weights)
    else:
        weights["mean"].fill_(0.375)
        weights["std"].fill_(0.25)
    trainer = content["trainer"]
    content["weights"] = trainer["network"] = weights
    trainer["average"] = weights if trainer["average"] else None
    for state in trainer["optimizer"]["state"].values():
        state.update({key: torch.zeros_like(v) for key, v in state.items() if v is not None})
    file = io.BytesIO()
    torch.save(content, file)
    data = file.getvalue()
    packed = cases.CHECKPOINTS / f"{name}.xz"
    packed.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    digest = hashlib.sha256(data).hexdigest()
    (cases.CHECKPOINTS / f"{name}.sha256").write_text(f"{digest}  {name}\n")
    print(f"{packed.name}: {len(data)} bytes packed into {packed.stat().st_size}")


def _filled(number: int, key: str, old: Tensor) -> Tensor:
    """Values of the block, scaled by a power of two, in the shape of the old ones."""
    if not old.is_floating_point():
        return old.clone()
    repeats = -(-old.numel() // len(BLOCK)) + 1
    offset = 37 * number % len(BLOCK)
    values = BLOCK.repeat(repeats)[offset : offset + old.numel()].reshape(old.shape)
    if key.endswith("running_var"):
        return torch.full_like(old, 0.5)
    if key == "class_embedding.weight":
        return 4 * values
    if old.ndim == 1 and key.endswith("conv.bias"):
        # Neighbours far apart, for a group of channels to be normalised by more than rounding.
        return (0.25 + values.abs() / 2) * torch.tensor([1.0, -1.0]).repeat(len(old))[: len(old)]
    if old.ndim == 1:  # of other biases and of normalisations
        return values / 8 + (1.0 if "weight" in key else 0.0)
    fan_in = old[0].numel()
    return values * 2.0 ** round(-math.log2(fan_in) / 2)


def _pass_on(weights: dict[str, Tensor]) -> None:
    """Let x and −x of each channel go by the skip connections straight to the output.

    There silu(x) − silu(−x) = x, and what other channels bring is less than that.
    """
    first, last = weights["conv_in.conv.weight"], weights["out.2.conv.weight"]
    skip = weights["up_blocks.2.resnets.1.skip_connection.conv.weight"]
    beside = weights["up_blocks.2.resnets.1.conv2.conv.weight"]
    last.div_(8)
    weights["out.2.conv.bias"].zero_()
    for channel in range(first.shape[1]):
        for row, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
            first[row] = 0
            first[row, channel, 1, 1] = sign
            skip[row] = 0
            skip[row, len(first) + row] = 1
            beside[row] /= 8
            last[:, row] = 0
            last[channel, row, 1, 1] = SHARE * sign
            weights["out.0.weight"][row] = 1
            weights["out.0.bias"][row] = 0
            for name in ("conv_in.conv", "up_blocks.2.resnets.1.skip_connection.conv"):
                weights[f"{name}.bias"][row] = 0


if __name__ == "__main__":
    main()
