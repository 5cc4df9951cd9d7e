"""A detector's map as a picture."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from diffusion_ood.report.pictures import png


def map_picture(values: NDArray[np.float32]) -> tuple[str, float]:
    """A map (*S) as a grey PNG in base64, black 0 and white the largest value, and that value.

    Of a volume it is the slice along the first axis that holds the largest value.
    """
    if values.ndim == 3:
        values = values[int(values.max(axis=(1, 2)).argmax())]
    largest = max(float(values.max()), 0.0)
    grey = np.clip(values / (largest or 1), 0, 1) * 255
    return base64.b64encode(png(grey.round().astype(np.uint8)[:, :, None])).decode(), largest
