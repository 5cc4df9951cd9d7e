"""Where the checkpoints of a run lie."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.errors import UserError
from diffusion_ood.paths import expanded

LAST = "checkpoint.pth"
PREVIOUS = "checkpoint_previous.pth"
BEST = "checkpoint_best.pth"


def epoch_checkpoint(run_dir: Path, epoch: int) -> Path:
    """The checkpoint that is kept after so many epochs."""
    return run_dir / f"checkpoint_{epoch}.pth"


def checkpoint_path(run_dir: Path, asked: str) -> Path:
    """The checkpoint meant by `best`, `last` or a path; UserError where its `~` is nobody's."""
    names = {"best": BEST, "last": LAST}
    try:
        return run_dir / names[asked] if asked in names else expanded(asked)
    except UserError as error:
        raise UserError(f"`eval_checkpoint`: {error}") from None


def require_checkpoint(path: Path) -> Path:
    """The path itself.

    Raises:
        UserError: there is no checkpoint.
    """
    if not path.exists():
        hint = "train_ddpm.py writes it"
        if path.name == BEST and path.with_name(LAST).exists():
            hint = f"{LAST} is there, from before the first validation: `eval_checkpoint`=last"
        raise UserError(f"{path}: found no checkpoint there; {hint}")
    return path
