"""What screened images say together: which to report, groups of them, and a stream over days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.fdr import benjamini_hochberg, fdr_doubts
from diffusion_ood.calibration.groups import group_doubts, group_names, group_p_values
from diffusion_ood.calibration.monitor import LEVEL, Monitor
from diffusion_ood.data.patients import patients
from diffusion_ood.data.places import Place
from diffusion_ood.detector import Detector
from diffusion_ood.report.page import now
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.runtime.lock import held
from diffusion_ood.runtime.words import counted
from diffusion_ood.screening.checks import spacing_doubts
from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.inputs import Item


@dataclass(frozen=True)
class Batch:
    """All decisions of one screening.

    Attributes:
        decisions: on each image, in the order in which they were asked for.
        groups: a row a group, with group, num_images, score, p_value, is_ood and level (scan,
            patient, or group by an expression); None where there was no word of groups.
        monitor: the stream that the images belong to, where there is one.
        doubts: in sentences.
    """

    decisions: Sequence[Decision]
    groups: pd.DataFrame | None = None
    monitor: Monitor | None = None
    doubts: Sequence[str] = field(default_factory=list)

    @property
    def scored(self) -> list[Decision]:
        """Those that could be read."""
        return [decision for decision in self.decisions if decision.score is not None]

    @property
    def unreadable(self) -> list[Decision]:
        """Those that could not."""
        return [decision for decision in self.decisions if decision.score is None]

    @property
    def num_ood(self) -> int:
        """Images that are called out of distribution."""
        return sum(bool(decision.is_ood) for decision in self.decisions)

    @property
    def p_values(self) -> list[float]:
        """Of the images that could be read."""
        return [decision.p_value for decision in self.scored if decision.p_value is not None]

    def by_score(self) -> list[Decision]:
        """Those that could be read, the most unusual first."""
        return sorted(self.scored, key=lambda decision: -(decision.score or 0.0))


def consider(
    detector: Detector,
    decisions: Sequence[Decision],
    items: Sequence[Item],
    *,
    fdr: float | None = None,
    group_by: str | None = None,
) -> Batch:
    """Decide on the images of a screening together.

    Args:
        detector: which scored them.
        decisions: on each image.
        items: the images, in the same order.
        fdr: share of false alarms among those called out of distribution, in place of the rate
            among all images.
        group_by: regular expression of a patient or scan in an image's path; without one images of
            DICOM are grouped by their patients, where the validation images were DICOM, too. Slices
            are always grouped by their scan as well.

    Raises:
        UserError: names in which the expression finds nothing, or a detector without names.
    """
    batch = Batch(list(decisions))
    doubts: list[str] = []
    p = np.array(batch.p_values)
    called = benjamini_hochberg(p, fdr) if fdr is not None else p <= detector.target_fpr
    verdicts = iter(called.tolist())
    made = [d if d.score is None else replace(d, is_ood=next(verdicts)) for d in decisions]
    if fdr is not None:
        doubts += fdr_doubts(len(detector.val_scores), len(p), fdr)
    else:
        doubts += conformal.doubts(len(detector.val_scores), detector.target_fpr, np.empty(0))
    doubts += spacing_doubts(detector, items)
    if detector.reader.options.slices and not _knows_scans(detector):
        fault = "to files of single slices" if detector.content.names else "without `keep_names`"
        doubts.append(f"no decision on scans: the detector was fitted {fault}")
    groups = []
    levels = _levels(detector, made, items, group_by) if len(p) else {}
    if len(p) and detector.content.patients and group_by is None and "patient" not in levels:
        doubts.append("no decision on patients: not every image that was read names one")
    for level, named in levels.items():
        found, more = _groups(detector, made, *named)
        groups.append(found.assign(level=level))
        doubts += more
    return Batch(made, pd.concat(groups) if groups else None, None, doubts)


def write_groups(path: Path, groups: pd.DataFrame) -> None:
    """One decision a row, atomically."""
    with atomic_write(path) as file:
        groups.to_csv(file, index=False, lineterminator="\n")


def watch(batch: Batch, detector: Detector, path: Path) -> Batch:
    """Add the images of a screening to a stream, which lies in a file.

    Raises:
        UserError: the file is damaged, or the stream of another detector.
    """
    # By content, since a folder that is sorted by class or patient would look like a drift.
    scored = sorted(batch.scored, key=lambda decision: decision.content)
    with held(path):
        if path.exists():
            monitor = Monitor.load(path, detector.digest)
        else:
            monitor = Monitor(detector.val_scores, detector.digest)
        monitor.update([d.score or 0.0 for d in scored], [d.content for d in scored], now())
        monitor.save(path)
    return replace(batch, monitor=monitor)


def sentences(batch: Batch) -> Iterator[str]:
    """What a screening found, in sentences."""
    total, ood, lost = len(batch.decisions), batch.num_ood, len(batch.unreadable)
    rest = total - ood - lost
    yield f"{counted(total, 'image')}: {ood:,} OOD, {rest:,} not, {lost:,} could not be read"
    for decision in batch.by_score()[:3]:
        verdict = "OOD" if decision.is_ood else "not OOD"
        yield (
            f"  {decision.file}: score {decision.score:.2f}, p-value {decision.p_value:.3g}, "
            f"{verdict}, loudest {decision.loudest}"
        )
    for decision in batch.unreadable[:3]:
        yield f"  not read: {decision.reason}"
    if batch.groups is not None:
        for level, found in batch.groups.groupby("level", sort=False):
            yield f"{counted(len(found), str(level))}: {int(found['is_ood'].sum()):,} OOD"
    if batch.monitor is not None:
        value = batch.monitor.log10_value
        at = batch.monitor.alarm_at()
        said = (
            f"no drift: it never reached {LEVEL:g}"
            if at is None
            else f"the stream has drifted: it reached {LEVEL:g} at image {at + 1:,}"
        )
        yield f"stream of {len(batch.monitor.values):,} images: martingale 10^{value:.1f}; {said}"


def _levels(
    detector: Detector,
    decisions: Sequence[Decision],
    items: Sequence[Item],
    group_by: str | None,
) -> dict[str, tuple[list[str], list[str]]]:
    """Of each level the groups of the validation images and of those that were read."""
    read = [i for d, i in zip(decisions, items, strict=True) if d.score is not None]
    names, found = detector.content.names, {}
    if _knows_scans(detector):
        # By the whole name, as two folders may hold scans of one name.
        found["scan"] = group_names(names, None), group_names([i.name for i in read], None)
    if group_by is not None:
        within = [item.within for item in read]
        found["group"] = group_names(names, group_by), group_names(within, group_by)
    elif detector.content.patients:
        own = [patient for patient in patients(item.path for item in read) if patient]
        if len(own) == len(read):
            found["patient"] = [str(number) for number in detector.content.patients], own
    return found


def _knows_scans(detector: Detector) -> bool:
    """Whether validation images are slices of scans; else each would pass for a scan of one."""
    return any(Place.of(name).plane for name in detector.content.names)


def _groups(
    detector: Detector,
    decisions: Sequence[Decision],
    val_groups: Sequence[str],
    groups: Sequence[str],
) -> tuple[pd.DataFrame, list[str]]:
    """The decision on each group, and what is doubtful about them."""
    scores = [decision.score for decision in decisions if decision.score is not None]
    found = group_p_values(scores, groups, detector.content.joined.val_scores, val_groups)
    found["is_ood"] = found["p_value"] <= detector.target_fpr
    return found, list(group_doubts(groups, val_groups, detector.target_fpr))
