"""Evidence: measurements of an image as one score, beside those of the validation images.

A detector holds some of it: of each of its methods, and of all that are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.base import Head, State
from diffusion_ood.calibration.joined import Joined
from diffusion_ood.errors import UserError
from diffusion_ood.registries import HEADS

if TYPE_CHECKING:
    from typing_extensions import Self

Column = tuple[str, int]


@dataclass(frozen=True)
class Evidence:
    """One score of an image, and the scores that validation images have by it.

    Attributes:
        kind: the name of its head's class, see `new_head`.
        columns: the features that it is made of, pairs of a column and t.
        head: fitted to validation images.
        val_scores: of each validation image, by a head that was fitted without it, (n,).
    """

    kind: str
    columns: Sequence[Column]
    head: Head
    val_scores: NDArray[np.float64]

    @classmethod
    def fit(cls, kind: str, features: pd.DataFrame, new: Callable[[], Head] | None = None) -> Self:
        """Fit to the features of validation images, see `calibration.base.features`.

        Args:
            kind: see above.
            features: of the images, columns (column, t).
            new: makes the head, if `new_head` alone does not do.

        Raises:
            UserError: as `Head.fit`; fewer than three images, or all of the same score.
        """
        new = new or partial(new_head, kind)
        held_out = conformal.held_out_scores(new, features).to_numpy()
        if not held_out.std() > 0:
            raise UserError(f"{kind}: found the same score for all validation images")
        return cls(kind, list(features.columns), new().fit(features), held_out)

    def score(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """The score of each image (n,); UserError as `Head.score`."""
        chosen = features[pd.MultiIndex.from_tuples(list(self.columns))]
        return self.head.score(chosen).to_numpy()

    def p_values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The conformal p-value of each score (n,)."""
        return conformal.p_values(scores, self.val_scores) if len(scores) else np.empty(0)

    def standardised(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores in standard deviations of those of validation images (n,)."""
        return (scores - self.val_scores.mean()) / self.val_scores.std(ddof=1)

    def state_dict(self) -> State:
        """Everything that was fitted, for `from_state`."""
        return {
            "kind": self.kind,
            "columns": [list(column) for column in self.columns],
            "head": self.head.state_dict(),
            "val_scores": self.val_scores,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state_dict` gave.

        Raises:
            UserError: a kind of head that this version does not know.
            KeyError: a part is missing.
        """
        head = new_head(state["kind"])
        head.load_state_dict(state["head"])
        columns = [(str(name), int(t)) for name, t in state["columns"]]
        return cls(state["kind"], columns, head, np.asarray(state["val_scores"], np.float64))


class AnyOf(Head):
    """log(1 + Σ exp z) over several kinds of evidence: one that is unusual is enough.

    Args:
        parts: of each, the kind of its head and the features that it is made of; not needed before
            `load_state_dict`.
    """

    def __init__(self, parts: Mapping[str, tuple[str, Sequence[Column]]] | None = None) -> None:
        self._parts = parts or {}
        self.fitted: dict[str, Evidence] = {}

    def fit(self, features: pd.DataFrame) -> Self:
        """See `Head`."""
        self.fitted = {
            name: Evidence.fit(kind, features[pd.MultiIndex.from_tuples(list(columns))])
            for name, (kind, columns) in self._parts.items()
        }
        return self

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        z = [part.standardised(part.score(features)) for part in self.fitted.values()]
        return pd.Series(logsumexp([np.zeros(len(features)), *z], axis=0), index=features.index)

    def state_dict(self) -> State:
        """See `Head`."""
        return {name: part.state_dict() for name, part in self.fitted.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Head`."""
        self.fitted = {name: Evidence.from_state(of_part) for name, of_part in state.items()}


JOINING: Mapping[str, Callable[[], Head]] = {"joined": Joined, "any_of": AnyOf}


def new_head(kind: str) -> Head:
    """A head of `JOINING` or `HEADS`; UserError of another name."""
    if kind not in JOINING and kind not in HEADS:
        raise UserError(f"found evidence of the kind {kind!r}, expected one of this version")
    return JOINING[kind]() if kind in JOINING else HEADS[kind]()


def kind_of(head: Head) -> str:
    """The name in `HEADS` of a head's class."""
    place = f"{type(head).__module__}:{type(head).__qualname__}"
    return next(name for name, known in HEADS.places.items() if known == place)
