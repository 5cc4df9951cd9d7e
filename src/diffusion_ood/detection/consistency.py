"""Whether score tables may be compared: of one model, of different images, of equal sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood.data.intensity import differences, doubts, of_json
from diffusion_ood.data.splits import PATCHED
from diffusion_ood.detection.contents import read_contents
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table_writer import Sidecar, first_difference
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import sha256
from diffusion_ood.runtime.words import counted


def comparison_warnings(
    folder: Path, tables: Mapping[str, pd.DataFrame], sidecars: Mapping[str, Sidecar]
) -> Iterator[str]:
    """What makes the comparison of a run's tables doubtful, in sentences.

    Raises:
        UserError: what makes it wrong.
    """
    for name in tables if sidecars else ():
        if name not in sidecars:
            yield f"results_{name}.csv has no sidecar .json, so it is unknown how it was made"
    first = next(iter(sidecars), "")
    for name, found in sidecars.items():
        difference = first_difference(found["fingerprint"], sidecars[first]["fingerprint"])
        if difference:
            raise UserError(
                f"{table_path(folder, name).with_suffix('.json')}: found {difference} as in "
                f"results_{first}.json; scores of different models or settings do not compare"
            )
    facts = {name: found["facts"] for name, found in sidecars.items()}
    for name, fact in facts.items():
        if "table" in fact and fact["table"] != sha256(table_path(folder, name)):
            yield (
                f"results_{name}.csv is not the table that results_{name}.json describes; it was "
                "changed or replaced after it was scored"
            )
    sizes = {name: fact["native_size"] for name, fact in facts.items() if fact.get("native_size")}
    for name, size in sizes.items():
        if size != sizes.get("in", size):
            yield (
                f"the images of {name} are stored with {_sides(size)} pixels, those of in with "
                f"{_sides(sizes['in'])}: resizing only one of two sets inflates the AUROC"
            )
    yield from _overlap_warnings(folder, tables, facts)
    yield from _copy_warnings(folder, tables, facts)
    yield from _content_warnings(facts)


def _copy_warnings(
    folder: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Say which images are there twice by their content, under whatever names."""
    contents: dict[str, list[str]] = {}
    for name in [name for name, fact in facts.items() if fact.get("flip") is None]:
        known = read_contents(folder, name)  # also of images that are kept for later
        images = tables[name]["filename"].unique()
        contents[name] = [known[image].split(":")[0] for image in images if image in known]
    for name, found in contents.items():
        if copies := len(found) - len(set(found)):
            yield f"{counted(copies, 'image')} of {name} too many: copies of others of it"
    for other in ("val", "in"):
        for name in [name for name in contents if name not in ("val", other)]:
            others = set(contents.get(other, ()))
            if shared := sum(content in others for content in contents[name]):
                yield f"{counted(shared, 'image')} of {name} shared with {other}, by copies"


def _content_warnings(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is doubtful about the images themselves, as far as it was kept when they were scored."""
    for name, fact in facts.items():
        if count := fact.get("trained_on"):
            yield (
                f"{counted(count, 'image')} of {name} that the model was trained on, which look "
                "more usual than they are"
            )
    found = {name: of_json(fact.get("intensity")) for name, fact in facts.items()}
    training = {name: of_json(fact.get("training_intensity")) for name, fact in facts.items()}
    for name, own in found.items():
        if own is None:
            continue
        yield from doubts(name, own, in_distribution=name in ("val", "in"))
        others = "in" if name not in ("val", "in", PATCHED) else "training"
        expected = found.get("in") if others == "in" else training[name]
        if expected is not None:
            yield from differences(name, own, others, expected)


def _sides(sizes: Sequence[Sequence[int]]) -> str:
    """Show [[28, 28], [32, 28]] as "28 × 28 (and 1 other size)"."""
    first, others = " × ".join(map(str, sizes[0])), len(sizes) - 1
    return f"{first} (and {others} other size{'s' * (others > 1)})" if others else first


def _overlap_warnings(
    folder: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Refuse images that are in two sets; only warn where equal names may be other files.

    Paths are as the splits have them, so they mean the same file when both splits lie in one
    folder. Tables without a sidecar may hold bare file names. OOD sets may share images, and a
    flipped set those of the set that it flips.
    """
    # Folder and flip; sidecars of earlier versions do not say whether an OOD set is flipped.
    origins = {
        name: (Path(fact["split"]).parent, fact.get("flip"))
        for name, fact in facts.items()
        if isinstance(fact.get("split"), str) and ("flip" in fact or name in ("val", "in"))
    }
    names = {name: pd.Index(table["filename"].unique()) for name, table in tables.items()}
    for other in ("val", "in"):
        for name in [name for name in tables if name not in ("val", other)]:
            shared = names[name].intersection(names[other], sort=False)
            if shared.empty:
                continue
            sentence = f"{shared[0]!r} is both in {other} and in {name}"
            if other in origins and origins.get(name) == origins[other]:
                raise UserError(
                    f"{table_path(folder, name)}: {sentence}, expected different images"
                )
            if name == "in":
                yield f"{sentence}: unless these are different files, the test is not fair"
