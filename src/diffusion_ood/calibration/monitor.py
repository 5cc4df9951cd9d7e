"""A stream of images over days: says when it has drifted as a whole.

The smoothed conformal p-value of each image among the validation images and all earlier ones,

    p_n = (#{s_i > s_n} + τ_n #{s_i = s_n}) / n,  i = 1, …, n,  τ_n uniform,

is uniform and independent of those before as long as all are exchangeable (Vovk, Gammerman and
Shafer, "Algorithmic Learning in a Random World", 2005, chapter 7); p-values against
the validation images alone share these, and are not independent. A bettor against uniformity has

    C_ε ← ((1 − J) C_ε + J/3 Σ C_ε) (1 + ε (p − 1/2)),  ε ∈ {−1, 0, 1},

the Simple Jumper with the jumping rate J, and the Composite Jumper is the mean over rates (Vovk,
Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman, "Retrain or not retrain: conformal test
martingales for change-point detection", COPA 2021). It starts at 1, and the probability that it
ever reaches c is at most 1 / c (Ville). J = 1 never bets, so the mean never falls below 1/5.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_ood.calibration.conformal import finite_scores
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import write_json

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT = 1
LEVEL = 20.0
NO_STATE = (AttributeError, KeyError, OverflowError, TypeError, ValueError)  # of `from_state`
RATES = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])[:, None]  # J
BETS = np.array([-1.0, 0.0, 1.0])  # ε


class Monitor:
    """A conformal test martingale on the scores of a stream.

    Attributes:
        values: log10 of the martingale after each image that counted, the oldest first.
        history: of each `update` that had new images: date, num_images (new ones), log10_value.
    """

    def __init__(self, val_scores: ArrayLike, detector_digest: str = "") -> None:
        """Start a stream.

        Args:
            val_scores: `(n,)` held-out scores of the validation images.
            detector_digest: of the detector that gives the scores.

        Raises:
            ValueError: no scores, or one that is not finite.
        """
        self.detector_digest = detector_digest
        self.values: list[float] = []
        self.history: list[dict[str, Any]] = []
        self._val_scores = np.sort(finite_scores(val_scores, "val")).tolist()
        self._scores: dict[str, float] = {}  # of the images that counted, by digest of the key
        self._sorted = list(self._val_scores)  # and those
        self._log_capitals = np.zeros(len(RATES))  # capitals themselves would overflow
        self._shares = np.full((len(RATES), len(BETS)), 1 / len(BETS))  # of each bet in a capital

    def update(self, scores: ArrayLike, keys: Sequence[str], date: str = "") -> NDArray[np.float64]:
        """Add images in the order in which they came; one that was added before does not count.

        Args:
            scores: `(N,)` a score of each image.
            keys: the digest of each image's content.
            date: for the history.

        Returns:
            `(N,)` log10 of the martingale after each image.

        Raises:
            ValueError: a score that is not finite, or another number of keys.
        """
        found = finite_scores(scores, "stream").tolist() if len(keys) else []
        if len(found) != np.size(scores) or len(found) != len(keys):
            raise ValueError(f"found {len(keys)} keys of {np.size(scores)} scores")
        before, path = len(self.values), []
        for score, key in zip(found, keys, strict=True):
            number = hashlib.blake2b(b"monitor\0" + key.encode(), digest_size=8).digest()
            if number.hex() not in self._scores:
                self._bet(self._p_value(score, (int.from_bytes(number, "big") >> 11) / 2**53))
                self._scores[number.hex()] = score
            path.append(self.log10_value)
        if new := len(self.values) - before:
            entry = {"date": date, "num_images": new, "log10_value": self.log10_value}
            self.history.append(entry)
        return np.array(path, dtype=np.float64)

    @property
    def log10_value(self) -> float:
        """Log10 of the martingale now."""
        return self.values[-1] if self.values else 0.0

    def alarm_at(self, level: float = LEVEL) -> int | None:
        """The first image after which the martingale was at `level`, counted from 0, or None."""
        if level <= 1:
            raise ValueError(f"found the level {level}, expected one above 1")
        reached = np.asarray(self.values) >= math.log10(level)
        return int(reached.argmax()) if reached.any() else None

    def alarm(self, level: float = LEVEL) -> bool:
        """Whether it ever reached `level`: of streams without drift at most 1 / `level` ever do."""
        return self.alarm_at(level) is not None

    def _p_value(self, score: float, uniform: float) -> float:
        """The smoothed p-value among all scores so far, to which `score` is added."""
        insort(self._sorted, score)
        end = bisect_right(self._sorted, score)
        equal = end - bisect_left(self._sorted, score)
        return (len(self._sorted) - end + uniform * equal) / len(self._sorted)

    def _bet(self, p: float) -> None:
        shares = ((1 - RATES) * self._shares + RATES / len(BETS)) * (1 + BETS * (p - 0.5))
        totals = shares.sum(axis=1)
        self._shares = shares / totals[:, None]
        self._log_capitals += np.log(totals)
        mean = np.logaddexp.reduce(self._log_capitals) - math.log(len(RATES))
        self.values.append(float(mean / math.log(10)))

    def state(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "format": FORMAT,
            "detector": self.detector_digest,
            "history": [dict(entry) for entry in self.history],
            "log_capitals": self._log_capitals.tolist(),
            "shares": self._shares.tolist(),
            "val_scores": list(self._val_scores),
            "values": list(self.values),
            "scores": dict(self._scores),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state` returned, as a monitor that goes on as if it had never stopped.

        Raises:
            AttributeError, KeyError, OverflowError, TypeError, ValueError: it is none.
        """
        monitor = cls(state["val_scores"], str(state["detector"]))
        monitor._scores = {str(key): float(score) for key, score in state["scores"].items()}
        monitor._sorted = sorted([*monitor._val_scores, *monitor._scores.values()])
        monitor.values = [float(value) for value in state["values"]]
        monitor.history = [dict(entry) for entry in state["history"]]
        monitor._log_capitals = np.array(state["log_capitals"], dtype=np.float64)
        monitor._shares = np.array(state["shares"], dtype=np.float64)
        numbers = [*monitor._sorted, *monitor.values, *monitor._log_capitals]
        if not (
            monitor._log_capitals.shape == (len(RATES),)
            and monitor._shares.shape == (len(RATES), len(BETS))
            and len(monitor.values) == len(monitor._scores)
            and (monitor._shares > 0).all()
            and np.isfinite(numbers).all()
        ):
            raise ValueError("found arrays that do not belong together")
        return monitor

    def save(self, path: Path) -> None:
        """Write the state as JSON; the file is either complete or as it was."""
        write_json(path, self.state())

    @classmethod
    def load(cls, path: Path, detector_digest: str) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: it is damaged, of a newer version, or of another detector.
            FileNotFoundError: there is no such file.
        """
        try:
            state = json.loads(path.read_bytes())
            version = state["format"]
            monitor = cls.from_state(state) if version == FORMAT else None
        except (*NO_STATE, RecursionError):
            raise UserError(
                f"{path}: found no complete state of a monitor; give a copy of it or another file"
            ) from None
        if monitor is None:
            raise UserError(
                f"{path}: found format {version!r}, expected {FORMAT}, which this version of the "
                "program reads"
            )
        if monitor.detector_digest != detector_digest:
            raise UserError(
                f"{path}: belongs to the detector {monitor.detector_digest[:12]}, found the "
                f"detector {detector_digest[:12]}; give another file to begin a new stream"
            )
        return monitor
