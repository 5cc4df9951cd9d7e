r"""Make a MONAI bundle of a detector, for the tools that run bundles.

    diffusion-ood export mine.detector --bundle bundle
    python -m monai.bundle run --config_file bundle/configs/inference.json \
        --bundle_root bundle --dataset_dir /path/to/scans --output_dir screening

The bundle decides as `diffusion-ood screen` does. To run it, MONAI needs the package fire, which
the extra `[bundle]` brings.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.options import ExportOptions

GROUPS = (ExportOptions,)
RUN = (
    "python -m monai.bundle run --config_file {0}/configs/inference.json --bundle_root {0} "
    "--dataset_dir IMAGES --output_dir DECISIONS"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments.

    Raises:
        UserError: a wrong flag, a file that is no detector, or a folder that is something else.
    """
    options = cli.parse(__doc__, GROUPS, argv)[ExportOptions]

    from diffusion_ood.export.bundle import export_bundle

    export_bundle(
        options.detector,
        options.bundle,
        run=RUN.format("."),
        authors=options.authors,
        copyright=options.copyright,
    )
    print(f"written: {options.bundle}; next: {RUN.format(options.bundle)}")
