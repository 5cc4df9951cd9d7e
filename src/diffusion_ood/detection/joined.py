"""What several methods' tables say together of the images that they have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.conformal import held_out_scores
from diffusion_ood.calibration.joined import OF_ALL_MODELS, Joined, members
from diffusion_ood.detection.assessment import Assessment, Frames, assess_methods, assessed
from diffusion_ood.detection.folders import MAIN
from diffusion_ood.detection.groups import ood_sets
from diffusion_ood.detection.image_scores import Target
from diffusion_ood.detection.table_writer import Sidecar
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions
from diffusion_ood.options.reconstruction import JOINED


def assess_run(ood_dir: Path, options: DetectOptions) -> list[Assessment]:
    """What all methods say together, where there are several kinds of evidence, then each alone.

    Where `options.headline` names a score of a method, that method is the first.

    Raises:
        UserError: as `assess_methods`.
    """
    methods = assess_methods(ood_dir, options)
    joined = join(ood_dir, methods, options)
    if joined is None and options.headline == JOINED:
        raise UserError(
            f"`headline` joined: found no two kinds of evidence in {ood_dir} that can be joined, "
            "expected tables of one checkpoint and of the same images, at least 4 validation "
            "images, and z-scores"
        )
    if joined is None:
        return methods
    return [joined, *methods] if options.headline in (None, JOINED) else [*methods, joined]


def join(ood_dir: Path, methods: Sequence[Assessment], options: DetectOptions) -> Assessment | None:
    """The joined evidence of those methods that have any; None where one alone has, or too little.

    Decisions are made by the joined score; behind it are the primary scores of all methods that
    measured the same images, to compare.

    Raises:
        UserError: as `Head.fit`.
    """
    pairs = [
        (f"{found.method}/{column}", t)
        for found in methods
        for column, t in found.features["val"].columns
    ]
    kinds = members(pd.MultiIndex.from_tuples(pairs))
    taken = {name.split("/")[0] for columns in kinds.values() for name, _ in columns}
    parts = [found for found in methods if found.method in taken]
    if len(parts) < 2 or not options.z_score:
        return None
    if len({p.fingerprint("val").get("checkpoint") for p in parts if "val" in p.sidecars}) > 1:
        return None  # which is among the warnings of the methods
    common = [name for name in parts[0].features if all(name in p.features for p in parts)]
    shifted = tuple(name for name in common if any(name in p.shifted for p in parts))
    if not ood_sets(common, shifted) and any(found.ood_sets for found in methods):
        return None  # there are OOD sets, but none that all have measured
    features = {name: _together(parts, name) for name in common}
    if len(features["val"]) < 4 or not all(map(len, features.values())):
        return None
    val = features["val"]
    names = list(dict.fromkeys(val.columns.get_level_values(0)))
    target = Target(JOINED, names, None, Joined().fit(val), held_out_scores(Joined, val))
    results = assessed(
        method=JOINED,
        folder=ood_dir / JOINED,
        tables=parts[0].tables,
        sidecars=_sidecars(parts),
        features=features,
        targets=[target],
        scores=_scores(target, features, methods),
        warnings=list(_doubts(parts, features, options.target_fpr)),
        shifted=shifted,
        options=options,
    )
    shown = next((found for found in methods if found.method == MAIN), None)
    return dataclasses.replace(results, shown=shown)


def _scores(target: Target, features: Frames, methods: Sequence[Assessment]) -> Frames:
    """The joined scores of each set, and beside them each method's that measured these images."""
    scores: Frames = {
        name: pd.DataFrame({JOINED: target.val_scores if name == "val" else target.score(frame)})
        for name, frame in features.items()
    }
    for found in methods:
        if all(
            name in found.scores and frame.index.isin(found.scores[name].index).all()
            for name, frame in scores.items()
        ):
            for name, frame in scores.items():
                of_method = found.scores[name][found.primary]
                frame[f"{found.method} ({found.primary})"] = of_method.reindex(frame.index)
    return scores


def _together(parts: Sequence[Assessment], name: str) -> pd.DataFrame:
    """The features of the images of a set that all methods have, named `method/column`."""
    frames = [
        found.features[name].rename(columns=lambda c, of=found.method: f"{of}/{c}", level=0)
        for found in parts
        if name in found.features
    ]
    return pd.concat(frames, axis=1, join="inner")


def _sidecars(parts: Sequence[Assessment]) -> dict[str, Sidecar]:
    """Those of the first method, with the network calls of all: fewer where they were shared."""
    found: dict[str, Sidecar] = {}
    for name, sidecar in parts[0].sidecars.items():
        facts = [part.facts(name) for part in parts]
        shared = {of_part["calls_together"] for of_part in facts if of_part.get("calls_together")}
        alone = [
            of_part.get("calls_per_image")
            for of_part in facts
            if len(shared) != 1 or not of_part.get("calls_together")
        ]
        known = [number for number in alone if number is not None]
        calls = sum(known) + sum(shared if len(shared) == 1 else ())
        calls = calls if len(known) == len(alone) else None
        found[name] = {**sidecar, "facts": {**sidecar["facts"], "calls_per_image": calls}}
    return found


def _doubts(parts: Sequence[Assessment], features: Frames, target_fpr: float) -> Iterator[str]:
    """What makes the joined score doubtful, in sentences: its tables' doubts, and its own."""
    of_tables = []
    for part in parts:
        alarms = part.decisions["in"]["is_ood"]
        own = set(conformal.doubts(part.num_images["val"], target_fpr, alarms))
        of_tables += [warning for warning in part.warnings if warning not in own]
    yield from dict.fromkeys(of_tables)
    if lacking := sorted(set(OF_ALL_MODELS) - set(members(features["val"].columns))):
        yield f"joined evidence lacks {', '.join(lacking)}, which no method here has measured"
    for name, frame in features.items():
        most = max(part.num_images[name] for part in parts)
        if len(frame) < most:
            yield f"{len(frame)} of {most} images of {name} were measured by every method"
