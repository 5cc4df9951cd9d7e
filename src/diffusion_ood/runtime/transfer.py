"""Tensors from the host to a device, while the host goes on."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; CUDA copies it from pinned memory, and nothing waits for it.

    An ordinary copy waits until the device has done all that it was given.
    """
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
