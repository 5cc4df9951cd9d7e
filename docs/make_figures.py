"""Make a picture from the sheets that `reconstruct.py --save_images` leaves behind: a panel a set.

python docs/make_figures.py demo/runs/mnist5k docs/images/reconstructions.png \
    "in=digits (in)" "MNIST5k_vflip=flipped digits (out)" "PhotoPatches=photographs (out)"
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # draws files, and needs no window
import matplotlib.pyplot as plt
import numpy as np

LEVELS = 5  # reconstructions beside each image; of more, those spread evenly


def main(run_dir: Path, output: Path, titles: dict[str, str]) -> None:
    """A panel a set: each row an image, then its reconstructions from rising noise levels."""
    companion = json.loads((run_dir / "ood" / "results_in.json").read_text())
    starts = companion["fingerprint"]["starts"]
    shown = [round((k + 0.5) * len(starts) / LEVELS - 0.5) for k in range(LEVELS)]
    columns = ["image", *(f"t = {starts[k]}" for k in shown)]
    figure, panels = plt.subplots(1, len(titles), figsize=(4.4 * len(titles), 3.6))
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        sheet = plt.imread(run_dir / "ood" / f"reconstructions_{name}.png")
        cells = np.split(sheet[:, 1:], 1 + len(starts), axis=1)
        panel.imshow(np.hstack([cells[0], *(cells[k + 1] for k in shown)]), interpolation="nearest")
        width = cells[0].shape[1]
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
    pairs = (word.split("=", 1) for word in sys.argv[3:])
    main(Path(sys.argv[1]), Path(sys.argv[2]), dict(pairs))
