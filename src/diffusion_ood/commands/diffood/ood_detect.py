"""Report on what `main.py --runner ood_itp` has scored; needs no torch.

    python detect/ood_detect.py --repeat_size 4 --id_name cifar10

As in the paper's code, scores are not z-scored: neither those at one level nor their averages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from diffusion_ood import cli
from diffusion_ood.commands import ood_detection
from diffusion_ood.options.diffood import SCORED, OodDetectOptions, scored_run

GROUPS = (OodDetectOptions,)
NEAR_FAR = Path("ood_groups.yml")
LEVEL = 240  # that decides
SHORT = {"-r": "--repeat_size", "-n": "--id_name", "-s": "--space"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    words = sys.argv[1:] if argv is None else argv
    line = cli.parse(__doc__, GROUPS, [SHORT.get(word, word) for word in words])
    options = line[OodDetectOptions]
    from diffusion_ood.commands.diffood.config import find_config

    ood_detection.main(
        [
            f"--output_dir={SCORED}",
            f"--model_name={scored_run(options.id_name, options.repeat_size)}",
            f"--headline={options.space}_l1_global@{LEVEL}",
            "--z_score=0",
            f"--groups={find_config(NEAR_FAR)}",
        ]
    )
