"""The only door to the network: evaluations in batches, compiled or eager, and counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.diffusion.denoiser import ClippedDenoiser, Denoiser, GuidedDenoiser, Network
from diffusion_ood.diffusion.samplers.base import Sampler
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.observed import Observed
from diffusion_ood.options import EvaluationOptions
from diffusion_ood.runtime.compiling import MaybeCompiled
from diffusion_ood.runtime.device import DTYPES, autocast, best_rows, pick_device, prepare
from diffusion_ood.runtime.graphs import recorder_for
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.trajectories.engine import Step, Trajectory, run_trajectories


class Evaluator:
    """A diffusion model on a device.

    Args:
        diffusion: the model; its network is moved to the device.
        device: a torch device, or `auto`, `cpu`, `cuda`, …
        precision: of the network's arithmetic, `fp32`, `bf16` or `fp16`.
        compile: `off`; `on`; `auto`, which compiles when the work that is expected repays it; or
            `graph`, which compiles nothing. But for `off`, calls on CUDA are CUDA graphs, on `auto`
            where that is faster.
        max_batch: rows in one network call; by default see `runtime.device.best_rows`.
        min_rows: rows that a call is filled up to, since libraries round few rows otherwise than
            many, see `runtime.device.steady_rows`.

    Attributes:
        calls: rows that the network has evaluated so far.

    Raises:
        UserError: a device or compiler that this machine does not have.
        ValueError: no rows in a call, or another precision.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        device: str | torch.device = "auto",
        *,
        precision: str = "fp32",
        compile: str = "auto",
        max_batch: int | None = None,
        min_rows: int = 1,
    ) -> None:
        if max_batch is not None and max_batch < 1:
            raise ValueError(f"found a max_batch of {max_batch}, expected at least 1")
        if precision not in DTYPES:
            raise ValueError(f"found a precision of {precision}, expected {', '.join(DTYPES)}")
        self.diffusion = diffusion
        self.device = pick_device(device) if isinstance(device, str) else device
        self.precision = precision
        self.max_batch = max_batch or best_rows(diffusion.activation_values, self.device, precision)
        self.min_rows = min(min_rows, self.max_batch)
        self.calls = 0
        self._compile = compile
        self._rows_expected = 0
        self._observers: dict[tuple[tuple[str, ...], bool], tuple[Observed, MaybeCompiled]] = {}
        self._recorder = recorder_for(self.device)
        self._network = self._maybe_compiled(
            prepare(diffusion.network, self.device), compile, precision
        )

    @classmethod
    def from_options(
        cls, diffusion: Diffusion, device: torch.device, options: EvaluationOptions
    ) -> Evaluator:
        """The evaluator that a command is asked for."""
        precision, compile, max_batch = options.precision, options.compile, options.max_batch
        return cls(diffusion, device, precision=precision, compile=compile, max_batch=max_batch)

    def expect(self, rows: int) -> None:
        """Say how many rows are still to be evaluated, by which `auto` decides to compile."""
        self._rows_expected = rows
        for network in self._networks:
            network.expect(rows)

    def decision(self) -> str | None:
        """What was decided about compiling and why, once."""
        return next(filter(None, (network.decision() for network in self._networks)), None)

    @property
    def _networks(self) -> list[MaybeCompiled]:
        return [self._network, *(network for _, network in self._observers.values())]

    def denoiser(self, guidance: float = 0.0, *, clip: bool = False) -> Denoiser:
        """ε̂(x_t, t, labels) of at most `max_batch` rows; the clean image is asked about at t = 0.

        Args:
            guidance: strength β of classifier-free guidance, where there are classes to be guided
                to; above 0 each row is two.
            clip: whether predictions x̂_0 are clipped to the range of images.
        """
        model = self.diffusion
        found: Denoiser = model.denoiser(partial(self._call, self._network))
        if model.null_label is not None:
            found = GuidedDenoiser(found, guidance, model.null_label)
        if clip:
            found = ClippedDenoiser(found, model.schedule, *model.codec.bounds)
        return lambda x_t, t, labels=None, /: found(x_t, t.clamp(min=0), labels)

    def differentiable(self) -> Denoiser:
        """ε̂ by the eager network in fp32, through which gradients flow."""
        found = self.diffusion.denoiser(partial(self._call, self.diffusion.network))
        return lambda x_t, t, labels=None, /: found(x_t, t.clamp(min=0), labels)

    @torch.inference_mode()
    def eps(
        self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, *, clip: bool = False
    ) -> Tensor:
        """ε̂ of any number of rows.

        Args:
            x_t: shape `(N, C, *S)`.
            t: times, shape (N,), on the CPU.
            labels: classes, shape (N,), on the CPU; without, the image may be of any class.
            clip: as in `denoiser`.

        Returns:
            Shape `(N, C, *S)` on the evaluator's device.

        Raises:
            ValueError: times or labels that are not one a row, or a time that is none.
        """
        if labels is not None and len(labels) != len(x_t):
            raise ValueError(f"found {len(labels)} labels for {len(x_t)} rows")
        denoiser = self.denoiser(clip=clip)
        parts = [
            denoiser(x, times, None if labels is None else labels[k : k + len(x)])
            for k, x, times in self._batches(x_t, t)
        ]
        return torch.cat(parts) if parts else torch.empty_like(x_t, device=self.device)

    @torch.inference_mode()
    def run(
        self,
        trajectories: Iterable[Trajectory],
        sampler: Sampler,
        *,
        guidance: float = 0.0,
        clip: bool = False,
        width: int | None = None,
    ) -> Iterator[Step]:
        """Every step of trajectories, whose times may fall or rise; see `run_trajectories`.

        Times rise from the clean image, −1, with samplers that have `encodes` alone.

        Args:
            trajectories: longest first keeps the batch full.
            sampler: makes the steps.
            guidance, clip: as in `denoiser`.
            width: trajectories that run at a time; by default as many as may.
        """
        denoiser, schedule = self.denoiser(guidance, clip=clip), self.diffusion.schedule
        width = width or self.width(guidance)
        yield from run_trajectories(denoiser, schedule, sampler, trajectories, self.device, width)

    def width(self, guidance: float = 0.0) -> int:
        """Trajectories that run at a time: half as many rows under guidance."""
        return max(1, self.max_batch // (2 if guidance else 1))

    @torch.inference_mode()
    def features(self, x_t: Tensor, t: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations of named blocks of the eager network.

        Args:
            x_t: shape `(N, C, *S)`.
            t: times, shape (N,), on the CPU.
            layers: names of submodules that return one tensor, such as `middle_block` or
                `down_blocks.0.resnets.0`; `diffusion.network.named_modules()` has them all.

        Returns:
            By name, shape `(N, c, *s)`, on the evaluator's device.

        Raises:
            AttributeError: the network has no such block.
            ValueError: as `eps`.
        """
        network, denoiser = self.diffusion.network, self.differentiable()
        found: dict[str, list[Tensor]] = {name: [] for name in layers}
        blocks = {name: network.get_submodule(name) for name in found}  # all, or no hook at all
        with contextlib.ExitStack() as hooks:
            for name, block in blocks.items():
                hooks.enter_context(block.register_forward_hook(partial(_keep, found[name])))
            for _, x, times in self._batches(x_t, t):
                with autocast(self.device, self.precision):
                    denoiser(x, times)
        return {name: torch.cat(parts) for name, parts in found.items()}

    @torch.inference_mode()
    def observe(
        self, x_t: Tensor, t: Tensor, blocks: Sequence[str] = (), *, exact: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """ε̂ of any number of rows, and what named blocks do in the same calls.

        Args:
            x_t: shape `(N, C, *S)`.
            t: times, shape (N,), on the CPU.
            blocks: names of submodules, as in `features`.
            exact: in fp32 whatever the evaluator's precision, for differences of near points.

        Returns:
            ε̂ `(N, C, *S)`, and by block each channel's means over a grid of places and its
            standard deviation over all, `(N, c, places + 1)`; on the evaluator's device.

        Raises:
            AttributeError: the network has no such block.
            ValueError: as `eps`.
        """
        exact = exact and self.precision != "fp32"
        if not blocks and not exact:
            return self.eps(x_t, t).float(), {}
        observer, network = self._observer(tuple(blocks), exact)
        found: dict[str, list[Tensor]] = {name: [] for name in blocks}

        def call(network: Network, x: Tensor, times: Tensor, **labels: Tensor) -> Tensor:
            flat = self._call(network, x, times, **labels)
            output, summaries = observer.split(flat, x.shape[1:])
            for name, values in summaries.items():
                found[name].append(values)
            return output

        denoiser = self.diffusion.denoiser(partial(call, network))
        parts = self._batches(x_t, t)
        eps = [denoiser(x, times.clamp(min=0)).float() for _, x, times in parts]
        none = torch.empty_like(x_t, device=self.device)
        statistics = {name: torch.cat(values) for name, values in found.items() if values}
        return torch.cat(eps) if eps else none, statistics

    def _observer(self, blocks: tuple[str, ...], exact: bool) -> tuple[Observed, MaybeCompiled]:
        """A network that tells of these blocks, and the same perhaps compiled; made once."""
        if (blocks, exact) not in self._observers:
            observer = Observed(self.diffusion.network, blocks).eval()
            mode = "graph" if exact and self._compile != "off" else self._compile
            network = self._maybe_compiled(observer, mode, "fp32" if exact else self.precision)
            network.expect(self._rows_expected)
            self._observers[blocks, exact] = observer, network
        return self._observers[blocks, exact]

    def _maybe_compiled(self, network: nn.Module, mode: str, precision: str) -> MaybeCompiled:
        rows, recorder = self.max_batch, self._recorder
        return MaybeCompiled(network, rows, mode, self.device, precision, recorder)

    def _call(self, network: Network, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        self.calls += len(x)
        rows = [0, max(0, self.min_rows - len(x))]
        if rows == [0, 0]:
            return network(x, t, **labels)
        labels = {name: functional.pad(label, rows) for name, label in labels.items()}
        x_filled = functional.pad(x, [0, 0] * (x.ndim - 1) + rows)
        return network(x_filled, functional.pad(t, rows), **labels)[: len(x)]

    def _batches(self, x_t: Tensor, t: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """At most `max_batch` rows at a time, on the device, and where they begin."""
        last = self.diffusion.schedule.num_timesteps - 1
        if len(t) != len(x_t):
            raise ValueError(f"found {len(t)} times for {len(x_t)} rows")
        if len(t) and not CLEAN <= t.amin() <= t.amax() <= last:
            raise ValueError(f"found times outside {CLEAN} to {last}")
        for k in range(0, len(x_t), self.max_batch):
            part = slice(k, k + self.max_batch)
            yield k, to_device(x_t[part], self.device), t[part]


def _keep(outputs: list[Tensor], module: nn.Module, inputs: object, output: Tensor) -> None:
    """A forward hook of torch, of a module whose outputs are kept."""
    outputs.append(output)
