"""The training loop of every network, one step at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import autocast
from diffusion_ood.training.ema import WeightAverage


class Objective(Protocol):
    """A loss that is minimised."""

    def loss(
        self,
        network: Callable[..., Any],
        images: Tensor,
        n: int,
        shard: slice,
        seed: int,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Losses (b,) of this process's images of a global batch of n, see `training.objective`."""


Batch = tuple[int, Tensor] | tuple[int, Tensor, Tensor]
"""The size n of a global batch, this process's images of it `(b, C, *S)`, and their labels (b,)."""


@dataclass(frozen=True)
class Plan:
    """The schedule of a training.

    Args:
        lr: learning rate.
        lr_schedule: `constant`, or `cosine` to `lr_end` over `total_steps`.
        total_steps: steps of the whole training.
        ema_decay: of the averaged weights; 0 is off.
        precision: `fp32`, `bf16` or `fp16`.
        seed: of noise and times.
        lr_end: the last learning rate of the cosine.
        warmup_steps: steps of linear warm-up; step k has (k + 1) / warmup_steps of the schedule's
            learning rate.
        grad_clip: largest norm of the gradient of a step; 0 is off.
    """

    lr: float
    lr_schedule: str
    total_steps: int
    ema_decay: float
    precision: str
    seed: int
    lr_end: float = 0.0
    warmup_steps: int = 0
    grad_clip: float = 0.0

    def lr_at(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.lr_schedule == "constant":
            return rise * self.lr
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total_steps)))
        return rise * (self.lr_end + (self.lr - self.lr_end) * fall)

    def seed_at(self, step: int) -> int:
        """The seed of one step; it depends on the step alone, so resuming needs no RNG state."""
        digest = hashlib.blake2b(f"{self.seed} {step}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "little")


class Trainer:
    """A network with its optimiser and its averaged weights.

    Args:
        network: on its device; its weights are changed in place.
        objective: the loss.
        plan: the schedule.
        optimizer: of the network's weights; by default Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        plan: Plan,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.network = network
        self.objective = objective
        self.plan = plan
        self.step = 0
        self.device = next(network.parameters()).device
        fused = self.device.type in ("cpu", "cuda")
        self._optimizer = optimizer or torch.optim.Adam(
            network.parameters(), lr=plan.lr, fused=fused
        )
        fp16 = plan.precision == "fp16"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self._average = WeightAverage(network, plan.ema_decay) if plan.ema_decay else None
        self._forward: Callable[..., Tensor] = distributed.replicated(network)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.plan.lr_at(max(0, self.step - 1))

    def compile(self) -> None:
        """Compile the network from the next step on."""
        self._forward = torch.compile(self._forward)

    def epoch(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Take a step on each global batch and yield its mean loss, a scalar on the device."""
        self.network.train()
        for n, *tensors in batches:
            tensors = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
            loss = self._learn(n, *tensors)
            self.step += 1
            yield loss

    def _learn(self, n: int, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Take one step of the optimiser and return its loss."""
        shard = slice(distributed.rank(), None, distributed.world_size())
        seed = self.plan.seed_at(self.step)
        torch.manual_seed(seed + distributed.rank())  # of dropout
        for group in self._optimizer.param_groups:
            group["lr"] = self.plan.lr_at(self.step)
        known = () if labels is None else (labels,)
        with autocast(self.device, self.plan.precision):
            losses = self.objective.loss(self._forward, images, n, shard, seed, *known)
        # DDP averages over the processes; this gives the mean over the global batch.
        loss = losses.sum() * distributed.world_size() / n
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if self.plan.grad_clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average:
            self._average.update(self.network, self.step)
        return loss.detach()

    def evaluation_weights(self) -> dict[str, Tensor]:
        """The averaged weights if there are any, else the network's own."""
        return self._average.weights if self._average else self.network.state_dict()

    def weights(self) -> list[Tensor]:
        """The network's weights and the averaged ones."""
        average = self._average.weights if self._average else {}
        return [*self.network.state_dict().values(), *average.values()]

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "average": self._average.weights if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`; an average that it does not have starts from its weights."""
        self.network.load_state_dict(state["network"])
        if self._average:
            self._average.weights = {
                name: weight.to(self.device, copy=True)
                for name, weight in (state["average"] or self.network.state_dict()).items()
            }
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
