"""Freeze the numbers of today's code as those that `test_golden.py` expects.

    PYTHONPATH=src python tests/golden/freeze.py
    PYTHONPATH=src python tests/golden/freeze.py --bounds

Only for a change that is meant to change numbers: say in its commit which ones and why. With
`--bounds` the intervals of the metrics are renewed and nothing else; the frozen score tables are
assessed, and a metric that has another value than the frozen one ends it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden import cases


def main() -> None:
    """Run every command line and keep what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bounds", action="store_true", help="renew the metrics' intervals alone")
    bounds_alone = parser.parse_args().bounds
    if not bounds_alone:
        shutil.rmtree(cases.EXPECTED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cases.make_place(place)
        for scoring in () if bounds_alone else cases.SCORINGS:
            cases.call(place, scoring.command)
            _keep(place / scoring.ood, scoring.expected, cases.TABLES)
        for detection in cases.DETECTIONS:
            ood = cases.lay_out(place, detection.scoring)
            cases.call(place, detection.command)
            if bounds_alone:
                _renew_bounds(ood / "metrics.csv", detection.expected / "metrics.csv")
            else:
                _keep(ood, detection.expected, cases.RESULTS)


def _keep(ood: Path, expected: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of these patterns, as far as they are compared."""
    expected.mkdir(parents=True)
    for pattern in patterns:
        for path in sorted(ood.glob(pattern)):
            if path.suffix == ".json":
                text = json.dumps(cases.read_json(path), indent=1)
                (expected / path.name).write_text(text + "\n")
            else:
                shutil.copy(path, expected)


def _renew_bounds(found: Path, frozen: Path) -> None:
    """Copy a table of metrics over the frozen one, from which only its bounds may differ."""
    others = (
        pd.read_csv(path, dtype=str).drop(columns=["low", "high"]) for path in (found, frozen)
    )
    if not next(others).equals(next(others)):
        sys.exit(f"{frozen}: found another value, expected other bounds alone")
    shutil.copy(found, frozen)


if __name__ == "__main__":
    main()
