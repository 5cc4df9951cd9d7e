"""Train the classifier whose outputs the scores logit_l1 and feature_l1 compare.

Reads split CSVs with labels; writes checkpoints, config.json and logs to output_dir/model_name.
Run the same command again to resume from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli
from diffusion_ood.options import ClassifierOptions, ClassifierTrainOptions, groups_of_a_run

GROUPS = groups_of_a_run(ClassifierTrainOptions, ClassifierOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    fit = line[ClassifierTrainOptions]

    from diffusion_ood.data.splits import read_split

    paths = [fit.training_ids, fit.validation_ids, *([fit.test_ids] if fit.test_ids else [])]
    splits = [read_split(path, flips=False) for path in paths]

    # The imports of torch and MONAI take seconds.
    from diffusion_ood.runtime import distributed
    from diffusion_ood.training.classifier_task import ClassifierTask
    from diffusion_ood.training.run import TrainingRun, open_data
    from diffusion_ood.training.task import TrainingSettings

    settings: TrainingSettings[ClassifierTrainOptions, ClassifierOptions]
    settings = TrainingSettings(*line.groups)
    with distributed.process_group(settings.compute.device) as device:
        training, *others = open_data(splits, settings)
        evaluated = dict(zip(("validation", "test"), others, strict=False))
        task = ClassifierTask(settings, device, training, evaluated)
        TrainingRun(task).train()
        for name, value in task.accuracies.items():
            distributed.print_once(f"{name} accuracy: {100 * value:.2f} %")
