"""A batch of images of whose reported ones at most a share q are false alarms, on average.

Conformal p-values against the same validation images are positively dependent (PRDS), so the
procedure of Benjamini and Hochberg (1995) keeps the false discovery rate at q (Bates, Candès, Lei,
Romano and Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted

ROUNDING = 1e-9  # conformal p-values often equal q k / m exactly; rounding shall not decide


def benjamini_hochberg(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Which images to report: the k smallest p-values, for the largest k with p_(k) <= q k / m.

    Args:
        p_values: `(m,)` conformal p-values of one batch.
        q: the share of false alarms among those reported, on average over batches; in (0, 1).

    Raises:
        UserError: q out of its range.
        ValueError: a p-value out of [0, 1], or NaN.
    """
    _check(q)
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not p.size:
        return np.zeros(0, dtype=np.bool_)
    adjusted: NDArray[np.float64] = stats.false_discovery_control(p, method="bh")
    return adjusted <= q * (1 + ROUNDING)


def fdr_doubts(num_val: int, num_images: int, q: float) -> Iterator[str]:
    """How many images must be unusual before any can be reported, if that is more than one.

    The smallest p-value is 1 / (n + 1), so k images of m can be reported if k >= m / (q (n + 1)).

    Args:
        num_val: n, the number of validation images.
        num_images: m, the number of images in the batch.
        q: see `benjamini_hochberg`.

    Raises:
        UserError: q out of its range.
    """
    _check(q)
    needed = _at_least(num_images / (q * (num_val + 1)))
    if needed <= 1:
        return
    val = counted(num_val, "validation image")
    nothing = f"`fdr` {q:g} is too small for {val}: no image is ever reported"
    few = (
        f"with {val} and `fdr` {q:g}, any of {num_images} images is reported only if at least "
        f"{needed} are more unusual than all validation images"
    )
    yield (
        f"{nothing if needed > num_images else few}; at least "
        f"{_at_least(num_images / q) - 1} are needed to report a single one"
    )


def _at_least(number: float) -> int:
    """The smallest integer that is not below a quotient but for its rounding."""
    return math.ceil(number * (1 - ROUNDING))


def _check(q: float) -> None:
    if not 0 < q < 1:
        raise UserError(f"`fdr`: found {q}, expected a number between 0 and 1")
