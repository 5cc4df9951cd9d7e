"""Screening on a Ray cluster of this machine, with one worker slowed fourfold and one killed.

    python benchmarks/ray_cluster.py [--detector=mine.detector]

Without a detector it makes one of random weights: speed and delivery do not depend on them. The
cores of one machine cannot show what four machines do, so each worker measures its images and then
sleeps until they have taken a fixed time; more than that it never computes at the same pace. One
worker takes four times as long. One is killed by SIGKILL once half of the images are answered.

The ideal is the time at which the summed rate of the workers that live, from the moment that each
holds the detector, has done all of the work. Ends with code 1 if the run takes more than 1.3 times
that, an image is lost or answered twice, or an answer differs from one process's by more than 1e-5.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from models import fresh_model
from PIL import Image
from ray_worker import PACE, SLOWED, STARTS, PacedWorker

from diffusion_ood import cli
from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.screening.decisions import FILE, Decision, DecisionFile, begin, finish
from diffusion_ood.screening.inputs import Item, gather
from diffusion_ood.screening.ray_pool import ray_pool
from diffusion_ood.screening.run import BATCH, screen

WORKERS = 4
MOST_RATIO, TOLERANCE = 1.3, 1e-5


def main() -> None:
    """Run it as often as asked, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--detector", type=Path, help="default: one of random weights")
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--pace", type=float, default=2.0, help="seconds that 16 images take")
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = arguments.detector or folder / "random.detector"
        if arguments.detector is None:
            random_detector().save(path)
        detector = Detector.load(path, "cpu")
        items = gather([random_images(folder / "images", arguments.images, detector.image_shape)])
        expected = {d.file: d for d in screen(detector, items, None)}
        print(
            f"{len(items):,} images, {WORKERS} workers; {BATCH} images take a worker "
            f"{arguments.pace:g} s, sleep included, and one of them {SLOWED:g} times that; another "
            "is killed half way",
            flush=True,
        )
        passed = True
        for number in range(arguments.runs):
            run = Run(path, detector, items, folder / f"run{number}", arguments.pace / BATCH)
            found = run.do(expected)
            print(found.sentence(), flush=True)
            passed &= found.kept
    if not passed:
        sys.exit(
            f"error: expected a ratio of at most {MOST_RATIO:g}, no image lost or answered twice, "
            f"and a difference of at most {TOLERANCE:g}; run it alone on the machine"
        )


def random_detector() -> Detector:
    """A detector of the `micro` model with random weights."""
    rng = np.random.default_rng(0)
    options = ReconstructOptions(methods=("joined",), budget=3, scores=("mse",))
    validation = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    return Detector.fit(fresh_model("micro"), validation, options=options, device="cpu")


def random_images(folder: Path, number: int, shape: Sequence[int]) -> Path:
    """A folder of images of random pixels, of this shape (C, H, W)."""
    if len(shape) != 3:
        raise UserError(f"`detector`: found one of images {tuple(shape)}, expected (C, H, W)")
    rng = np.random.default_rng(1)
    folder.mkdir()
    for image in range(number):
        pixels = rng.integers(0, 256, (*shape[1:], shape[0]), dtype=np.uint8)
        Image.fromarray(pixels.squeeze()).save(folder / f"{image:06}.png")
    return folder


@dataclass(frozen=True)
class Found:
    """What came of a run; times in seconds from the first worker's start."""

    ideal: float
    taken: float
    starts: int
    lost: int
    doubled: int
    difference: float

    @property
    def ratio(self) -> float:
        """The time taken, as multiple of the ideal."""
        return self.taken / self.ideal

    @property
    def kept(self) -> bool:
        """Whether all is as promised."""
        whole = not self.lost and not self.doubled and self.difference <= TOLERANCE
        return whole and self.ratio <= MOST_RATIO

    def sentence(self) -> str:
        """All of it."""
        return (
            f"ideal {self.ideal:.1f} s, taken {self.taken:.1f} s, ratio {self.ratio:.3f}; "
            f"{self.starts} starts of workers; images lost {self.lost}, answered twice "
            f"{self.doubled}; largest difference {self.difference:.2g}"
        )


@dataclass
class Run:
    """One run: who was killed when, and what was answered."""

    path: Path
    detector: Detector
    items: Sequence[Item]
    folder: Path
    pace: float
    answered: Counter[str] = field(default_factory=Counter)
    killed: float = 0.0

    def do(self, expected: dict[str, Decision]) -> Found:
        """Do it, beside the decisions of one process."""
        starts = self.folder / "starts"
        starts.mkdir(parents=True)
        path = os.pathsep.join(sys.path)  # on which the workers find their file
        os.environ |= {STARTS: str(starts), PACE: str(self.pace), "PYTHONPATH": path}
        begin(self.folder, self.detector.digest)
        begun = time.time()
        reader = self.detector.reader
        with (
            DecisionFile(self.folder) as file,
            ray_pool("auto", WORKERS, "cpu", self.path, "off", reader, PacedWorker) as workers,
        ):
            found = screen(
                self.detector, self.items, file, seen=self._seen, elsewhere=workers.decide
            )
            ended = time.time()
        with open(self.folder / FILE, encoding="utf-8", newline="") as rows:
            written = Counter(row["file"] for row in csv.DictReader(rows))
        finish(self.folder, found)
        ready = sorted(start["ready"] for start in self._starts())
        ideal, away = self._ideal(ready)
        counts = [
            {item.name: c[item.name] for item in self.items} for c in (self.answered, written)
        ]
        print(
            f"cluster and first worker ready after {ready[0] - begun:.1f} s, the last after "
            f"{ready[WORKERS - 1] - begun:.1f}, the killed one {away:.1f} s after its end"
        )
        return Found(
            ideal=ideal - ready[0],
            taken=ended - ready[0],
            starts=len(ready),
            lost=sum(n == 0 for count in counts for n in count.values()),
            doubled=sum(n > 1 for count in counts for n in count.values()),
            difference=max(
                abs(
                    (getattr(decision, name) or 0.0)
                    - (getattr(expected[decision.file], name) or 0.0)
                )
                for decision in found
                for name in ("score", "p_value")
            ),
        )

    def _starts(self) -> list[dict[str, float]]:
        paths = (self.folder / "starts").glob("*.json")
        return [json.loads(path.read_text()) for path in sorted(paths)]

    def _seen(self, decisions: Sequence[Decision]) -> None:
        self.answered.update(decision.file for decision in decisions)
        if not self.killed and self.answered.total() >= len(self.items) / 2:
            self.killed = time.time()
            os.kill(int(self._starts()[1]["pid"]), signal.SIGKILL)

    def _ideal(self, ready: Sequence[float]) -> tuple[float, float]:
        """When living workers could have been done, and how long the killed one was away."""
        back = ready[WORKERS] if len(ready) > WORKERS else float("inf")
        first, *others = ready[:WORKERS]
        done, now, step = 0.0, first, 0.01
        while done < len(self.items):
            rate = sum(now >= start for start in others) + 1 / SLOWED
            rate -= self.killed <= now < back
            done += rate / self.pace * step
            now += step
        return now, back - self.killed


if __name__ == "__main__":
    cli.run(main)
