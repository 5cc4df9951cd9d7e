"""The command with weights for the start points, on scores of which half show nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.commands.ood_detection import main
from diffusion_ood.detection.table import write_table
from diffusion_ood.errors import UserError

TELLING, NOISY = (10, 20, 30), (40, 50, 60)


def write(ood: Path, name: str, kind: str, num: int, shift: float) -> None:
    """Scores of which three levels show the image, and three nothing but noise."""
    rng = np.random.default_rng(sum(map(ord, name)))
    image = rng.normal(shift, 1, num)
    rows = [
        (f"{name}/{i}.png", kind, t, image[i] * (t in TELLING) + rng.normal(0, 0.5 + (t in NOISY)))
        for i in range(num)
        for t in (*TELLING, *NOISY)
    ]
    columns = ["filename", "type", "t", "mse"]
    write_table(ood / f"results_{name}.csv", pd.DataFrame(rows, columns=columns))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The flags that assess a run whose OOD set scores higher at the telling levels."""
    ood = tmp_path / "model" / "ood"
    ood.mkdir(parents=True)
    write(ood, "val", "val", 300, 0)
    write(ood, "in", "in", 300, 0)
    write(ood, "far", "out", 300, 1.5)
    write(ood, "val_patched", "val", 300, 2)
    return [f"--output_dir={tmp_path}", "--model_name=model", "--n_bootstrap=0"]


def auroc(arguments: list[str], tmp_path: Path) -> float:
    main(arguments)
    metrics = json.loads((tmp_path / "model" / "ood" / "metrics.json").read_text())
    return metrics["targets"]["mse"]["far"]["auroc"]["value"]


def test_levels_at_which_patches_show_get_the_weight(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    equal = auroc(arguments, tmp_path)
    assert "from t = 10 to 60\n" in capsys.readouterr().out
    weighted = auroc([*arguments, "--level_weights=patched"], tmp_path)
    assert "from t = 10 to 60, weighted: patched\n" in capsys.readouterr().out
    assert weighted > equal + 0.03
    metrics = json.loads((tmp_path / "model" / "ood" / "metrics.json").read_text())
    assert set(metrics["num_images"]) == {"val", "in", "far"}


def test_an_image_may_be_judged_by_its_most_unusual_levels(
    arguments: list[str], tmp_path: Path
) -> None:
    """What is reconstructed unusually well at other levels takes nothing from them."""
    path = tmp_path / "model" / "ood" / "results_far.csv"
    table = pd.read_csv(path)
    highest = [*arguments, "--level_weights=highest"]
    before = auroc(arguments, tmp_path), auroc(highest, tmp_path)
    table.loc[table["t"].isin(NOISY), "mse"] -= 2
    table.to_csv(path, index=False)
    after = auroc(arguments, tmp_path), auroc(highest, tmp_path)
    assert after[0] < before[0] - 0.3
    assert after[1] > before[1] - 0.1


def test_without_patched_images_they_are_asked_for(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "model" / "ood" / "results_val_patched.csv").unlink()
    with pytest.raises(UserError, match=r"val_patched\.csv: .*`run_patched`"):
        main([*arguments, "--level_weights=patched"])


def test_weights_without_z_scores_are_refused(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"`level_weights`: .*`z_score`"):
        main([*arguments, "--level_weights=patched", "--z_score=0"])
