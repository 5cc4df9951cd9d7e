"""Draw samples from a trained diffusion model: exactly as many as asked for.

Reads a checkpoint; writes PNGs or an array, and sheet.png with the first of them, to
output_dir/model_name/samples or --image_path. Sample number i depends on the seed and i alone,
whatever the batch size and the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.data.splits import read_split
from diffusion_ood.options import EvaluationOptions, LoadingOptions, RunOptions, SampleOptions
from diffusion_ood.runtime.run_directory import checkpoint_path, require_checkpoint

GROUPS = (RunOptions, SampleOptions, LoadingOptions, EvaluationOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    options, evaluation = line[SampleOptions], line[EvaluationOptions]
    run_dir = line[RunOptions].run_dir
    path = require_checkpoint(checkpoint_path(run_dir, options.eval_checkpoint))
    if options.reference_ids is not None:
        read_split(options.reference_ids)  # says now what is wrong there

    from diffusion_ood.model import Diffusion
    from diffusion_ood.quality.sample_quality import SampleQuality
    from diffusion_ood.runtime import distributed
    from diffusion_ood.runtime.lock import locked
    from diffusion_ood.sampling.samples import SampleFiles
    from diffusion_ood.trajectories.evaluator import Evaluator

    with distributed.process_group(evaluation.device) as device:
        evaluator = Evaluator.from_options(Diffusion.load(path), device, evaluation)
        quality = None
        if options.reference_ids is not None:
            seen = evaluator.diffusion.image_options, evaluator.diffusion.image_shape
            cache = run_dir / "quality"
            quality = SampleQuality(options, *seen, line[LoadingOptions], cache, device)
        folder = options.image_path or run_dir / "samples"
        files = SampleFiles(evaluator, options, folder, quality)
        with locked(folder, ".*.tmp"):
            files.run()
