"""The training loop of every network, one step at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import autocast
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.training.captured import CapturedStep, Graph

Network = Callable[..., Any]


@dataclass(frozen=True)
class Batch:
    """This process's b images of a global batch.

    Attributes:
        images: shape `(b, C, *S)` in [0, 1].
        n: images in the global batch. What is random is drawn for all of them, so that it does not
            depend on the number of processes.
        labels: the classes of the images, shape (b,), if the network learns them.
        shard: selects the b of the n.
    """

    images: Tensor
    n: int
    labels: Tensor | None = None
    shard: slice = field(default_factory=distributed.share)

    def to(self, device: torch.device) -> Batch:
        """The same with its images on the device; labels stay where they are drawn upon."""
        return dataclasses.replace(self, images=to_device(self.images, device))


Loss = Callable[[Network, Batch, int], Tensor]
"""Losses (b,) of a network on a batch, on the device; the number is the seed of the step."""


@dataclass(frozen=True)
class DrawnLoss:
    """A `Loss` in two parts, of which the second one can be recorded as a graph.

    Args:
        draw: makes of a batch and a seed, on the host and the device, what a step computes with.
        compute: losses (b,) of the network on that, on the device alone.
    """

    draw: Callable[[Batch, int], dict[str, Tensor]]
    compute: Callable[[Network, dict[str, Tensor]], Tensor]

    def __call__(self, network: Network, batch: Batch, seed: int) -> Tensor:
        """See `Loss`."""
        return self.compute(network, self.draw(batch, seed))


@dataclass(frozen=True)
class Plan:
    """The schedule of a training.

    Args:
        lr: learning rate.
        total_steps: steps of the whole training.
        seed: of noise and times.
        precision: `fp32`, `bf16` or `fp16`.
        lr_schedule: `constant`, or `cosine` to `lr_end` over `total_steps`.
        lr_end: the last learning rate of the cosine.
        warmup_steps: steps of linear warm-up; step k has (k + 1) / warmup_steps of the schedule's
            learning rate.
        grad_clip: largest norm of the gradient of a step; 0 is off.
        ema_decay: of the averaged weights; 0 is off.
    """

    lr: float
    total_steps: int
    seed: int
    precision: str = "fp32"
    lr_schedule: str = "constant"
    lr_end: float = 0.0
    warmup_steps: int = 0
    grad_clip: float = 0.0
    ema_decay: float = 0.0

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
    """A network on its device with its optimiser, by default Adam, and its averaged weights.

    After step n, counted from 0, the average is `w ← d·w + (1 − d)·weights`, with d = min(decay,
    (1 + n) / (10 + n)): the warm-up keeps the random first weights out of a short run's average.

    Attributes:
        step: number of the next step.
        average: the averaged weights by their names; empty without averaging.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        plan: Plan,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.plan = plan
        self.step = 0
        self.device = next(network.parameters()).device
        self._rate: float | Tensor = plan.lr
        fused = self.device.type in ("cpu", "cuda")
        if fused and optimizer is None:  # of the device, so that a graph reads each step's own
            dtype = torch.float64 if self.device.type == "cpu" else torch.float32
            self._rate = torch.tensor(plan.lr, dtype=dtype, device=self.device)
        self._optimizer = optimizer or torch.optim.Adam(
            network.parameters(), lr=self._rate, fused=fused, capturable=fused
        )
        self._new_share = torch.zeros((), device=self.device)  # of the weights in the average
        fp16 = plan.precision == "fp16"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.average = self._copy(network.state_dict()) if plan.ema_decay else {}
        self._forward: Callable[..., Tensor] = distributed.replicated(network)
        self._captured: CapturedStep | None = None

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.plan.lr_at(max(0, self.step - 1))

    def compile(self) -> None:
        """Compile the network from the next step on."""
        self._forward = torch.compile(self._forward)

    def capture(self, graph: Graph) -> bool:
        """Record the step as a graph, some steps from now; whether that is possible.

        It is for a `DrawnLoss` with our own Adam, in fp32 or bf16: the scale of fp16's losses is
        looked at on the host. Several processes reduce their gradients outside any graph.
        """
        loss = self.loss
        if not isinstance(loss, DrawnLoss) or not isinstance(self._rate, Tensor):
            return False
        if self.plan.precision == "fp16" or distributed.is_group():
            return False
        compute = loss.compute
        self._captured = CapturedStep(
            lambda drawn: self._update(lambda: compute(self._forward, drawn)), graph
        )
        return True

    def epoch(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Take a step on each global batch and yield its mean loss, a scalar on the device."""
        self.network.train()
        for batch in batches:
            loss = self._learn(batch.to(self.device))
            self.step += 1
            yield loss

    def _learn(self, batch: Batch) -> Tensor:
        """Take one step of the optimiser and return its loss."""
        seed = self.plan.seed_at(self.step)
        torch.manual_seed(seed + distributed.rank())  # of dropout
        self._set_rates()
        if self._captured and isinstance(self.loss, DrawnLoss):
            return self._captured(self.loss.draw(batch, seed))
        return self._update(lambda: self.loss(self._forward, batch, seed), batch.n)

    def _set_rates(self) -> None:
        """Set the learning rate of the step and the share of its weights in the average."""
        lr = self.plan.lr_at(self.step)
        if isinstance(self._rate, Tensor):
            self._rate.fill_(lr)
        else:
            for group in self._optimizer.param_groups:
                group["lr"] = lr
        if self.average:
            decay = min(self.plan.ema_decay, (1 + self.step) / (10 + self.step))
            self._new_share.fill_(1 - decay)

    def _update(self, compute: Callable[[], Tensor], n: int | None = None) -> Tensor:
        """Change the weights and their average by a step's losses; the mean of the losses.

        Nothing here asks the device for a number, unless the losses are scaled; `n` is that of the
        images of all processes, by default the number of the losses.
        """
        with autocast(self.device, self.plan.precision):
            losses = compute()
        # DDP averages over the processes; this gives the mean over the global batch.
        loss = losses.sum() * distributed.world_size() / (n or len(losses))
        self._optimizer.zero_grad(set_to_none=True)
        with distributed.said_for_whom():  # the gradients are summed meanwhile
            self._scaler.scale(loss).backward()
        if self.plan.grad_clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.average:
            averages, weights = list(self.average.values()), self.network.state_dict().values()
            steps = torch._foreach_sub(list(weights), averages)
            torch._foreach_mul_(steps, self._new_share)
            torch._foreach_add_(averages, steps)
        return loss.detach()

    def evaluation_weights(self) -> dict[str, Tensor]:
        """The averaged weights if there are any, else the network's own."""
        return self.average or self.network.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "average": self.average or None,
            "optimizer": self._optimizer_state(),
            "scaler": self._scaler.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`; an average that it does not have starts from its weights."""
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average = self._copy(state["average"] or self.network.state_dict())
        groups = self._optimizer.state_dict()["param_groups"]  # of this run, not of that device
        self._optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate  # itself, of which torch made a copy
        self._scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        self._captured = None  # its tensors were others

    def _optimizer_state(self) -> dict[str, Any]:
        """With a plain number as learning rate, as it was stored ever since."""
        state = self._optimizer.state_dict()
        groups = [{**group, "lr": self.lr} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    def _copy(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: weight.to(self.device, copy=True) for name, weight in weights.items()}
