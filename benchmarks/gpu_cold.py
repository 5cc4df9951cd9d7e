"""The first decision of a fresh process: `gpu_cold.py DETECTOR DEVICE` prints its milliseconds."""

from __future__ import annotations

import itertools
import json
import sys
import time


def main() -> None:
    """Import, load, and decide on one image twice."""
    marks = [time.perf_counter()]
    import torch

    from diffusion_ood import Detector

    marks.append(time.perf_counter())
    detector = Detector.load(sys.argv[1], sys.argv[2])
    marks.append(time.perf_counter())
    image = torch.rand(1, *detector.image_shape)
    for _ in range(2):
        detector.measure(image)
        marks.append(time.perf_counter())
    names = ("import_ms", "load_ms", "first_ms", "second_ms")
    spans = itertools.pairwise(marks)
    print(json.dumps({k: 1000 * (b - a) for k, (a, b) in zip(names, spans, strict=True)}))


if __name__ == "__main__":
    main()
