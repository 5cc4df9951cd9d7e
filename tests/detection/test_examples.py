"""Which images are shown, and that they are the same for the same decisions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diffusion_ood.detection.examples import select_examples


def decided(scores: list[float], threshold: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "filename": [f"{k}.png" for k in range(len(scores))],
            "score": scores,
            "p_value": 0.5,
            "is_ood": np.array(scores) > threshold,
        }
    )


def test_extremes_then_mistakes_from_the_gravest_to_the_narrowest() -> None:
    rows = select_examples(decided([float(k) for k in range(20)], threshold=9), 2, is_in=True)
    assert list(rows["score"]) == [19, 18, 1, 0, 17, 10]
    assert list(rows["kind"]) == ["most OOD"] * 2 + ["least OOD"] * 2 + ["false alarm"] * 2
    assert list(rows["mistake"]) == [True, True, False, False, True, True]


def test_a_miss_is_an_ood_image_that_is_not_called_ood() -> None:
    rows = select_examples(decided([float(k) for k in range(10)], threshold=4), 2, is_in=False)
    assert list(rows["kind"]) == ["most OOD"] * 2 + ["least OOD"] * 2 + ["miss"] * 2
    assert list(rows["score"]) == [9, 8, 1, 0, 4, 2]
    assert list(rows["mistake"]) == [False, False, True, True, True, True]


def test_an_image_is_shown_once_and_ties_stay_in_order() -> None:
    rows = select_examples(decided([1.0, 1.0, 1.0], threshold=2), 2, is_in=True)
    assert list(rows["filename"]) == ["0.png", "1.png", "2.png"]
    assert select_examples(decided([1.0], threshold=2), 4, is_in=True)["kind"].tolist() == [
        "most OOD"
    ]
