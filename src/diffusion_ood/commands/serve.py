"""Answer over HTTP whether images are out of distribution.

    diffusion-ood serve mine.detector

Listens at http://127.0.0.1:8000 until it gets SIGTERM or Ctrl-C; then it answers what it accepted
and ends. POST /v1/score takes files in the field `files`; / is a page to drop images on. Files are
never written. docs/serving.md has examples. Needs pip install 'diffusion-ood[serve]'.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.options import ServeOptions
from diffusion_ood.runtime.imports import require

GROUPS = (ServeOptions,)
PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    options = cli.parse(__doc__, GROUPS, argv)[ServeOptions]
    require("serve", *PACKAGES)

    from diffusion_ood.serving.limits import read_token
    from diffusion_ood.serving.server import listen, serve

    token = read_token(options.token_file)
    with listen(options.host, options.port) as listener:
        from diffusion_ood.detector import Detector
        from diffusion_ood.serving.app import create_app

        detector = Detector.load(options.detector, options.device)
        serve(create_app(detector, options, token), listener, options)
