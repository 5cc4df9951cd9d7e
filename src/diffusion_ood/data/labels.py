"""Classes: the texts of a split's second column, numbered the same in every split."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError


def class_names(split: Split, num_classes: int) -> tuple[str, ...]:
    """The names of the classes 0 … K−1 in a training split.

    Labels that are all integers are the classes' own numbers, so that a split need not have them
    all; other texts are numbered in sorted order.

    Raises:
        UserError: no labels, numbers outside 0 … K−1, or another number of names.
    """
    found = set(_labels(split))
    if all(label.isdecimal() for label in found):
        names = tuple(map(str, range(num_classes)))
        class_numbers(split, names)  # raises where one lies outside
        return names
    if len(found) != num_classes:
        raise UserError(
            f"{split.path}: found {len(found)} different labels, expected `num_classes` "
            f"{num_classes}"
        )
    return tuple(sorted(found))


def class_numbers(split: Split, names: tuple[str, ...]) -> Tensor:
    """The class of every image of a split, int64 (N,), on the CPU.

    Raises:
        UserError: no labels, or one that is not among the names.
    """
    numbers = {name: number for number, name in enumerate(names)}
    classes = []
    for index, label in enumerate(_labels(split)):
        text = str(int(label)) if label.isdecimal() else label
        if text not in numbers:
            raise UserError(
                f"{split.where(index)}: found the label {label!r}, expected one of the "
                f"{len(names)} classes {_few(names)}"
            )
        classes.append(numbers[text])
    return torch.tensor(classes)


def _labels(split: Split) -> tuple[str, ...]:
    if split.labels is None:
        raise UserError(
            f"{split.path}: found no labels, expected a second column with the header image,label"
        )
    return split.labels


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:2], "…", names[-1]))
