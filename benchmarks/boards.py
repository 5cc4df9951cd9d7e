"""What the leaderboard is made of: data sets, models by one recipe, and the rows of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FAULTS = (
    *("ghosting", "motion", "spike", "bias_field", "noise", "blur", "gamma", "contrast"),
    *("inversion", "wrong_window", "rotation", "shift", "cropped", "box", "swapped_quarters"),
    *("foreign_patch", "resampling"),
)
SEVERITY = 3

RECIPE = {
    "model_type": "tiny",
    "lr": 1e-3,
    "lr_schedule": "cosine",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "precision": "bf16",
}
"""Of every model, as in `make demo`."""


@dataclass(frozen=True)
class Board:
    """In-distribution data, the model that learns them, and what it is to tell from them.

    Attributes:
        name: of the run.
        title: of the table.
        train: options of the training beside `RECIPE`.
        splits: of the training, validation and test images.
        near: sets that differ in one thing: turned images, neighbouring classes, faults.
        far: sets of other things.
        faults: whether the test images with every fault are among the near sets.
    """

    name: str
    title: str
    train: dict[str, int | float]
    splits: tuple[str, str, str]
    near: tuple[str, ...]
    far: tuple[str, ...]
    faults: bool = False

    @property
    def faulty(self) -> tuple[str, ...]:
        """The sets of test images with faults."""
        names = [f"{self.splits[2]}_{fault}{SEVERITY}" for fault in FAULTS]
        return tuple(names) if self.faults else ()

    @property
    def sets(self) -> tuple[str, ...]:
        """All out-of-distribution sets, the near ones first."""
        return (*self.near, *self.faulty, *self.far)


BOARDS = (
    Board(
        "mnist5k",
        "MNIST5k (digits, 28 × 28)",
        {"n_epochs": 8, "batch_size": 64, "ema_decay": 0.995, "is_grayscale": 1},
        ("MNIST5k_train", "MNIST5k_val", "MNIST5k_test"),
        near=("MNIST5k_vflip_test", "MNIST5k_hflip_test"),
        far=("FashionMNIST_test", "PhotoPatches_test"),
    ),
    Board(
        "fashionmnist",
        "FashionMNIST (clothes, 28 × 28)",
        {"n_epochs": 6, "batch_size": 128, "ema_decay": 0.999, "is_grayscale": 1},
        ("FashionMNIST_train", "FashionMNIST_val", "FashionMNIST_test"),
        near=("FashionMNIST_vflip_test", "FashionMNIST_hflip_test"),
        far=("MNIST5k_test", "PhotoPatches_test"),
    ),
    Board(
        "cifar10",
        "CIFAR-10 (photographs, 32 × 32)",
        {"n_epochs": 10, "batch_size": 64, "ema_decay": 0.998, "image_size": 32},
        ("CIFAR10_train", "CIFAR10_val", "CIFAR10own_test"),
        near=("CIFAR100_test", "CIFAR10own_vflip_test"),
        far=("MNIST5k_test", "FashionMNIST_test", "ChestCT_test"),
        faults=True,
    ),
    Board(
        "headct",
        "HeadCT (MedNIST, 64 × 64)",
        {"n_epochs": 16, "batch_size": 32, "ema_decay": 0.995, "is_grayscale": 1},
        ("HeadCT_train", "HeadCT_val", "HeadCT_test"),
        near=(),
        far=("AbdomenCT_test", "BreastMRI_test", "ChestCT_test"),
        faults=True,
    ),
)

DETECTORS = {
    "mean_control": ("controls", 0),
    "spread_control": ("controls", 0),
    "compression_control": ("controls", 0),
    "untrained_control": ("controls", 1),
    "msma_noisy": ("score_geometry", 10),
    "msma_clean": ("score_geometry", 10),
    "scoped": ("score_geometry", 6),
    "flipd": ("score_geometry", 30),
    "posterior_trace": ("score_geometry", 20),
    "cfs": ("features", 1),
    "diffpath_1d": ("path", 10),
    "diffpath_6d": ("path", 10),
    "ufcod": ("path", 10),
    "nll": ("likelihood", 10),
    "typicality": ("likelihood", 10),
    "input_complexity": ("likelihood", 10),
    "gepc": ("equivariance", 8),
    "eigenscore": ("eigenscore", 32),
    "projection_regret": ("projection_regret", 8),
    "lmd": ("inpainting", 20),
}
"""The published detectors: the method whose columns they read, and their own network calls."""

BUDGETS = (3, 10, 30)
"""Of the joined rows."""

METHODS: Sequence[str] = (
    *("denoising", "score_geometry", "features", "path", "likelihood", "equivariance"),
    *("eigenscore", "projection_regret", "inpainting", "controls"),
)
"""Of the run that all published detectors are made of."""


@dataclass(frozen=True)
class Row:
    """A row of a board's table, and where its scores come from.

    Attributes:
        name: shown.
        kind: "control", "seed", "published", "head", "joined" or "ceiling".
        run: the suffix of the run's name.
        method, target: the method's table and the score of it.
        calls: network calls an image; None where the run says it.
    """

    name: str
    kind: str
    run: str
    method: str
    target: str
    calls: int | None = None


def rows() -> list[Row]:
    """The rows of every board but the ceiling, controls first and joined last."""
    detectors = [
        Row(name, "control" if method == "controls" else "published", "all", method, name, calls)
        for name, (method, calls) in DETECTORS.items()
    ]
    heads = [
        Row(f"{method}, as it should be", "head", "all", method, "")
        for method in ("denoising", "score_geometry", "features", "path", "equivariance")
    ]
    seed = Row("ddpm-ood", "seed", "seed", "reconstruction", "both")
    joined = [
        Row(f"joined, {budget} calls", "joined", f"joined{budget}", "joined", "joined", budget)
        for budget in BUDGETS
    ]
    published = [row for row in detectors if row.kind == "published"]
    return [row for row in detectors if row.kind == "control"] + [seed, *published, *heads, *joined]
