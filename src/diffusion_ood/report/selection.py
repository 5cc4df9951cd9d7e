"""Which images of a set a report shows."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.detection.assessment import decide, measure
from diffusion_ood.detection.examples import select_examples
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table import read_table
from diffusion_ood.options import DetectOptions


def chosen_images(
    ood_dir: Path, name: str, per_kind: int, options: DetectOptions
) -> tuple[str, ...]:
    """The images of a set that a report shows, by its scores and those of the validation images.

    Args:
        ood_dir: the folder of the score tables.
        name: of the set.
        per_kind: the most images of each kind, see `detection.examples`.
        options: how decisions are made.

    Raises:
        UserError: a table that is missing or wrong, or too few validation images.
    """
    names = ("val", name)
    tables = {name: read_table(table_path(ood_dir, name)) for name in names}
    _, _, scores = measure(ood_dir, tables, options)
    decided = decide(scores, options.target_fpr)[name]
    return tuple(select_examples(decided, per_kind, is_in=name == "in")["filename"])
