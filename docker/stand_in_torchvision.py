"""Lets a CUDA build of torchvision be imported under a CPU build of torch, in docker-test alone.

Such a torchvision cannot load its own operators and then fails to describe two of them, `nms` and
`qnms`, which nothing here calls. Declared before the import, they can be described. A `.pth` file
imports this at Python's start; the container file takes torchvision's CPU build, which needs none
of it.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

KEPT: list[object] = []  # a declaration lasts as long as its library
OPERATORS = ("nms", "qnms")


class _DeclareFirst(importlib.abc.MetaPathFinder):
    """Finds nothing itself: at the first import of torchvision it declares the operators."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Declare the operators once, and leave the import to the next finder."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in OPERATORS:
                library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            KEPT.append(library)
        return None


sys.meta_path.insert(0, _DeclareFirst())
