"""Options of logs that compare runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import OptionGroup, option


@dataclass(frozen=True)
class TrackOptions(OptionGroup):
    """Logs: where losses, pictures, distributions and metrics are logged to compare runs."""

    tracker: Literal["tensorboard", "mlflow"] = option(
        "TensorBoard's files in the run directory, or MLflow's local store, output_dir/mlflow.db",
        "tensorboard",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracker == "mlflow" and not all(map(find_spec, ("mlflow", "sqlalchemy"))):
            raise UserError(
                "`tracker` mlflow: MLflow is not installed, expected "
                "pip install mlflow-skinny sqlalchemy alembic"
            )
