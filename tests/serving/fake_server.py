"""Serves the detector that needs no model, as a process of its own: fake_server.py PORT SECONDS."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_detector import FakeDetector

from diffusion_ood import cli
from diffusion_ood.options import ServeOptions
from diffusion_ood.serving.app import create_app
from diffusion_ood.serving.server import listen, serve


def main() -> None:
    """Serve until a signal."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    options = ServeOptions(Path("fake"), port=port)
    with listen(options.host, port) as listener:
        serve(create_app(FakeDetector(seconds), options), listener, options)


if __name__ == "__main__":
    cli.run(main)
