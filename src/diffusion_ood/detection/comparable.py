"""Whether the score tables of a run may be compared: one model, other images, equal sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from diffusion_ood.detection.parts import first_difference, read_companion
from diffusion_ood.detection.table import table_path
from diffusion_ood.errors import UserError


def comparison_warnings(ood_dir: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What makes the comparison of a run's tables doubtful, in sentences.

    Raises:
        UserError: what makes it wrong.
    """
    yield from _companion_warnings(ood_dir, tables)
    yield from _overlap_warnings(ood_dir, tables)


def _companion_warnings(ood_dir: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Refuse tables of different models or settings; warn where that or sizes are in doubt."""
    companions = {name: read_companion(table_path(ood_dir, name)) for name in tables}
    known = {name: found for name, found in companions.items() if found is not None}
    for name in companions if known else ():
        if name not in known:
            yield f"results_{name}.csv has no companion .json: nobody knows how it was made"
    first = next(iter(known), "")
    for name, found in known.items():
        difference = first_difference(found["fingerprint"], known[first]["fingerprint"])
        if difference:
            raise UserError(
                f"{table_path(ood_dir, name).with_suffix('.json')}: found {difference} as in "
                f"results_{first}.json; scores of different models or settings do not compare"
            )
    facts = {name: found["facts"] for name, found in known.items()}
    sizes = {name: fact["native_size"] for name, fact in facts.items() if fact.get("native_size")}
    for name, size in sizes.items():
        if size != sizes.get("in", size):
            yield (
                f"the images of {name} are stored with {_sides(size)} pixels, those of in with "
                f"{_sides(sizes['in'])}: resizing only one of two sets inflates the AUROC"
            )


def _sides(sizes: Sequence[Sequence[int]]) -> str:
    """Show [[28, 28], [32, 28]] as "28 × 28 (and 1 other size)"."""
    first, others = " × ".join(map(str, sizes[0])), len(sizes) - 1
    return f"{first} (and {others} other size{'s' * (others > 1)})" if others else first


def _overlap_warnings(ood_dir: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Refuse validation images in the test set; only warn where equal names may be other files.

    Paths are as the splits have them, so they mean the same file when both splits lie in one
    folder. Tables without a companion may hold bare file names.
    """
    in_val = tables["in"]["filename"].isin(tables["val"]["filename"].unique())
    if not in_val.any():
        return
    sentence = f"{tables['in']['filename'][in_val].iloc[0]!r} is both in val and in in"
    val, test = (read_companion(table_path(ood_dir, name)) for name in ("val", "in"))
    folders = {Path(c["facts"].get("split", "")).parent for c in (val, test) if c}
    if val and test and len(folders) == 1:
        raise UserError(f"{table_path(ood_dir, 'in')}: {sentence}, expected different images")
    yield f"{sentence}: unless these are different files, the test is not fair"
