"""Whether score tables may be compared: of one model, of different images, of equal sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table_writer import first_difference, read_sidecar
from diffusion_ood.errors import UserError


def comparison_warnings(ood_dir: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What makes the comparison of a run's tables doubtful, in sentences.

    Raises:
        UserError: what makes it wrong.
    """
    yield from _sidecar_warnings(ood_dir, tables)
    yield from _overlap_warnings(ood_dir, tables)


def skipped_images(ood_dir: Path, names: Iterable[str]) -> dict[str, int]:
    """How many images of each set reconstruct.py left out, as far as its sidecar says so."""
    sidecars = {name: read_sidecar(table_path(ood_dir, name)) for name in names}
    return {
        name: int(found["facts"].get("skipped", 0)) if found else 0
        for name, found in sidecars.items()
    }


def _sidecar_warnings(ood_dir: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Refuse tables of different models or settings; warn of unknown ones and of other sizes."""
    sidecars = {name: read_sidecar(table_path(ood_dir, name)) for name in tables}
    known = {name: found for name, found in sidecars.items() if found is not None}
    for name in sidecars if known else ():
        if name not in known:
            yield f"results_{name}.csv has no sidecar .json, so it is unknown how it was made"
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
    """Refuse images that are in two sets; only warn where equal names may be other files.

    Paths are as the splits have them, so they mean the same file when both splits lie in one
    folder. Tables without a sidecar may hold bare file names. OOD sets may share images, and a
    flipped set those of the set that it flips.
    """
    sidecars = {name: read_sidecar(table_path(ood_dir, name)) for name in tables}
    # Sidecars of earlier versions do not say whether an OOD set is flipped.
    facts = {
        name: {**({"flip": None} if name in ("val", "in") else {}), **(found["facts"])}
        for name, found in sidecars.items()
        if found
    }
    names = {name: pd.Index(table["filename"].unique()) for name, table in tables.items()}
    for other in ("val", "in"):
        for name in [name for name in tables if name not in ("val", other)]:
            shared = names[name].intersection(names[other], sort=False)
            if shared.empty:
                continue
            sentence = f"{shared[0]!r} is both in {other} and in {name}"
            if _same_files(facts.get(name, {}), facts.get(other, {})):
                raise UserError(
                    f"{table_path(ood_dir, name)}: {sentence}, expected different images"
                )
            if name == "in":
                yield f"{sentence}: unless these are different files, the test is not fair"


def _same_files(facts: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether equal names in two sets are certainly the same images."""
    if not {"split", "flip"} <= facts.keys() & other.keys():
        return False
    same_folder = Path(facts["split"]).parent == Path(other["split"]).parent
    return same_folder and facts["flip"] == other["flip"]
