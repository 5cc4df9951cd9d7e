"""Freeze the numbers of today's code as those that `test_golden.py` expects.

    PYTHONPATH=src python tests/golden/freeze.py

Only for a change that is meant to change numbers: say in its commit which ones and why.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden import cases


def main() -> None:
    """Run every command line and keep what it wrote."""
    shutil.rmtree(cases.EXPECTED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cases.make_place(place)
        for scoring in cases.SCORINGS:
            cases.call(place, scoring.command)
            _keep(place / scoring.ood, scoring.expected, cases.TABLES)
        for detection in cases.DETECTIONS:
            ood = cases.lay_out(place, detection.scoring)
            cases.call(place, detection.command)
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


if __name__ == "__main__":
    main()
