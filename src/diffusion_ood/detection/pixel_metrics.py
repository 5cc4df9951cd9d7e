"""How well maps show where lesions are, over all pixels of all images, with 95 % intervals.

    auroc  the area under the ROC curve of pixels, those of lesions positive
    ap     their average precision Σ_k (R_k - R_{k-1}) P_k
    aupro  the mean share of a lesion that is found, over the shares of normal pixels that are
           taken for one from 0 to 0.3, divided by 0.3 (Bergmann et al. 2021, section 5.2)

A lesion is a connected component of a mask, diagonals included, as in that paper's program.
Values are fractions. Intervals are percentiles over resamples of images, since pixels of one image
are not independent; where there is one image there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from diffusion_ood.detection.metrics import Interval, weighted_metrics

Floats = NDArray[np.float64]

PIXEL_TITLES = {"auroc": "pixel AUROC", "ap": "pixel AP", "aupro": "AUPRO"}
MAX_FPR = 0.3

_LEVELS = 1000  # of the map, in resamples
_ROWS = 100  # resamples at a time


@dataclass(frozen=True)
class PixelResults:
    """What maps show of lesions.

    Attributes:
        num_images: all of them; those without a lesion count by their normal pixels.
        num_with_lesions: those that have any.
        num_lesions: connected components.
        metrics: by the names in `PIXEL_TITLES`.
    """

    num_images: int
    num_with_lesions: int
    num_lesions: int
    metrics: dict[str, Interval]


def evaluate_pixels(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> PixelResults:
    """All metrics of N maps.

    Args:
        maps: `(*S')` of each image, higher where it is more unusual; brought to the size of its
            mask by linear interpolation.
        masks: `(*S)` of each image, other than 0 in lesions.
        n_bootstrap: number of resamples for the intervals; 0 leaves these out.
        seed: of the resampling.

    Raises:
        ValueError: maps that are not one a mask, have other dimensions or are not finite; or masks
            that are without any lesion or without any normal pixel, all together.
    """
    # detection without maps needs no scikit-learn
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    truths = [np.asarray(mask) != 0 for mask in masks]
    if not truths or len(maps) != len(truths):
        raise ValueError(f"found {len(maps)} maps for {len(truths)} masks, expected one for each")
    values = [resized(found, t.shape) for found, t in zip(maps, truths, strict=True)]
    shares, counts = zip(*map(_lesion_shares, truths), strict=True)
    lesion = np.concatenate([truth.ravel() for truth in truths])
    if not lesion.any() or lesion.all():
        whole = "only lesions" if lesion.any() else "no lesion"
        raise ValueError(f"found masks with {whole}, expected lesions and normal pixels")
    scores, share = np.concatenate(values, axis=None), np.concatenate(shares, axis=None)
    fpr, overlap, _ = roc_curve(
        lesion, scores, sample_weight=np.where(lesion, share, 1), drop_intermediate=False
    )
    exact = {
        "auroc": float(roc_auc_score(lesion, scores)),
        "ap": float(average_precision_score(lesion, scores)),
        "aupro": _area(fpr, overlap),
    }
    num = n_bootstrap if len(truths) > 1 else 0
    drawn = _resampled(scores, share, [t.size for t in truths], num, seed)
    return PixelResults(
        len(truths),
        sum(map(bool, counts)),
        sum(counts),
        {name: _interval(value, drawn[name]) for name, value in exact.items()},
    )


def resized(values: ArrayLike, sides: tuple[int, ...]) -> Floats:
    """A map (*S') in the size *S, linear between the middles of its pixels.

    Raises:
        ValueError: a map of other dimensions, or one that is not finite.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != len(sides) or 0 in (*found.shape, *sides):
        raise ValueError(f"found a map of {found.shape} for a mask of {sides}")
    if not np.isfinite(found).all():
        raise ValueError("found a map with values that are not finite")
    if found.shape == sides:
        return found
    zoom = np.divide(sides, found.shape)
    larger: Floats = ndimage.zoom(found, zoom, order=1, mode="nearest", grid_mode=True)
    return larger


def _lesion_shares(truth: NDArray[np.bool_]) -> tuple[Floats, int]:
    """Which share of its lesion each pixel is, 0 outside; and how many lesions there are."""
    labels, count = ndimage.label(truth, np.ones((3,) * truth.ndim))
    sizes = np.bincount(labels.ravel())
    return truth / sizes[labels], count


def _area(fpr: Floats, overlap: Floats) -> float:
    """The area under a curve up to `MAX_FPR`, of 1 where it is 1 throughout."""
    within = fpr <= MAX_FPR
    x = np.append(fpr[within], MAX_FPR)
    y = np.append(overlap[within], np.interp(MAX_FPR, fpr, overlap))
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2 / MAX_FPR)


def _resampled(
    scores: Floats, share: Floats, sizes: Sequence[int], num: int, seed: int
) -> dict[str, Floats]:
    """The metrics `(1 + R,)` of the images and of R resamples of them, at levels of the map.

    Of `num` resamples those are left out that have no lesion, or nothing else.
    """
    tops = np.unique(np.quantile(scores, np.linspace(0, 1, _LEVELS)))
    level = np.searchsorted(tops, scores)
    place = np.repeat(np.arange(len(sizes)), sizes) * tops.size + level

    normal, lesion, shares = (  # summed for each image and level, `(N, K)`
        np.bincount(place, weights, len(sizes) * tops.size).reshape(len(sizes), -1)
        for weights in (share == 0, share > 0, share)
    )
    rng = np.random.default_rng(seed)
    chances = np.full(len(sizes), 1 / len(sizes))
    counts = np.concatenate(
        [np.ones((1, len(sizes))), rng.multinomial(len(sizes), chances, num)], dtype=np.float64
    )
    usable = (counts @ normal.sum(axis=1) > 0) & (counts @ lesion.sum(axis=1) > 0)
    chunks = np.array_split(counts[usable], -(-usable.sum() // _ROWS))
    parts = [_metrics(tops, c @ normal, c @ lesion, c @ shares) for c in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in PIXEL_TITLES}


def _metrics(tops: Floats, normal: Floats, lesion: Floats, shares: Floats) -> dict[str, Floats]:
    """The metrics `(R,)` of weights `(R, K)` at K levels, from the lowest."""
    found = weighted_metrics(tops, tops, normal, lesion)
    fpr, overlap = (
        np.pad(part[:, ::-1].cumsum(axis=1) / part.sum(axis=1, keepdims=True), ((0, 0), (1, 0)))
        for part in (normal, shares)
    )
    areas = np.array([_area(x, y) for x, y in zip(fpr, overlap, strict=True)])
    return {"auroc": found["auroc"], "ap": found["aupr_out"], "aupro": areas}


def _interval(value: float, drawn: Floats) -> Interval:
    """The percentiles of resamples, moved by what levels change of the value itself."""
    if drawn.size == 1:
        return Interval(value)
    low, high = np.clip(value + np.quantile(drawn[1:], [0.025, 0.975]) - drawn[0], 0, 1)
    return Interval(value, min(value, float(low)), max(value, float(high)))
