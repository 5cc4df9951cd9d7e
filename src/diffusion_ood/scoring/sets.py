"""The sets of images that are scored, a table each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from diffusion_ood.data.places import Place
from diffusion_ood.data.splits import PATCHED, Split, read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, ReconstructOptions


@dataclass(frozen=True)
class ScoringSet:
    """The images of one table.

    Attributes:
        name: of the table, results_<name>.csv.
        role: `val`, `in`, `out` or `shifted`, the table's column type.
        split: which images.
    """

    name: str
    role: str
    split: Split


def read_sets(options: ReconstructOptions, images: ImageOptions | None = None) -> list[ScoringSet]:
    """The sets asked for, every split read before any work begins, volumes cut as `images` says.

    Raises:
        UserError: a split that is missing or wrong, no set at all, two sets of one name, or an
            image in two sets of which one is in distribution.
    """
    val, inside, out = options.validation_ids, options.in_ids, options.out_ids
    for path, field, wanted in (
        (val, "validation_ids", "run_val"),
        (inside, "in_ids", "run_in"),
        (val, "validation_ids", "run_patched"),
        (out, "out_ids", "run_out"),
    ):
        if getattr(options, wanted) and not path:
            raise UserError(f"`{field}`: missing; give it, or `{wanted}`=0")
    sets = []
    if options.run_val and val:
        sets.append(ScoringSet("val", "val", read_split(val)))
    if options.run_in is not False and inside:
        sets.append(ScoringSet("in", "in", read_split(inside)))
    if options.run_patched and val:
        sets.append(ScoringSet(PATCHED, "val", replace(read_split(val), edit="patched")))
    if options.run_out is not False:
        sets += [ScoringSet(split.name, "out", split) for split in map(read_split, out)]
    sets += [
        ScoringSet(split.name, "shifted", split) for split in map(read_split, options.shifted_ids)
    ]
    if not sets:
        raise UserError("`in_ids`, `out_ids`: found no set to score, expected at least one")
    _refuse_equal_names(sets)
    if images is not None:
        from diffusion_ood.data.slices import sliced  # NumPy, which mistakes need not wait for

        sets = [replace(one, split=sliced(one.split, images)) for one in sets]
    sets = [_shortened(one, options) for one in sets]
    _refuse_overlap(sets)
    return sets


def left_out(options: ReconstructOptions) -> Iterator[str]:
    """Which kinds of sets are not scored, as none were given, and what follows; in sentences."""
    if options.run_in is None and options.in_ids is None:
        yield (
            "no in-distribution test images were given (`in_ids`): none are scored here, and "
            "ood_detection.py needs their table for its decisions and the false-positive rate"
        )
    if options.run_out is None and not options.out_ids:
        yield (
            "no OOD set was given (`out_ids`): ood_detection.py will report decisions and the "
            "false-positive rate, but no AUROC"
        )


def _refuse_equal_names(sets: Sequence[ScoringSet]) -> None:
    others = [one for one in sets if one.role in ("out", "shifted")]
    names = ["val", "in", PATCHED, *(one.name for one in others)]
    for one in others:
        if names.count(one.name) > 1:
            raise UserError(
                f"`{one.role}_ids`: {one.split.path}: found a second set of the name {one.name}, "
                f"expected file names that tell the sets apart, beside val, in and {PATCHED}"
            )


def _refuse_overlap(sets: Sequence[ScoringSet]) -> None:
    """Refuse an image that is twice in a set, or in one that is compared with it, by any name.

    OOD and shifted sets may share images, and a flipped set those of the set that it flips.
    """
    seen: dict[tuple[object, ...], tuple[ScoringSet, int]] = {}
    for one in sets:
        own: dict[tuple[object, ...], int] = {}
        for i in range(len(one.split)):
            place = Place.of(one.split.image_path(i))
            try:
                status = os.stat(place.path)
            except (OSError, ValueError):  # opening the image will say so
                continue
            part = (place.series, place.plane, place.index)
            key = (status.st_dev, status.st_ino, one.split.edit, *part)
            other, j = seen.get(key, (one, own.setdefault(key, i)))
            if j != i and other is one:
                raise UserError(
                    f"{one.split.where(i)}: found {one.split.images[i]}, which is the image of "
                    f"{one.split.where(j)}, expected every image once"
                )
            if other is not one:
                raise UserError(
                    f"{one.split.where(i)}: found {one.split.images[i]}, which is the image of "
                    f"{other.split.where(j)}, expected different images in {other.name} and "
                    f"{one.name}"
                )
        if one.role in ("val", "in"):
            seen |= {key: (one, i) for key, i in own.items()}


def _shortened(one: ScoringSet, options: ReconstructOptions) -> ScoringSet:
    """The first images of a set, and of these whole batches, where that is asked for."""
    n = options.first_n_val if one.role == "val" else options.first_n
    split = one.split.first(n) if n is not None else one.split
    if options.drop_last:
        split = split.first(len(split) // options.batch_size * options.batch_size)
        if not len(split):
            raise UserError(
                f"{split.path}: found fewer than `batch_size` {options.batch_size} images, "
                "of which `drop_last` leaves none"
            )
    return replace(one, split=split)
