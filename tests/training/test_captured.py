"""A captured step is the plain one, told by a graph of the CPU that repeats what it recorded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.runtime import compiling
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.training import run
from diffusion_ood.training.captured import WARM_UP
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer

SHAPE = (1, 8, 8)
ASKS_THE_DEVICE = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class RecordedGraph(TorchDispatchMode):
    """The operations of some work, repeated on the very tensors that they were recorded with.

    As in a CUDA graph, recording changes nothing, what is no tensor keeps its value of then, and to
    ask the device for a number is an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0
        self._before: list[tuple[Tensor, Tensor]] = []

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """As plainly as it can be."""
        return work()

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work, note its operations, and undo it."""
        state = torch.get_rng_state()
        with self:
            result = work()
        torch.set_rng_state(state)
        with torch.no_grad():
            for tensor, value in reversed(self._before):
                tensor.copy_(value)
        return result

    def replay(self) -> None:
        """Repeat every operation, and write into the memory of its first results."""
        self.replays += 1
        with torch.no_grad():
            for call, args, kwargs, results in self.calls:
                for old, new in zip(
                    tree_leaves(results), tree_leaves(call(*args, **kwargs)), strict=True
                ):
                    if isinstance(old, Tensor) and old is not new:
                        old.copy_(new)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func in ASKS_THE_DEVICE:
            raise RuntimeError(f"{func} cannot be captured")
        args, kwargs = tree_map(lambda leaf: leaf, (args, kwargs or {}))
        for given, value in [
            *zip(func._schema.arguments, args, strict=False),
            *((a, kwargs[a.name]) for a in func._schema.arguments if a.name in kwargs),
        ]:
            if given.alias_info is not None and given.alias_info.is_write:
                self._before += [(tensor, tensor.clone()) for tensor in tree_leaves(value)]
        found = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, found))
        return found


class Net(nn.Module):
    """Convolutions, a place for the time, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.time = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(1, 8)
        self.last, self.drop = nn.Conv2d(8, 1, 3, padding=1), nn.Dropout(0.3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """`(B, 1, H, W)` of images of that shape and times (B,)."""
        hidden = torch.tanh(self.first(x) + self.time(t[:, None] / 1000)[..., None, None])
        return self.last(self.drop(hidden))


def trainer(**changes: Any) -> Trainer:
    torch.manual_seed(0)
    options = {"lr_schedule": "cosine", "warmup_steps": 3, "grad_clip": 0.5, "ema_decay": 0.9}
    plan = Plan(**{"lr": 1e-2, "total_steps": 20, "seed": 2, **options, **changes})
    objective = DiffusionObjective(Diffusion(DiffusionOptions(model_type="tiny"), SHAPE), 1000)
    torch.manual_seed(1)
    return Trainer(Net(), objective.loss, plan)


def batches(first: int, last: int, size: int = 4) -> Iterator[Batch]:
    for step in range(first, last):
        images = torch.rand(size, *SHAPE, generator=torch.Generator().manual_seed(step))
        yield Batch(images, size)


def state(trainer_: Trainer) -> list[Any]:
    return tree_leaves({**trainer_.state_dict(), "weights": trainer_.evaluation_weights()})


def assert_equal(a: list[Any], b: list[Any]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", [{}, {"grad_clip": 0.0, "ema_decay": 0.0}])
def test_captured_steps_are_the_plain_ones_to_the_bit(
    precision: str, changes: dict[str, float]
) -> None:
    plain, captured = (trainer(precision=precision, **changes) for _ in range(2))
    graph = RecordedGraph()
    assert captured.capture(graph)
    expected = list(plain.epoch(batches(0, 10)))
    losses = list(captured.epoch(batches(0, 10)))
    assert graph.replays == 10 - WARM_UP
    assert len(set(map(float, losses))) == 10  # each is its own tensor
    assert_equal(losses, expected)
    assert_equal(state(captured), state(plain))


def test_captured_steps_go_on_from_plain_ones_and_plain_ones_from_them() -> None:
    plain, first, second = trainer(), trainer(), trainer()
    list(plain.epoch(batches(0, 18)))
    list(first.epoch(batches(0, 2)))
    first.capture(RecordedGraph())
    list(first.epoch(batches(2, 9)))
    second.load_state_dict(first.state_dict())
    second.capture(RecordedGraph())
    list(second.epoch(batches(9, 15)))
    last = trainer()
    last.load_state_dict(second.state_dict())
    list(last.epoch(batches(15, 18)))
    assert_equal(state(last), state(plain))


def test_a_batch_of_another_size_is_a_plain_step_between_captured_ones() -> None:
    plain, captured, graph = trainer(), trainer(), RecordedGraph()
    captured.capture(graph)
    for one in (plain, captured):
        for sizes in ((0, 6, 4), (6, 7, 3), (7, 10, 4)):
            list(one.epoch(batches(*sizes)))
    assert graph.replays == 9 - WARM_UP
    assert_equal(state(captured), state(plain))


class NoGraph(RecordedGraph):
    """Which fails amid the recording."""

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Leave everything as it was, and fail."""
        super().record(work)
        raise RuntimeError("out of memory\nwith details")


def test_what_cannot_be_captured_goes_on_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    plain, captured = trainer(), trainer()
    captured.capture(NoGraph())
    for one in (plain, captured):
        list(one.epoch(batches(0, 8)))
    assert_equal(state(captured), state(plain))
    assert capsys.readouterr().out.count("out of memory") == 1


def test_other_optimisers_losses_and_fp16_are_not_captured() -> None:
    plan = Plan(lr=1.0, total_steps=1, seed=0)
    network, loss = Net(), trainer().loss
    sgd = torch.optim.SGD(network.parameters(), lr=1.0)
    assert not Trainer(network, loss, plan, sgd).capture(RecordedGraph())
    assert not Trainer(network, lambda *_: torch.zeros(1), plan).capture(RecordedGraph())
    assert not trainer(precision="fp16").capture(RecordedGraph())


def test_a_checkpoint_has_plain_numbers_and_an_older_one_is_read() -> None:
    """Its optimiser was capable of other things, and its learning rate was that of then."""
    plain, other = trainer(), trainer()
    list(plain.epoch(batches(0, 5)))
    saved = copy.deepcopy(plain.state_dict())
    (group,) = saved["optimizer"]["param_groups"]
    assert group["lr"] == plain.lr
    older = {**group, "lr": 1e-2, "fused": None, "capturable": False}
    other.load_state_dict({**saved, "optimizer": {**saved["optimizer"], "param_groups": [older]}})
    assert other.capture(RecordedGraph())
    for one in (plain, other):
        list(one.epoch(batches(5, 10)))
    assert_equal(state(other), state(plain))


def test_a_run_that_captures_its_steps_and_is_resumed_learns_what_a_plain_run_does(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--ema_decay=0.9", "--augmentation", "--flip", "--warmup_steps=5", "--eval_freq=1"]
    plain = load_checkpoint(train(tmp_path / "A", *flags, "--n_epochs=4") / "checkpoint.pth")
    graphs: list[RecordedGraph] = []

    def graph_on(_: torch.device) -> RecordedGraph:
        graphs.append(RecordedGraph())
        return graphs[-1]

    monkeypatch.setattr(run, "graph_on", graph_on)
    monkeypatch.setattr(run, "LEAST_STEPS", 1)
    monkeypatch.setattr(compiling, "compiler_is_there", lambda _: False)
    for epochs in (2, 4):
        train(tmp_path / "B", *flags, "--compile=auto", f"--n_epochs={epochs}")
    found = load_checkpoint(tmp_path / "B" / "checkpoint.pth")
    assert [graph.replays for graph in graphs] == [6 - WARM_UP] * 2
    assert_equal(tree_leaves(found["trainer"]), tree_leaves(plain["trainer"]))
    assert found["best_loss"] == plain["best_loss"]
