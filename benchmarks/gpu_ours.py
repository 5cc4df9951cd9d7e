"""The product as a contender of `benchmarks/gpu.py`, called as its commands call it.

Only `_force`, `_accelerate` and `graphs_of` reach into it: the first two make it call its network
in a way that it would not choose by itself.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from itertools import repeat

import torch
from gpu_cases import CALLS, COMPILED, GRID_SKIP, MEASURED_SKIP, Case, How, Work

from diffusion_ood.detector import Detector
from diffusion_ood.detector.file import Content
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.runtime.compiling import CompileDecision, CompiledForFullBatches
from diffusion_ood.runtime.device import prepare, steady_rows
from diffusion_ood.training.captured import graph_on
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer
from diffusion_ood.trajectories.evaluator import Evaluator

SEED = 2
FITTED = 24  # images that a detector is fitted to

OPTION = {"auto": "auto", "graph": "graph"}
"""Of the modes that an evaluator has, its option `compile`; that of all others is `off`."""
TORCH = {"compiled": "default"}
"""What torch calls a mode of its compiler that we call otherwise."""


def ours(case: Case, how: How, model: Diffusion, device: torch.device) -> Work:
    """Its work."""
    if case.work == "training":
        return _training(case, how, model, device)
    if case.work == "grid":
        return _grid(case, how, model, device)
    return _screening(case, how, model, device)


def evaluator(
    model: Diffusion, device: torch.device, how: How, most: int | None = None
) -> Evaluator:
    """One that calls the network so, if need be of no more than `most` rows."""
    found = Evaluator(
        model,
        device,
        precision=how.precision,
        compile=OPTION.get(how.mode, "off"),
        max_batch=how.rows or most,
        min_rows=steady_rows(device),
    )
    found.expect(how.expected)
    if how.mode in COMPILED:
        _force(found, how.mode)
    return found


@lru_cache(maxsize=1)  # of a case all contenders ask for the same
def fitted(
    model: Diffusion, device: torch.device, method: str = "denoising", precision: str = "bf16"
) -> Content:
    """A detector of `CALLS` calls, fitted to images of random pixels."""
    images = torch.rand(FITTED, *model.image_shape).numpy()
    lpips = len(model.image_shape) == 3 and find_alexnet_features() is not None
    options = ReconstructOptions(
        methods=(method,),
        budget=CALLS if method == "joined" else None,
        num_levels=CALLS,
        scores=("mse", "perceptual") if lpips else ("mse",),
    )
    training = images if method == "joined" else None
    return Detector.fit(
        model, images, training, options=options, device=device, precision=precision
    ).content


def _screening(case: Case, how: How, model: Diffusion, device: torch.device) -> Work:
    """Decisions of a detector, as `screen` asks for them."""
    content = fitted(model, device, "joined" if case.work == "joined" else "denoising")
    own = evaluator(model, device, how)
    detector = Detector(content, own)
    calls = detector.calls_per_image
    images = max(1, own.max_batch // calls)  # that fill one call
    pixels = torch.rand(images, *model.image_shape)

    def run(number: int) -> None:
        for _ in range(number // images):
            detector.measure(pixels)

    return Work(run, images, calls, settles=8, ran=lambda: own.decision() or how.mode)


def _grid(case: Case, how: How, model: Diffusion, device: torch.device) -> Work:
    """Reconstructions down the paper's grid, as `reconstruct.py` makes them."""
    lpips = len(case.sides) == 2 and find_alexnet_features() is not None
    scores = ("mse", "perceptual") if lpips else ("mse",)
    method = Reconstruction(inference_skip_factor=MEASURED_SKIP, scores=scores, seed=SEED)
    whole = Reconstruction(inference_skip_factor=GRID_SKIP, scores=("mse",), seed=SEED)
    # As many trajectories at a time as images: a call is as full as by all 25 start points.
    own = evaluator(model, device, how, case.images)
    pixels = torch.rand(case.images, *model.image_shape)
    keys = [str(number) for number in range(case.images)]

    def run(number: int) -> None:
        for _ in range(number // case.images):
            batch = ImageBatch(pixels.to(device), keys)
            list(method.measure(batch, own))

    calls = method.calls(model)
    share = calls / whole.calls(model)
    return Work(run, case.images, calls, share, ran=lambda: own.decision() or how.mode)


def _force(own: Evaluator, mode: str) -> None:
    """Compile its network in one of torch's modes."""
    network = own.diffusion.network
    compiled = torch.compile(network, dynamic=False, mode=TORCH.get(mode, mode))
    forced = CompiledForFullBatches(network, own.max_batch)
    # What torch's own graphs return, the next call overwrites.
    forced._compiled = lambda *inputs, **labels: compiled(*inputs, **labels).clone()
    own._network._network = forced


def _training(case: Case, how: How, model: Diffusion, device: torch.device) -> Work:
    """Steps of the trainer, as `train_ddpm.py` takes them; the images are on the device."""
    own = copy.copy(model)
    own.network = prepare(copy.deepcopy(model.network).requires_grad_(True), device)
    plan = Plan(lr=1e-4, total_steps=10**6, seed=SEED, precision=how.precision)
    objective = DiffusionObjective(own, own.schedule.num_timesteps)
    trainer = Trainer(own.network, objective.loss, plan)
    decision = CompileDecision("auto" if how.mode == "auto" else "off", device, how.precision)
    if how.mode != "auto":
        _accelerate(trainer, how.mode)
    batch = Batch(torch.rand(case.images, *model.image_shape, device=device), case.images)
    said = [how.mode]

    def run(number: int) -> None:
        for _ in trainer.epoch(repeat(batch, number // case.images)):
            if reason := decision.after_step(how.expected):
                said[0] = reason
                if decision.compile_now:
                    trainer.compile()
                said[0] += _capture(trainer)

    return Work(run, case.images, settles=16, ran=lambda: f"{said[0]}{_lacks_graph(trainer)}")


def _accelerate(trainer: Trainer, mode: str) -> None:
    """Call the network of a training in a mode from the next step on."""
    if mode == "graph":
        _capture(trainer)
    if mode in COMPILED:
        trainer._forward = torch.compile(trainer._forward, mode=TORCH.get(mode, mode))


def graphs_of(own: Evaluator) -> int:
    """How many CUDA graphs its network's calls are."""
    recorded = own._network._recorded
    return len(recorded._recordings) if recorded else 0


def _lacks_graph(trainer: Trainer) -> str:
    """What to say where a graph was asked for and none was made."""
    asked = trainer._captured
    return ", but no graph could be made" if asked and asked._loss is None else ""


def _capture(trainer: Trainer) -> str:
    """Make one graph of every step where the device has graphs; what to say of it."""
    graph = graph_on(trainer.device)
    return ", a CUDA graph" if graph is not None and trainer.capture(graph) else ""
