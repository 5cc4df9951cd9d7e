"""Every method and the joined evidence on the same images of four models, each trained here.

    python benchmarks/leaderboard.py --root=leaderboard [--boards=mnist5k,headct]

Prepares the data, trains, scores and assesses by the commands of the README, all of which go on
where they stopped; then writes benchmarks/leaderboard.json, of which benchmarks/leaderboard_page.py
makes docs/leaderboard.md. A board whose images are not there is left out, with a sentence. Hours on
two cores; a board at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from board_statistics import RESAMPLES, SEED, mark, mean, resampled
from boards import BOARDS, BUDGETS, FAULTS, METHODS, RECIPE, SEVERITY, Board, Row, rows
from ceiling import ceiling
from hardware import machine

from diffusion_ood.data.loaders import image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.history import read_work
from diffusion_ood.detection.joined import assess_run
from diffusion_ood.detection.metrics import evaluate
from diffusion_ood.model import Diffusion
from diffusion_ood.options import DetectOptions, ImageOptions, LoadingOptions
from diffusion_ood.options.detection import ALL_PUBLISHED

HOME = Path(__file__).resolve().parent.parent
RESULTS = HOME / "benchmarks" / "leaderboard.json"
SEED_STEPS = 10  # of the whole grid of Graham et al., all of whose start points are used
CEILING_IMAGES = 600


def main() -> None:
    """Make every board that can be made, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of data and runs")
    parser.add_argument("--boards", default=",".join(board.name for board in BOARDS))
    parser.add_argument("--images", type=int, default=100, help="of each test set")
    parser.add_argument("--val_images", type=int, default=300)
    parser.add_argument("--without", default="", help="runs and methods that are left out")
    given = parser.parse_args()
    made: dict[str, Any] = {}
    if RESULTS.exists():
        made = json.loads(RESULTS.read_text(encoding="utf-8"))["boards"]
    for board in BOARDS:
        if board.name not in given.boards.split(","):
            continue
        lacking = [name for name in board.splits if not _split(given.root, name).exists()]
        if lacking:
            print(f"{board.name}: left out, there is no {_split(given.root, lacking[0])}")
            continue
        work = Work(board, given.root, given.images, given.val_images)
        work.run(given.without.split(","))
        made[board.name] = work.assess()
        content = {"machine": machine(), "boards": made}
        rounded = json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 5))
        RESULTS.write_text(json.dumps(rounded) + "\n", encoding="utf-8")
        print(f"written: {RESULTS}")


def _split(root: Path, name: str) -> Path:
    return root / "data" / "data_splits" / f"{name}.csv"


class Work:
    """One board, made by the commands.

    Args:
        board: what is made.
        root: the folder of data and runs.
        images: of each test set, the first so many.
        val_images: to calibrate on.
    """

    def __init__(self, board: Board, root: Path, images: int, val_images: int) -> None:
        self.board, self.root, self.images, self.val_images = board, root, images, val_images
        self.runs = root / "runs"

    def run(self, without: Sequence[str] = ()) -> None:
        """Train, make sets with faults, and score by all methods; what is done is left alone."""
        board, splits = self.board, [_split(self.root, name) for name in self.board.splits]
        if "train" not in without:
            self._command(
                "train_ddpm",
                output_dir=self.runs,
                model_name=board.name,
                training_ids=splits[0],
                validation_ids=splits[1],
                eval_freq=2,
                **RECIPE,
                **board.train,
            )
        for split in (splits[2], splits[0]) if board.faults else ():
            self._command(
                "get_datasets",
                data_root=self.root / "data",
                corrupt=",".join(FAULTS),
                of=split,
                severity=SEVERITY,
                first_n=CEILING_IMAGES if split == splits[0] else self.images,
            )
        learning: dict[str, object] = {"reference_ids": splits[0]}
        asked: dict[str, dict[str, object]] = {
            **{f"joined{n}": {"methods": "joined", "budget": n, **learning} for n in BUDGETS},
            "all": {"methods": ",".join(m for m in METHODS if m not in without), **learning},
            "seed": {"num_inference_steps": SEED_STEPS, "precision": "bf16", "report_images": 0},
        }
        for suffix, flags in asked.items():
            if suffix not in without:
                self._score(suffix, **flags)

    def _score(self, suffix: str, **flags: object) -> None:
        outs = ",".join(str(_split(self.root, name)) for name in self.board.sets)
        self._command(
            "reconstruct",
            output_dir=self.runs,
            model_name=f"{self.board.name}_{suffix}",
            eval_checkpoint=self.runs / self.board.name / "checkpoint_best.pth",
            validation_ids=_split(self.root, self.board.splits[1]),
            in_ids=_split(self.root, self.board.splits[2]),
            out_ids=outs,
            first_n=self.images,
            first_n_val=self.val_images,
            **flags,
        )

    def _command(self, name: str, **flags: object) -> None:
        line = [sys.executable, str(HOME / f"{name}.py")]
        line += [f"--{key}={value}" for key, value in flags.items()]
        print("\n" + " ".join(line), flush=True)
        subprocess.run(line, check=True)

    def assess(self) -> dict[str, Any]:
        """The rows of the table, with intervals, and how joined evidence compares to the best."""
        found = {suffix: self._assessed(suffix) for suffix in dict.fromkeys(r.run for r in rows())}
        table, scores = [], {}
        for row in rows():
            of_run = found[row.run]
            if row.method not in of_run:
                continue
            results = of_run[row.method]
            target = row.target or results.primary
            if target not in results.scores["val"]:
                continue
            scores[row.name] = {name: results.scores[name][target] for name in results.scores}
            seconds = _seconds_a_call(of_run["denoising"] if row.run == "all" else results)
            calls = row.calls if row.calls is not None else results.calls_per_image
            table.append(self._row(row, scores[row.name], calls, seconds))
        table.append(self._row(Row("ceiling", "ceiling", "", "", ""), self._ceilings(), None, None))
        joined = found[f"joined{BUDGETS[-1]}"]["joined"]
        mark(table)
        return {
            "title": self.board.title,
            "images": self.images,
            "val_images": self.val_images,
            **{group: names for group, names in self._groups().items() if group != "all"},
            "rows": table,
            "realised_fpr": vars(joined.called_ood["in"]),
            "worst": self._worst(table, scores),
        }

    def _assessed(self, suffix: str) -> dict[str, Assessment]:
        """What a run's tables say, by method."""
        options = DetectOptions(heads=(ALL_PUBLISHED,) if suffix == "all" else (), n_bootstrap=0)
        ood_dir = self.runs / f"{self.board.name}_{suffix}" / "ood"
        if not ood_dir.exists():
            return {}
        return {results.method: results for results in assess_run(ood_dir, options)}

    def _name(self, split: str) -> str:
        """What the set of a split is called in tables."""
        return read_split(_split(self.root, split)).name

    def _row(
        self,
        row: Row,
        scores: Mapping[str, pd.Series],
        calls: int | None,
        seconds: float | None,
    ) -> dict[str, Any]:
        inside = scores.get("in")
        sets, draws = {}, {}
        for name in map(self._name, self.board.sets):
            ours = inside if inside is not None else scores[f"in {name}"]
            metrics = evaluate(ours, scores[name], n_bootstrap=RESAMPLES, seed=SEED)
            sets[name] = {metric: vars(value) for metric, value in metrics.items()}
            draws[name] = resampled(ours, scores[name])
        milliseconds = None if calls is None or seconds is None else 1000 * calls * seconds
        return {
            "name": row.name,
            "kind": row.kind,
            "calls": calls,
            "milliseconds": milliseconds,
            "means": {group: mean(sets, draws, names) for group, names in self._groups().items()},
            "sets": sets,
        }

    def _groups(self) -> dict[str, list[str]]:
        """The names of the near, the far and all sets."""
        near = [self._name(split) for split in (*self.board.near, *self.board.faulty)]
        far = [self._name(split) for split in self.board.far]
        return {"near": near, "far": far, "all": near + far}

    def _worst(
        self, table: list[dict[str, Any]], scores: Mapping[str, Mapping[str, pd.Series]]
    ) -> dict[str, Any]:
        """By how much joined evidence differs from the best single method, at its own worst set.

        The best is that of the highest mean over sets; the interval is a paired bootstrap.
        """
        alone = [row for row in table if row["kind"] in ("published", "head", "seed")]
        best = max(alone, key=lambda row: float(row["means"]["all"]["auroc"]["value"]))["name"]
        joined = f"joined, {BUDGETS[-1]} calls"
        lowest = {}
        for name in (best, joined):
            of_row = next(row for row in table if row["name"] == name)["sets"]
            lowest[name] = min(of_row, key=lambda key: float(of_row[key]["auroc"]["value"]))
        pairs = [
            resampled(scores[name]["in"], scores[name][lowest[name]]) for name in (joined, best)
        ]
        difference = pairs[0] - pairs[1]
        low, high = np.quantile(difference[1:], [0.025, 0.975])
        return {
            "best": best,
            "set_of_best": lowest[best],
            "set_of_joined": lowest[joined],
            "difference": {"value": difference[0], "low": low, "high": high},
        }

    def _ceilings(self) -> dict[str, pd.Series]:
        """The ceiling's scores of each set, and of the in-distribution images beside it."""
        train, _, test = self.board.splits
        model = Diffusion.load(self.runs / self.board.name / "checkpoint_best.pth")
        options = model.image_options
        known = self._images(train, options, 0, CEILING_IMAGES)
        inside = self._images(test, options, 0, self.images)
        scores: dict[str, pd.Series] = {}
        for split in self.board.sets:
            tested = self._images(split, options, 0, self.images)
            shown = self._shown(split, options)
            of_in, of_out = ceiling(known, shown, inside, tested)
            name = self._name(split)
            scores[f"in {name}"], scores[name] = pd.Series(of_in), pd.Series(of_out)
        return scores

    def _shown(self, split: str, options: ImageOptions) -> torch.Tensor:
        """What the ceiling is shown of a set: training images changed likewise, or its others."""
        train, _, test = self.board.splits
        for of_test, of_train in (
            (f"{test}_", f"{train}_"),
            *(
                (test.replace("_test", f"_{flip}_test"), train.replace("_train", f"_{flip}_train"))
                for flip in ("vflip", "hflip")
            ),
        ):
            if split.startswith(of_test):
                changed = split.replace(of_test, of_train)
                return self._images(changed, options, 0, CEILING_IMAGES)
        return self._images(split, options, self.images, CEILING_IMAGES)

    def _images(self, name: str, options: ImageOptions, start: int, number: int) -> torch.Tensor:
        """Some images of a split, `(N, C, H, W)`."""
        split = read_split(_split(self.root, name), flips=True).first(start + number)
        images = open_images(split, options, LoadingOptions(num_workers=0), progress=False)
        return next(iter(image_batches(images, [range(start, len(images))], 0)))


def _seconds_a_call(results: Assessment) -> float | None:
    """Seconds a network call of the run whose tables these are, all else included."""
    seconds = calls = 0.0
    for name in results.num_images:
        for entry in read_work(results.tables, name, results.fingerprint(name)):
            seconds += entry["seconds"]
            calls += entry["images"] * entry["calls_per_image"]
    return seconds / calls if calls else None


if __name__ == "__main__":
    main()
