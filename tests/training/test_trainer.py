"""The training loop: resuming, averaging and dividing it over processes change nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer

SHAPE = (1, 8, 8)
STEPS = 12
# The size of each step's global batch, by what they show.
SIZES = {"even": [4] * STEPS, "uneven": [5, 3] * (STEPS // 2), "empty share": [1] * STEPS}


class Net(nn.Module):
    """A few convolutions and a place for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.time = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(1, 8)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """`(B, 1, H, W)` of images of that shape and times (B,)."""
        return self.last(torch.tanh(self.first(x) + self.time(t[:, None] / 1000)[..., None, None]))


def trainer(weights_seed: int = 0, **changes: Any) -> Trainer:
    plan = Plan(
        **{
            "lr": 1e-2,
            "lr_schedule": "cosine",
            "total_steps": STEPS,
            "ema_decay": 0.99,
            "seed": 2,
            **changes,
        }
    )
    torch.manual_seed(weights_seed)
    objective = DiffusionObjective(Diffusion(DiffusionOptions(model_type="tiny"), SHAPE), 1000)
    torch.manual_seed(weights_seed)
    return Trainer(Net(), objective.loss, plan)


def batches(sizes: list[int], first: int = 0) -> Iterator[Batch]:
    """This process's images of every global batch, which depend on the step alone."""
    for step, n in enumerate(sizes, start=first):
        images = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(step))
        yield Batch(images[distributed.share()], n)


def train(trainer_: Trainer, sizes: list[int]) -> Trainer:
    for _ in trainer_.epoch(batches(sizes, trainer_.step)):
        pass
    return trainer_


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_resuming_gives_the_uninterrupted_weights_to_the_bit(tmp_path: Path) -> None:
    straight = train(trainer(), [4] * 8)
    save_checkpoint(tmp_path / "c.pth", {"trainer": train(trainer(), [4] * 3).state_dict()})
    resumed = trainer(weights_seed=9)
    resumed.load_state_dict(load_checkpoint(tmp_path / "c.pth")["trainer"])
    assert resumed.step == 3
    train(resumed, [4] * 5)
    assert largest_difference(straight.network.state_dict(), resumed.network.state_dict()) == 0
    assert largest_difference(straight.evaluation_weights(), resumed.evaluation_weights()) == 0


def test_training_changes_the_weights_and_depends_on_the_seed() -> None:
    weights = [train(trainer(seed=seed), [4] * 3).network.state_dict() for seed in (2, 2, 3)]
    assert largest_difference(weights[0], weights[1]) == 0
    assert largest_difference(weights[0], weights[2]) > 1e-3
    assert largest_difference(weights[0], trainer().network.state_dict()) > 1e-3


def test_averaged_weights_are_those_of_the_formula() -> None:
    averaging = trainer(ema_decay=0.15)
    expected = {name: w.clone() for name, w in averaging.network.state_dict().items()}
    for step, decay in enumerate([0.1, 0.15, 0.15]):  # min(0.15, 1/10), min(0.15, 2/11), …
        assert averaging.step == step
        train(averaging, [4])
        for name, weight in averaging.network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * weight
    assert largest_difference(averaging.evaluation_weights(), expected) < 1e-6
    assert largest_difference(averaging.network.state_dict(), expected) > 1e-4


def test_without_averaging_the_weights_are_evaluated_themselves() -> None:
    plain = train(trainer(ema_decay=0.0), [4])
    assert largest_difference(plain.evaluation_weights(), plain.network.state_dict()) == 0
    assert plain.state_dict()["average"] is None


def test_averaging_that_starts_late_starts_from_the_weights_of_then() -> None:
    plain = train(trainer(ema_decay=0.0), [4] * 3)
    then = {name: weight.clone() for name, weight in plain.network.state_dict().items()}
    late = trainer(ema_decay=0.25)
    late.load_state_dict(plain.state_dict())
    assert largest_difference(late.evaluation_weights(), then) == 0
    train(late, [4])  # step number 3: d = min(0.25, 4/13)
    now = late.network.state_dict()
    expected = {name: 0.25 * then[name] + 0.75 * now[name] for name in now}
    assert largest_difference(late.evaluation_weights(), expected) < 1e-6


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("constant", [8, 8, 8, 8, 8, 8]), ("cosine", [8, 4 + 2 * 2**0.5, 4, 4 - 2 * 2**0.5, 0, 0])],
)
def test_the_learning_rate_falls_along_a_cosine(schedule: str, values: list[float]) -> None:
    plan = trainer(lr=8.0, lr_schedule=schedule, total_steps=100).plan
    found = [plan.lr_at(step) for step in (0, 25, 50, 75, 100, 120)]
    assert found == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize(("step", "lr"), [(0, 1e-2), (STEPS // 2, 5e-3)])
def test_a_step_is_made_with_its_own_learning_rate(step: int, lr: float) -> None:
    """Adam's first step moves a weight with a clear gradient by the learning rate itself."""
    fresh = trainer()
    fresh.load_state_dict({**fresh.state_dict(), "step": step})
    before = {name: weight.clone() for name, weight in fresh.network.state_dict().items()}
    train(fresh, [4])
    assert largest_difference(before, fresh.network.state_dict()) == pytest.approx(lr, rel=1e-3)
    assert fresh.lr == pytest.approx(lr)


def test_the_seed_of_a_step_depends_on_seed_and_step_alone() -> None:
    plans = trainer().plan, trainer(lr=1.0, total_steps=5).plan, trainer(seed=3).plan
    first, same, other = ([plan.seed_at(step) for step in range(1000)] for plan in plans)
    assert first == same
    assert len({*first, *other}) == 2000
    assert all(0 <= seed < 2**56 for seed in first)


def test_every_step_draws_by_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    fresh = trainer()
    loss = fresh.loss

    def recording(*given: Any) -> Tensor:
        drawn.append(given[-1])
        return loss(*given)

    monkeypatch.setattr(fresh, "loss", recording)
    train(fresh, [4] * 3)
    assert drawn == [fresh.plan.seed_at(step) for step in range(3)]


def test_the_loss_of_a_step_is_the_mean_over_its_images() -> None:
    fresh = trainer()
    (batch,) = batches([5])
    losses = fresh.loss(fresh.network, batch, fresh.plan.seed_at(0))
    (found,) = fresh.epoch([batch])
    assert found.item() == pytest.approx(losses.mean().item(), rel=1e-6)
    assert not found.requires_grad


def test_two_processes_learn_what_one_learns(launch: Callable[..., Any], tmp_path: Path) -> None:
    for done in launch(__file__, str(tmp_path), processes=2):
        assert done.returncode == 0, done.stderr
    for name, sizes in SIZES.items():
        expected = train(trainer(), sizes)
        for rank in (0, 1):
            found = load_checkpoint(tmp_path / f"{name} {rank}.pth")
            weights = expected.network.state_dict()
            assert largest_difference(found["network"], weights) < 1e-5, name
            averages = expected.evaluation_weights()
            assert largest_difference(found["average"], averages) < 1e-5, name


@pytest.mark.slow
def test_two_processes_that_compile_learn_what_one_learns(
    launch: Callable[..., Any], tmp_path: Path
) -> None:
    for done in launch(__file__, str(tmp_path), "compiled", processes=2):
        assert done.returncode == 0, done.stderr
    expected = train(trainer(), SIZES["even"]).state_dict()
    for rank in (0, 1):
        found = load_checkpoint(tmp_path / f"compiled {rank}.pth")
        assert largest_difference(found["network"], expected["network"]) < 1e-5
        assert largest_difference(found["average"], expected["average"]) < 1e-5


def compile_in_a_group(folder: Path) -> None:
    """The same in the middle of a training, by all of the compiler that knows of processes."""
    with distributed.process_group("cpu"):
        compiling, sizes = trainer(weights_seed=0), SIZES["even"]
        train(compiling, sizes[:3])
        torch.compile = partial(torch.compile, backend="aot_eager")
        compiling.compile()
        state = train(compiling, sizes[3:]).state_dict()
        save_checkpoint(folder / f"compiled {distributed.rank()}.pth", state)


def train_in_a_group(folder: Path) -> None:
    """The body of each of the two processes."""
    with distributed.process_group("cpu"):
        for name, sizes in SIZES.items():
            state = train(trainer(weights_seed=0), sizes).state_dict()
            save_checkpoint(folder / f"{name} {distributed.rank()}.pth", state)


if __name__ == "__main__":
    body = compile_in_a_group if "compiled" in sys.argv else train_in_a_group
    body(Path(sys.argv[1]))
