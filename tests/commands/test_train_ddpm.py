"""Training from the command line: its files, its flags, going on, and its mistakes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from diffusion_ood import __version__, cli
from diffusion_ood.commands import train_ddpm
from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.training import checkpoints, diffusion_task

Command = Callable[..., Path]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty run directory."""
    return tmp_path / "runs" / "A"


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times that losses were computed at."""
    seen: list[int] = []
    loss = NetworkDenoiser.loss

    def recording(
        self: NetworkDenoiser, x_0: Tensor, eps: Tensor, t: Tensor, labels: Tensor | None
    ) -> Tensor:
        seen.extend(t.tolist())
        return loss(self, x_0, eps, t, labels)

    monkeypatch.setattr(NetworkDenoiser, "loss", recording)
    return seen


def last(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoint.pth")


def weights(run_dir: Path, name: str = "checkpoint.pth") -> dict[str, Tensor]:
    return load_checkpoint(run_dir / name)["weights"]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def scalars(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events(folder).Scalars(tag)}


def test_a_run_leaves_the_checkpoints_asked_for_and_nothing_else(trained: Path) -> None:
    kept = [f"checkpoint_{name}.pth" for name in ("best", "previous", *range(1, 11))]
    checkpoints = {"checkpoint.pth", *kept}
    others = {"config.json", "train", "val", ".lock"}
    found = {path.name for path in trained.iterdir()}
    assert len(options := found - checkpoints - others) == 1
    assert fnmatch(options.pop(), "events.out.tfevents.*.train")
    assert found >= checkpoints | others
    assert load_checkpoint(trained / "checkpoint_7.pth")["epoch"] == 7


def test_the_checkpoint_says_what_the_model_is(trained: Path) -> None:
    content = last(trained)
    assert content["options"]["DiffusionOptions"]["model_type"] == "tiny"
    assert content["options"]["DiffusionOptions"]["beta_schedule"] == "linear_beta"
    assert content["options"]["ImageOptions"]["is_grayscale"] is True
    assert (content["image_shape"], content["epoch"]) == ((1, 8, 8), 10)
    assert torch.__version__.startswith(content["versions"]["torch"])
    assert content["trainer"]["step"] == 10 * 12 // 4


def test_config_json_holds_every_option(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["TrainOptions"]["n_epochs"] == 10
    assert config["TrainOptions"]["training_ids"].endswith("A_train.csv")
    assert config["ComputeOptions"]["precision"] == "fp32"
    assert config["versions"]["diffusion_ood"] == __version__


def test_every_epoch_has_its_points_in_tensorboard(trained: Path) -> None:
    loss, lr = scalars(trained / "train", "loss"), scalars(trained / "train", "lr")
    assert list(loss) == list(lr) == list(range(1, 11))
    assert loss[10] < 0.9 * loss[1]
    assert lr == {epoch: pytest.approx(3e-3) for epoch in range(1, 11)}
    assert min(scalars(trained / "train", "images_per_second").values()) > 0


def test_points_of_a_training_that_goes_on_stay_and_others_are_replaced(
    train: Command, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        train(tmp_path / "A", f"--n_epochs={epochs}")
    assert list(scalars(tmp_path / "A" / "train", "loss")) == [1, 2]
    for checkpoint in (tmp_path / "A").glob("checkpoint*"):
        checkpoint.unlink()
    train(tmp_path / "A")
    assert list(scalars(tmp_path / "A" / "train", "loss")) == [1]


def test_validation_leaves_its_loss_and_a_grid_of_16_samples(trained: Path) -> None:
    (point,) = scalars(trained / "val", "loss").items()  # --eval_freq is 10
    assert point == (10, pytest.approx(last(trained)["best_loss"], rel=1e-6))
    (image,) = events(trained / "val").Images("samples")
    assert (image.step, image.width, image.height) == (10, 4 * 9 + 1, 4 * 9 + 1)


def test_the_best_checkpoint_has_the_least_validation_loss(train: Command, run_dir: Path) -> None:
    train(run_dir, "--n_epochs=5", "--eval_freq=1", "--lr=3e-2", "--checkpoint_every=1")
    losses = scalars(run_dir / "val", "loss")
    best = min(losses, key=lambda epoch: losses[epoch])
    found = load_checkpoint(run_dir / "checkpoint_best.pth")
    assert len(losses) == 5
    assert (found["epoch"], found["best_loss"]) == (best, pytest.approx(losses[best], rel=1e-6))
    assert last(run_dir)["best_loss"] == found["best_loss"]


@pytest.mark.parametrize("saves", range(5))
def test_an_end_between_two_saves_loses_neither_the_best_nor_an_epoch(
    saves: int, train: Command, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--n_epochs=2", "--eval_freq=2", "--checkpoint_every=1"]
    with monkeypatch.context() as patch:
        left = iter(range(saves))

        def dying(*args: Any, **more: Any) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            save_checkpoint(*args, **more)

        patch.setattr(checkpoints, "save_checkpoint", dying)
        with pytest.raises(KeyboardInterrupt):
            train(run_dir, *flags)
    train(run_dir, *flags)
    for name in ("best", "2"):
        found = load_checkpoint(run_dir / f"checkpoint_{name}.pth")
        assert (found["epoch"], found["best_loss"]) == (2, last(run_dir)["best_loss"])
    assert load_checkpoint(run_dir / "checkpoint_1.pth")["epoch"] == 1


def test_the_same_command_again_says_that_all_is_done(
    train: Command, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run_dir)
    before = (run_dir / "checkpoint.pth").stat().st_mtime_ns
    capsys.readouterr()
    train(run_dir)
    assert "n_epochs" in capsys.readouterr().out
    assert (run_dir / "checkpoint.pth").stat().st_mtime_ns == before


@pytest.mark.parametrize("flags", [[], ["--ema_decay=0.9", "--augmentation"]])
def test_one_epoch_and_another_are_two_epochs_to_the_bit(
    flags: list[str], train: Command, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run_dir, *flags)
    train(run_dir, *flags, "--n_epochs=2")
    assert "after epoch 1" in capsys.readouterr().out
    at_once = train(run_dir.with_name("at_once"), *flags, "--n_epochs=2")
    assert (last(run_dir)["epoch"], last(run_dir)["trainer"]["step"]) == (2, 6)
    assert largest_difference(weights(run_dir), weights(at_once)) == 0
    assert list(scalars(run_dir / "train", "loss")) == [1, 2]


def test_training_can_go_on_from_a_kept_checkpoint(
    train: Command, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run_dir, "--n_epochs=3", "--checkpoint_every=1")
    three = weights(run_dir)
    train(run_dir, "--n_epochs=2", "--ddpm_checkpoint_epoch=1")
    assert "checkpoint_1.pth after epoch 1" in capsys.readouterr().out
    assert last(run_dir)["epoch"] == 2
    assert largest_difference(weights(run_dir), weights(run_dir, "checkpoint_2.pth")) == 0
    assert largest_difference(weights(run_dir), three) > 1e-4


def test_checkpoints_are_kept_every_so_many_epochs(train: Command, run_dir: Path) -> None:
    train(run_dir, "--n_epochs=5", "--checkpoint_every=2", "--quick_test")
    kept = {path.name for path in run_dir.glob("checkpoint_[0-9]*.pth")}
    assert kept == {"checkpoint_2.pth", "checkpoint_4.pth"}


def test_a_quick_test_is_one_batch_of_each_an_epoch(
    train: Command, run_dir: Path, times: list[int]
) -> None:
    train(run_dir, "--n_epochs=2", "--eval_freq=2", "--quick_test")
    assert last(run_dir)["trainer"]["step"] == 2
    assert len(times) == 2 * 4 + 4 * 4  # four images a batch; in validation at four times each


def test_max_train_t_bounds_the_times_of_training_and_validation(
    train: Command, run_dir: Path, times: list[int]
) -> None:
    train(run_dir, "--max_train_t=5")
    assert len(times) == 12 + 4 * 6
    assert max(times) < 5
    assert len(set(times)) > 1


@pytest.mark.parametrize(
    "flag", ["--augmentation", "--seed=3", "--lr_schedule=cosine", "--ema_decay=0.9"]
)
def test_a_flag_changes_what_is_learnt(flag: str, train: Command, run_dir: Path) -> None:
    train(run_dir)
    other = train(run_dir.with_name("other"), flag)
    assert largest_difference(weights(run_dir), weights(other)) > 1e-5


def test_images_that_are_not_packed_give_the_same_weights(
    train: Command, run_dir: Path, own_splits: Path
) -> None:
    train(run_dir, "--cache_data=0", data=own_splits)
    assert not (own_splits / ".cache").exists()
    packed = train(run_dir.with_name("packed"), data=own_splits)
    assert len(list((own_splits / ".cache").glob("*.npy"))) == 2
    assert largest_difference(weights(run_dir), weights(packed)) == 0


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--prediction_type=sample", "`prediction_type`.* sample.* epsilon"),
        ("--beta_schedule=cosine", "`beta_schedule`.* cosine.* linear_beta"),
        ("--is_grayscale=0", "`is_grayscale`.* False.* True"),
        ("--image_size=16", "`image_size`.* 16.* None"),
    ],
)
def test_a_contradiction_with_the_checkpoint_is_refused(
    flag: str, named: str, train: Command, run_dir: Path
) -> None:
    train(run_dir, "--quick_test")
    before = (run_dir / "checkpoint.pth").read_bytes()
    with pytest.raises(UserError, match=named):
        train(run_dir, "--n_epochs=2", flag)
    assert (run_dir / "checkpoint.pth").read_bytes() == before


def test_a_contradiction_ends_as_one_line_and_exit_code_2(
    train: Command, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run_dir, "--quick_test")
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        cli.run(lambda: train(run_dir, "--n_epochs=2", "--b_scale=0.5"))
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --b_scale: ")
    assert error.count("\n") == 1


def test_a_resumed_run_refuses_images_of_another_size(
    train: Command, run_dir: Path, own_splits: Path
) -> None:
    train(run_dir, "--quick_test")
    for path in own_splits.glob("A_*/*.png"):
        Image.open(path).resize((16, 16)).save(path)
    with pytest.raises(UserError, match=r"8.*16|16.*8"):
        train(run_dir, "--n_epochs=2", "--quick_test", data=own_splits)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ddpm_checkpoint_epoch=7"], r"checkpoint_7\.pth"),
        (["--training_ids=none.csv"], r"none\.csv"),
        (["--device=banana"], "`device`"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(
    flags: list[str], named: str, train: Command, run_dir: Path
) -> None:
    with pytest.raises(UserError, match=named):
        train(run_dir, *flags)
    assert not run_dir.exists()


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_last_checkpoint(
    train: Command, run_dir: Path
) -> None:
    train(run_dir)
    before = (run_dir / "checkpoint.pth").read_bytes()
    with pytest.raises(UserError, match=r"epoch 2.*`lr`"):
        train(run_dir, "--n_epochs=3", "--lr=1e30")
    assert (run_dir / "checkpoint.pth").read_bytes() == before


def test_weights_that_give_no_number_are_never_saved(train: Command, run_dir: Path) -> None:
    """The loss of an epoch's last step says nothing of the weights that this step makes."""
    with pytest.raises(UserError, match="`lr`"):
        train(run_dir, "--n_epochs=2", "--eval_freq=1", "--quick_test", "--lr=1e30")
    assert not (run_dir / "checkpoint.pth").exists()


@pytest.mark.parametrize("more", [[], ["--augmentation"]])
def test_two_processes_train_like_one(
    more: list[str],
    train: Command,
    train_flags: Callable[..., Any],
    run_dir: Path,
    splits: Path,
    launch: Any,
) -> None:
    flags = ["--n_epochs=2", "--eval_freq=1", "--batch_size=5", "--prediction_type=sample", *more]
    train(run_dir, *flags)
    two = run_dir.with_name("two")
    first, second = launch(__file__, *train_flags(two, splits), *flags, processes=2)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "on 2 × cpu" in first.stdout
    assert second.stdout == ""
    for folder in ("train", "val"):
        expected = scalars(run_dir / folder, "loss")
        assert len(expected) == 2
        assert scalars(two / folder, "loss") == pytest.approx(expected, rel=1e-4)
    assert math.isfinite(last(two)["best_loss"])


if __name__ == "__main__":
    diffusion_task.SAMPLE_STEPS = 2
    train_ddpm.main(sys.argv[1:])


def test_weights_under_other_names_are_refused_in_one_sentence(
    train: Command, run_dir: Path
) -> None:
    train(run_dir)
    path = run_dir / "checkpoint.pth"
    state = torch.load(path, weights_only=True)
    network = state["trainer"]["network"]
    network["other.name"] = network.pop(next(iter(network)))
    save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"checkpoint\.pth.*`model_name`"):
        train(run_dir, "--n_epochs=2")
