"""`python -m diffusion_ood`: the console, where its script is not on the path."""

from __future__ import annotations

import sys

from diffusion_ood.cli import CONSOLE
from diffusion_ood.console import run

if __name__ == "__main__":  # processes that it starts import this, too
    sys.argv[0] = CONSOLE
    run()
