"""Make the README's picture from the sheets that `make demo` leaves behind.

python docs/make_figures.py demo/runs/mnist5k docs/images/reconstructions.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # draws files, and needs no window
import matplotlib.pyplot as plt

SETS = {
    "in": "digits (in)",
    "MNIST5k_vflip": "flipped digits (out)",
    "PhotoPatches": "photographs (out)",
}


def main(run_dir: Path, output: Path) -> None:
    """A panel a set: each row an image, then its reconstructions from rising noise levels."""
    companion = json.loads((run_dir / "ood" / "results_in.json").read_text())
    starts = companion["fingerprint"]["starts"]
    columns = ["image", *(f"t = {start}" for start in starts)]
    figure, panels = plt.subplots(1, len(SETS), figsize=(13, 3.6))
    for panel, (name, title) in zip(panels, SETS.items(), strict=True):
        sheet = plt.imread(run_dir / "ood" / f"reconstructions_{name}.png")
        panel.imshow(sheet, interpolation="nearest")
        width = sheet.shape[1] / len(columns)
        panel.set_xticks([(k + 0.5) * width for k in range(len(columns))], columns, fontsize=7)
        panel.xaxis.tick_top()
        panel.tick_params(length=0)
        panel.set_yticks([])
        panel.set_title(title, fontsize=10)
        panel.spines[:].set_visible(False)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
