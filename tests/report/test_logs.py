"""What is logged, read back from TensorBoard's event files and from MLflow's store."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from diffusion_ood.commands import ood_detection
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table import read_table
from diffusion_ood.errors import UserError
from diffusion_ood.report.curves import NUM_THRESHOLDS, pr_table
from diffusion_ood.report.logs import log_set, sheet
from diffusion_ood.report.mlflow_log import MLflow
from diffusion_ood.report.pictures import load_pictures, pictures_path
from diffusion_ood.report.tensorboard_log import TensorBoard
from diffusion_ood.runtime.checkpoint import load_checkpoint

NewRun = Callable[..., Path]
FINGERPRINT = {"checkpoint": "ab" * 32, "seed": 7, "starts": [10, 20, 30]}
NO_MLFLOW = importlib.util.find_spec("mlflow") is None


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload()


def tensor(found: EventAccumulator, tag: str, number: int = 0) -> np.ndarray:
    return make_ndarray(found.Tensors(tag)[number].tensor_proto)


def session(found: EventAccumulator) -> plugin_data_pb2.SessionStartInfo:
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info


def test_the_results_of_detection_can_be_compared(run: Path) -> None:
    found = events(run / "tensorboard")
    metrics = json.loads((run / "metrics.json").read_text())["targets"]
    for target, sets in metrics.items():
        for name, values in sets.items():
            (scalar,) = found.Scalars(f"auroc/{target}/{name}")
            assert scalar.value == pytest.approx(values["auroc"]["value"], abs=1e-6)
    started = session(found)
    assert started.hparams["headline"].string_value == "both"
    assert started.hparams["seed"].string_value == "7"
    assert started.group_name == "/".join(run.parts[-3:-1])


def test_results_without_ood_sets_are_logged(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "m")
    for path in (*ood.glob("results_far.*"), *ood.glob("results_near.*")):
        path.unlink()
    ood_detection.main([f"--output_dir={tmp_path}", "--model_name=m"])
    found = events(ood / "tensorboard" / "in")
    realised = json.loads((ood / "metrics.json").read_text())["realised_fpr"]["value"]
    (called_ood,) = found.Scalars("called_ood")
    assert called_ood.value == pytest.approx(realised)
    assert tensor(found, "scores/both")[:, 2].sum() == 80
    assert session(events(ood / "tensorboard")).hparams["headline"].string_value == "both"
    assert {path.name for path in (ood / "tensorboard").iterdir() if path.is_dir()} == {"val", "in"}


def test_a_training_is_compared_by_its_last_options(tmp_path: Path, train: NewRun) -> None:
    run = tmp_path / "out" / "m"
    for epochs in (1, 2):
        train(run, f"--n_epochs={epochs}")
    started = session(events(run))
    parameters = {name: value.string_value for name, value in started.hparams.items()}
    assert (parameters["n_epochs"], parameters["lr"], parameters["model_type"]) == (
        "2",
        "0.001",
        "tiny",
    )
    assert "output_dir" not in parameters
    assert started.group_name == "out/m train"
    files = [len(list(folder.glob("events.*"))) for folder in (run, run / "train")]
    assert files == [1, 2]  # the options once, the points of both


def test_pr_curves_are_those_of_the_scores(run: Path) -> None:
    found = events(run / "tensorboard" / "far")
    table = tensor(found, "pr/both")
    decided = {name: pd.read_csv(run / f"decisions_{name}.csv") for name in ("in", "far")}
    scores = np.r_[decided["in"]["score"], decided["far"]["score"]]
    truth = np.r_[np.zeros(80), np.ones(60)]
    assert table.shape == (6, NUM_THRESHOLDS)
    for k in (0, 50, 150, 200):
        threshold = np.quantile(scores, k / 200, method="higher")
        called = scores >= threshold
        assert table[4, k] == pytest.approx(precision_score(truth, called), abs=1e-6)
        assert table[5, k] == pytest.approx(recall_score(truth, called), abs=1e-6)
    (called_ood,) = found.Scalars("called_ood")
    assert called_ood.value == pytest.approx(decided["far"]["is_ood"].mean())
    assert tensor(found, "scores/both")[:, 2].sum() == 60


def test_counts_add_up_at_every_threshold() -> None:
    tp, fp, tn, fn, *_ = pr_table([0, 0, 1, 1, 1], [0.0, 1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(tp + fn, 3)
    np.testing.assert_array_equal(fp + tn, 2)
    assert (tp[0], fp[0]) == (3, 2)
    assert (tp[-1], fp[-1]) == (1, 0)


def test_a_finished_set_is_logged_with_pictures_levels_and_throughput(
    run: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # the second takes the place of the first
        tracker = TensorBoard(tmp_path, "reconstruct", "out/m")
        log_set(tracker, run, "far", FINGERPRINT)
        tracker.close()
    assert len(list((tmp_path / "far").iterdir())) == 1
    found = events(tmp_path / "far")
    (speed,) = found.Scalars("images_per_second")
    assert speed.value == pytest.approx(60 / 2.5)
    rows = read_table(table_path(run, "far"))
    for number, (t, at_t) in enumerate(rows.groupby("t")):
        event = found.Tensors("levels/mse")[number]
        bins = make_ndarray(event.tensor_proto)
        assert event.step == t
        assert (bins[0, 0], bins[-1, 1]) == pytest.approx((at_t["mse"].min(), at_t["mse"].max()))
        assert bins[:, 2].sum() == 60
    tag = "images and reconstructions from t = 10, 20, 30"
    (image,) = found.Images(tag)
    pictures = load_pictures(pictures_path(run, "far"), FINGERPRINT)
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    np.testing.assert_array_equal(shown, sheet(pictures.cells)[:, :, 0])


def test_a_sheet_has_a_row_an_image_and_cells_that_can_be_seen() -> None:
    cells = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((8, 8, 1), np.uint8)
    found = sheet(cells)
    assert found.shape == (2 * 65, 3 * 65, 1)
    assert [found[65 * r, 65 * c, 0] for r in range(2) for c in range(3)] == list(range(6))
    assert (found[64] == 128).all()
    assert sheet(np.zeros((1, 1, 128, 100, 3), np.uint8)).shape == (129, 101, 3)


@pytest.mark.skipif(NO_MLFLOW, reason="mlflow is not installed")
def test_mlflow_has_the_same_metrics_parameters_and_distributions(
    tmp_path: Path, new_run: NewRun
) -> None:
    from mlflow import MlflowClient

    ood = new_run(tmp_path / "out" / "m")
    flags = [f"--output_dir={tmp_path / 'out'}", "--model_name=m", "--n_bootstrap=0"]
    ood_detection.main([*flags, "--tracker=mlflow"])
    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "diffusion-ood")
    (found,) = client.search_runs([experiment.experiment_id])
    metrics = json.loads((ood / "metrics.json").read_text())
    assert found.info.run_name == "m detect"
    assert found.info.status == "FINISHED"
    assert found.data.metrics["auroc/both/far"] == pytest.approx(
        metrics["targets"]["both"]["far"]["auroc"]["value"]
    )
    assert found.data.params["headline"] == "both"
    assert found.data.params["seed"] == "7"
    artifacts = tmp_path / "out" / "mlartifacts"
    (curve,) = artifacts.rglob("far/pr/both.json")
    assert len(json.loads(curve.read_text())["recall"]) == NUM_THRESHOLDS
    (counts,) = artifacts.rglob("far/scores/both/0.json")
    assert sum(json.loads(counts.read_text())["counts"]) == 60
    assert not (ood / "tensorboard").exists()

    tracker = MLflow(tmp_path / "out", "m reconstruct")
    log_set(tracker, ood, "far", FINGERPRINT)
    tracker.close()
    (picture,) = artifacts.rglob("*.png")
    pictures = load_pictures(pictures_path(ood, "far"), FINGERPRINT)
    assert Image.open(picture).size == (4 * 65, len(pictures.filenames) * 65)
    assert {path.name for path in artifacts.rglob("far/levels/mse/*")} == {
        "10.json",
        "20.json",
        "30.json",
    }


@pytest.mark.skipif(NO_MLFLOW, reason="mlflow is not installed")
def test_mlflow_has_the_points_of_a_training_that_goes_on(tmp_path: Path, train: NewRun) -> None:
    from mlflow import MlflowClient

    run = tmp_path / "out" / "m"
    for epochs in (2, 3):
        train(run, f"--n_epochs={epochs}", "--eval_freq=1", "--tracker=mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "diffusion-ood")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("m train", "FINISHED")
    assert found.data.params["lr"] == "0.001"
    assert found.data.params["model_type"] == "tiny"
    assert (found.data.params["n_epochs"], found.data.tags["n_epochs"]) == ("2", "3")
    assert "output_dir" not in found.data.params
    points = {
        name: {p.step: p.value for p in client.get_metric_history(found.info.run_id, name)}
        for name in ("train/loss", "train/lr", "train/images_per_second", "val/loss")
    }
    assert all(list(values) == [1, 2, 3] for values in points.values())
    assert points["train/lr"] == dict.fromkeys((1, 2, 3), pytest.approx(1e-3))
    best = load_checkpoint(run / "checkpoint_best.pth")["best_loss"]
    assert min(points["val/loss"].values()) == pytest.approx(best, rel=1e-6)
    pictures = list((tmp_path / "out" / "mlartifacts").rglob("val/samples/*.png"))
    assert {path.stem for path in pictures} == {"1", "2", "3"}
    assert Image.open(pictures[0]).size == (4 * 9 + 1, 4 * 9 + 1)
    assert not (run / "train").exists()
    shutil.rmtree(run)
    train(run, "--tracker=mlflow")  # a new training of that name is another run
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_mlflow_that_is_not_installed_is_a_mistake_of_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    module = sys.modules["diffusion_ood.options.models"]
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "mlflow" else find(name))
    with pytest.raises(UserError, match=r"`tracker`.*MLflow"):
        ood_detection.main([f"--output_dir={tmp_path}", "--model_name=m", "--tracker=mlflow"])
