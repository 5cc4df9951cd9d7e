"""Batch normalisation over the images of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from diffusion_ood.networks.replacing import replace_modules
from diffusion_ood.runtime import distributed


class GlobalBatchNorm(_BatchNorm):
    """y = γ·(x − μ)/√(σ² + ε) + β, with μ and σ² of a channel over the batch of all processes.

    In training that is; in evaluation their running averages take over. A single process has
    torch's own kernels. torch's SyncBatchNorm does this on GPUs alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(b, C, *S)` of this process's images, of which there may be none, normalised."""
        if self.training and distributed.world_size() > 1:
            return self._over_processes(x)
        return super().forward(x)

    @torch.compiler.disable  # type: ignore[untyped-decorator] # waits for other processes
    def _over_processes(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        shape = (1, -1, *[1] * (x.ndim - 2))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        n = x.numel() // x.shape[1]
        own = wide.sum(axes) / max(1, n)
        spread = (wide - own.view(shape)).square().sum(axes)
        # Of so few numbers in double precision, the difference of squares below is exact enough.
        own = own.double()
        sums = torch.cat([n * own, spread + n * own.square(), own.new_tensor([n])])
        sums = distributed.sum_with_gradient(sums)
        count = sums[-1].detach()
        mean, square = (sums[:-1] / count).chunk(2)
        variance = square - mean.square()
        self._follow(mean, variance * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        scale, shift = (part.to(wide).view(shape) for part in (scale, self.bias - mean * scale))
        return (wide * scale + shift).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages, shapes (C,), towards those of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)

    def _check_input_dim(self, x: Tensor) -> None:
        """Images and volumes alike."""


def normalise_globally(network: nn.Module) -> None:
    """Let a network's batch normalisation, of fresh weights, be that over all processes."""
    replace_modules(
        network,
        _BatchNorm,
        lambda norm: GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum),
    )
