"""The command from score tables on disk to the numbers it prints and writes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from diffusion_ood import cli
from diffusion_ood.commands.ood_detection import main
from diffusion_ood.detection.table import read_table, write_table
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import write_json

ROOT = Path(__file__).parents[2]
T = (10, 20, 30, 40)
Run = tuple[Path, list[str]]


def table(prefix: str, kind: str, num: int, shift: dict[int, float]) -> pd.DataFrame:
    """Normal scores whose mean is shifted at some t."""
    rng = np.random.default_rng(sum(map(ord, prefix)))
    rows = [
        (f"{prefix}/{i},x.png", kind, t, rng.normal(shift.get(t, 0)), rng.normal(shift.get(t, 0)))
        for i in range(num)
        for t in T
    ]
    return pd.DataFrame(rows, columns=["filename", "type", "t", "mse", "perceptual_difference"])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose OOD sets differ at t = 40 alone (far) and nowhere (near)."""
    ood = tmp_path / "out" / "model" / "ood"
    ood.mkdir(parents=True)
    write_table(ood / "results_val.csv", table("val", "val", 99, {}))
    write_table(ood / "results_in.csv", table("in", "in", 80, {}))
    write_table(ood / "results_far.csv", table("far", "out", 60, {40: 2.5}))
    write_table(ood / "results_near.csv", table("near", "out", 50, {}))
    arguments = [f"--output_dir={tmp_path / 'out'}", "--model_name=model", "--n_bootstrap=200"]
    return ood, arguments


def found(ood: Path) -> dict:
    return json.loads((ood / "metrics.json").read_text())


def auroc(ood: Path, target: str, dataset: str) -> float:
    return found(ood)["targets"][target][dataset]["auroc"]["value"]


def sidecar(ood: Path, name: str, facts: dict | None = None, **fingerprint: object) -> None:
    value = {"fingerprint": fingerprint, "facts": facts or {}}
    write_json(ood / f"results_{name}.json", value)


def test_metrics_equal_a_calculation_by_hand(run: Run) -> None:
    ood, arguments = run
    main(arguments)
    tables = {n: pd.read_csv(ood / f"results_{n}.csv") for n in ("val", "in", "far")}
    z = {}
    for name, scores in tables.items():
        by_t = tables["val"].groupby("t")
        z[name] = sum(
            (scores[c] - scores["t"].map(by_t[c].mean())) / scores["t"].map(by_t[c].std())
            for c in ("mse", "perceptual_difference")
        )
        z[name] = z[name].groupby(scores["filename"], sort=False).mean().to_numpy()
    expected = roc_auc_score([0] * 80 + [1] * 60, np.r_[z["in"], z["far"]])
    assert auroc(ood, "both", "far") == pytest.approx(expected, abs=1e-12)

    with open(ood / "decisions_far.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == [f"far/{i},x.png" for i in range(60)]
    p = [(1 + (z["val"] >= s - 1e-12).sum()) / 100 for s in z["far"]]
    assert [float(row["p_value"]) for row in rows] == pytest.approx(p, abs=1e-15)
    assert [row["is_ood"] for row in rows] == [str(int(value <= 0.05)) for value in p]


def test_everything_is_written_and_the_headline_is_first(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    main(arguments)
    result, printed = found(ood), capsys.readouterr().out
    assert list(result["targets"]) == ["both", "mse", "perceptual_difference"]
    assert result["headline"] == "both"
    assert result["num_images"] == {"val": 99, "in": 80, "far": 60, "near": 50}
    assert result["start_points"] == list(T)
    assert result["options"]["target_fpr"] == 0.05
    assert result["warnings"] == []
    values = [auroc(ood, "mse", name) for name in ("far", "near", "(mean)")]
    assert values[2] == pytest.approx((values[0] + values[1]) / 2)
    assert values[0] > 0.7 > 0.65 > values[1]
    decided = pd.read_csv(ood / "decisions_in.csv")
    assert result["realised_fpr"]["value"] == decided["is_ood"].mean()
    assert result["realised_fpr"]["low"] < 0.05 < result["realised_fpr"]["high"]
    assert list(result["detection_rates"]) == ["far", "near"]
    interval = result["targets"]["both"]["far"]["auroc"]
    shown = "{value:.1f} [{low:.1f}, {high:.1f}]".format(
        **{k: 100 * v for k, v in interval.items()}
    )
    assert shown in printed
    assert printed.index("both (headline)") < printed.index("\nmse ")
    for name in ("metrics.json", "metrics.csv", "decisions_in.csv", "decisions_near.csv"):
        assert f"written: {ood / name}" in printed


def test_the_long_form_repeats_the_json(run: Run) -> None:
    ood, arguments = run
    main(arguments)
    long = pd.read_csv(ood / "metrics.csv")
    assert list(long) == [
        "target",
        "dataset",
        "metric",
        "value",
        "low",
        "high",
        "n_in",
        "n_out",
    ]
    assert len(long) == 3 * 3 * 4
    row = long[(long.target == "mse") & (long.dataset == "far") & (long.metric == "fpr95")].iloc[0]
    expected = found(ood)["targets"]["mse"]["far"]["fpr95"]
    assert row[["value", "low", "high"]].to_dict() == expected
    assert (row["n_in"], row["n_out"]) == (80, 60)
    assert long[long.dataset == "(mean)"][["low", "high", "n_out"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("flags", "start_points"),
    [
        (["--max_t=30"], [10, 20, 30]),
        (["--min_t=40"], [40]),
        (["--t_skip=3"], [10, 40]),
        (["--min_t=20", "--t_skip=2"], [20, 40]),
    ],
)
def test_flags_choose_start_points_and_change_the_numbers(
    run: Run, flags: list[str], start_points: list[int]
) -> None:
    ood, arguments = run
    main(arguments)
    everything = auroc(ood, "both", "far")
    main([*arguments, *flags])
    assert found(ood)["start_points"] == start_points
    # The far set differs at t = 40 alone, and the fewer others there are, the clearer.
    selected = auroc(ood, "both", "far")
    assert selected > everything if 40 in start_points else selected < 0.65


def test_out_data_names_the_sets(run: Run) -> None:
    ood, arguments = run
    main([*arguments, "--out_data=near"])
    assert list(found(ood)["targets"]["mse"]) == ["near"]
    with pytest.raises(UserError, match=r"results_nowhere\.csv: no such .* `out_ids`"):
        main([*arguments, "--out_data=near,nowhere"])
    with pytest.raises(UserError, match="`out_data`: found 'in'"):
        main([*arguments, "--out_data=in"])


@pytest.mark.parametrize(
    ("name", "flag", "more"),
    [
        ("val", "validation_ids", []),
        ("in", "in_ids", []),
        ("far", "out_ids", ["--out_data=far"]),
    ],
)
def test_a_missing_table_names_the_command_that_makes_it(
    run: Run, name: str, flag: str, more: list[str]
) -> None:
    ood, arguments = run
    (ood / "results_near.csv").unlink()
    (ood / f"results_{name}.csv").unlink()
    with pytest.raises(UserError, match=rf"made by reconstruct\.py .*`{flag}`"):
        main([*arguments, *more])


def drop_ood_sets(ood: Path) -> None:
    """Leave the tables of the validation and the in-distribution images alone."""
    for path in (*ood.rglob("results_far.*"), *ood.rglob("results_near.*")):
        path.unlink()


def test_without_ood_sets_there_are_the_same_decisions_and_no_metrics(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    main(arguments)
    before, decided = found(ood), (ood / "decisions_in.csv").read_bytes()
    drop_ood_sets(ood)
    capsys.readouterr()
    main(arguments)
    result, printed = found(ood), capsys.readouterr().out
    assert (ood / "decisions_in.csv").read_bytes() == decided
    for key in ("headline", "threshold", "realised_fpr", "target_fpr", "start_points"):
        assert result[key] == before[key]
    assert result["num_images"] == {"val": 99, "in": 80}
    assert result["targets"] == {"both": {}, "mse": {}, "perceptual_difference": {}}
    assert result["detection_rates"] == {}
    assert "auroc" not in (ood / "metrics.json").read_text()
    table = pd.read_csv(ood / "metrics.csv")
    assert (len(table), list(table)[:3]) == (0, ["target", "dataset", "metric"])
    rate = {key: f"{100 * value:.1f}" for key, value in result["realised_fpr"].items()}
    assert "{value} [{low}, {high}]".format(**rate) in printed
    assert f"{result['threshold']:.4g}" in printed
    assert "AUROC  " not in printed
    assert "nan" not in printed


def test_the_threshold_is_that_of_the_decisions(run: Run) -> None:
    ood, arguments = run
    drop_ood_sets(ood)
    main(arguments)
    decided = pd.read_csv(ood / "decisions_in.csv")
    above = decided["score"] > found(ood)["threshold"]
    assert above.any()
    assert (decided["is_ood"] == above).all()
    assert found(ood)["realised_fpr"]["value"] == above.mean()
    main([*arguments, "--target_fpr=0.005"])  # of 99 images none can be so unusual
    assert found(ood)["threshold"] is None
    assert found(ood)["realised_fpr"]["value"] == 0


def test_validation_images_alone_leave_nothing_to_decide_on(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    drop_ood_sets(ood)
    (ood / "results_in.csv").unlink()
    with pytest.raises(SystemExit) as leaving:
        cli.run(lambda: main(arguments))
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "results_in.csv" in error
    assert "--in_ids" in error


def test_one_score_alone_is_its_own_headline(run: Run) -> None:
    ood, arguments = run
    for file in ood.glob("results_*.csv"):
        write_table(file, pd.read_csv(file).drop(columns="perceptual_difference"))
    main(arguments)
    assert found(ood)["headline"] == "mse"
    assert list(found(ood)["targets"]) == ["mse"]


def test_tables_with_other_scores_or_start_points_are_refused(run: Run) -> None:
    ood, arguments = run
    near = pd.read_csv(ood / "results_near.csv")
    write_table(ood / "results_near.csv", near.drop(columns="mse"))
    with pytest.raises(UserError, match=r"results_near\.csv: found .*perceptual"):
        main(arguments)
    write_table(ood / "results_near.csv", near[near["t"] != 20])
    with pytest.raises(UserError, match=r"results_near\.csv: .* t = 20"):
        main(arguments)


def test_tables_of_different_models_are_refused(run: Run) -> None:
    ood, arguments = run
    for name in ("val", "in", "near"):
        sidecar(ood, name, checkpoint="abc")
    sidecar(ood, "far", checkpoint="def")
    with pytest.raises(UserError, match=r"results_far\.json: found checkpoint 'def', expected"):
        main(arguments)


def test_doubts_are_warnings(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ood, arguments = run
    sidecar(ood, "val", {"native_size": [[28, 28]]})
    sidecar(ood, "in", {"native_size": [[28, 28]]})
    sidecar(ood, "far", {"native_size": [[64, 64], [64, 48]]})
    main([*arguments, "--target_fpr=0.005"])
    near, far, few = found(ood)["warnings"]
    assert "results_near.csv" in near
    assert "64 × 64" in far
    assert "28 × 28" in far
    assert "199" in few
    assert f"warning: {few}" in capsys.readouterr().out
    assert found(ood)["detection_rates"]["far"]["value"] == 0


def test_validation_images_in_the_test_set(run: Run) -> None:
    ood, arguments = run
    test = pd.read_csv(ood / "results_in.csv")
    test["filename"] = test["filename"].replace("in/5,x.png", "val/7,x.png")
    write_table(ood / "results_in.csv", test)
    main(arguments)
    (warning,) = found(ood)["warnings"]
    assert "'val/7,x.png'" in warning
    for name in ("val", "in", "far", "near"):
        sidecar(ood, name, {"split": f"splits/{name}.csv"})
    with pytest.raises(UserError, match=r"results_in\.csv: 'val/7,x\.png'"):
        main(arguments)
    sidecar(ood, "in", {"split": "elsewhere/in.csv"})
    main(arguments)
    assert len(found(ood)["warnings"]) == 1


def test_without_a_bootstrap_the_json_has_null_bounds(run: Run) -> None:
    ood, arguments = run
    main([*arguments, "--n_bootstrap=0"])
    interval = found(ood)["targets"]["both"]["far"]["auroc"]
    assert (interval["low"], interval["high"]) == (None, None)


def test_the_script_runs_without_torch(run: Run) -> None:
    _, arguments = run
    code = (
        "import runpy, sys; sys.argv[0] = 'ood_detection.py';"
        f"runpy.run_path({str(ROOT / 'ood_detection.py')!r}, run_name='__main__');"
        "print('heavy:', sorted({'torch', 'monai', 'sklearn'} & set(sys.modules)))"
    )
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r});"
    done = subprocess.run(
        [sys.executable, "-c", path + code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "both (headline)" in done.stdout
    assert "heavy: []" in done.stdout


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r});"
    code = f"import runpy; runpy.run_path({str(ROOT / 'ood_detection.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", path + code, f"--output_dir={tmp_path}", "--model_name=none"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def add_method(ood: Path, name: str, calls: int) -> Path:
    """A folder of a method of two columns that shows "far" at every level."""
    folder = ood / name
    folder.mkdir()
    for dataset, kind, num in (("val", "val", 99), ("in", "in", 80), ("far", "out", 60)):
        scores = table(dataset, kind, num, dict.fromkeys(T, 2.5 * (dataset == "far")))
        columns = {"mse": "norm", "perceptual_difference": "trace"}
        write_table(folder / f"results_{dataset}.csv", scores.rename(columns=columns))
        sidecar(folder, dataset, {"calls_per_image": calls}, method=name)
    return folder


def lines_of(printed: str) -> dict[tuple[str, str], list[str]]:
    """The rows of the table of methods, by method and score."""
    rows = [line.split() for line in printed.split("AUROC of every method\n")[1].splitlines()]
    return {(row[0], row[1]): row[2:] for row in rows if len(row) > 2}


def test_all_methods_of_a_run_are_in_one_table(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    main([*arguments, "--heads=gaussian", "--n_bootstrap=0"])
    result, own = found(ood), found(folder)
    assert list(result["targets"]) == ["both", "mse", "perceptual_difference", "gaussian"]
    assert list(own["targets"]) == ["all", "norm", "trace", "gaussian"]
    assert own["num_images"] == {"val": 99, "in": 80, "far": 60}
    assert list(result["methods"]) == ["reconstruction", "geometry"]
    overview = result["methods"]["geometry"]
    assert (overview["headline"], overview["calls_per_image"]) == ("all", 30)
    assert overview["auroc"]["far"] == own["targets"]["all"]["far"]["auroc"]
    assert result["methods"]["reconstruction"]["calls_per_image"] is None
    rows = lines_of(capsys.readouterr().out)
    assert rows["method", "score"] == ["calls/image", "far", "near", "mean"]
    far, gaussian = (
        f"{100 * own['targets'][target]['far']['auroc']['value']:.1f}"
        for target in ("all", "gaussian")
    )
    assert rows["geometry", "all"] == ["30", far, far]
    assert rows["geometry", "gaussian"] == ["30", gaussian, gaussian]
    assert set(rows) >= {("reconstruction", "both"), ("reconstruction", "gaussian")}
    for name in ("metrics.csv", "decisions_in.csv", "decisions_far.csv"):
        assert (folder / name).exists()
    assert len(pd.read_csv(folder / "decisions_far.csv")) == 60


def test_another_method_changes_nothing_of_the_first(run: Run) -> None:
    ood, arguments = run
    main(arguments)
    before, decided = found(ood), (ood / "decisions_far.csv").read_bytes()
    add_method(ood, "geometry", 30)
    main(arguments)
    after = found(ood)
    assert after.pop("methods").keys() - before.pop("methods").keys() == {"geometry"}
    assert after == before
    assert (ood / "decisions_far.csv").read_bytes() == decided


def test_all_methods_of_a_run_without_ood_sets(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    drop_ood_sets(ood)
    main([*arguments, "--heads=gaussian"])
    result, own = found(ood), found(folder)
    assert result["methods"]["geometry"] == {
        "headline": "all",
        "calls_per_image": 30,
        "realised_fpr": own["realised_fpr"],
    }
    printed = capsys.readouterr().out
    rate = {key: f"{100 * value:.1f}" for key, value in own["realised_fpr"].items()}
    shown = "{value} [{low}, {high}]".format(**rate)
    (line,) = (line for line in printed.splitlines() if line.startswith("geometry "))
    assert line.split(maxsplit=3) == ["geometry", "all", "30", shown]


def test_a_method_without_the_ood_sets_of_another(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    drop_ood_sets(folder)
    main([*arguments, "--n_bootstrap=0"])
    assert "auroc" not in found(ood)["methods"]["geometry"]
    assert set(found(ood)["methods"]["reconstruction"]["auroc"]) == {"far", "near", "(mean)"}
    assert lines_of(capsys.readouterr().out)["geometry", "all"] == ["30"]


def test_a_run_of_another_method_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    for file in ood.glob("results_*"):
        file.unlink()
    main([*arguments, "--out_data=far"])
    assert found(ood)["headline"] == found(folder)["headline"] == "all"
    assert list(found(ood)["methods"]) == ["geometry"]
    printed = capsys.readouterr().out
    assert "all (headline)" in printed
    assert f"report: {folder / 'report.html'}" in printed


@pytest.mark.parametrize("method", ["", "geometry"])
def test_a_method_that_lost_its_validation_table_is_missed(run: Run, method: str) -> None:
    ood, arguments = run
    add_method(ood, "geometry", 30)
    (ood / method / "results_val.csv").unlink()
    with pytest.raises(UserError, match=r"results_val\.csv.*`validation_ids`"):
        main(arguments)


def test_a_head_is_not_taken_for_a_column_of_its_name(run: Run) -> None:
    ood, arguments = run
    for path in ood.glob("results_*.csv"):
        write_table(path, read_table(path).rename(columns={"mse": "knn"}))
    main([*arguments, "--n_bootstrap=0"])
    with pytest.raises(UserError, match="two scores of the name knn"):
        main([*arguments, "--heads=knn"])


def test_a_head_that_is_named_twice_is_one(run: Run) -> None:
    ood, arguments = run
    main([*arguments, "--n_bootstrap=0", "--heads=pca,pca"])
    assert list(found(ood)["targets"]) == ["both", "mse", "perceptual_difference", "pca"]


def test_the_primary_score_may_be_any_target_of_any_method(run: Run) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    main([*arguments, "--headline=norm"])
    assert (found(ood)["headline"], found(folder)["headline"]) == ("both", "norm")
    main([*arguments, "--headline=kde", "--heads=kde"])
    assert (found(ood)["headline"], found(folder)["headline"]) == ("kde", "kde")
    with pytest.raises(UserError, match=r"`headline`: found 'nothing', .*both.*trace"):
        main([*arguments, "--headline=nothing"])


def test_a_head_that_is_not_registered_is_refused(run: Run) -> None:
    _, arguments = run
    with pytest.raises(UserError, match=r"--heads.*kde"):
        main([*arguments, "--heads=gaussian,nothing"])


def test_missing_tables_are_found_before_anything_slow_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from diffusion_ood.commands.ood_detection import main\n"
        "try: main(sys.argv[1:])\n"
        "except ValueError: print('heavy:', sorted({'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"--output_dir={tmp_path}", "--model_name=none"],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "heavy: []\n"


def test_methods_of_another_checkpoint_or_of_other_images_are_doubted(run: Run) -> None:
    ood, arguments = run
    folder = add_method(ood, "geometry", 30)
    main([*arguments, "--n_bootstrap=0"])
    assert not any("another checkpoint" in text for text in found(folder)["warnings"])
    sidecars = [(ood, "a"), (folder, "b")]
    for place, digest in sidecars:
        for path in place.glob("results_*.csv"):
            content = {"fingerprint": {"checkpoint": digest}, "facts": {}}
            path.with_suffix(".json").write_text(json.dumps(content))
    table = read_table(folder / "results_far.csv")
    write_table(folder / "results_far.csv", table[table["filename"] != table["filename"].iloc[0]])
    main([*arguments, "--n_bootstrap=0"])
    said = found(folder)["warnings"]
    assert sum("another checkpoint" in text for text in said) == 1
    assert sum("images of far" in text for text in said) == 1
    assert not any("images of in" in text for text in said)


@pytest.fixture
def lesions(tmp_path: Path) -> tuple[Path, Path]:
    """Maps of a run that show lesions, and their masks."""
    rng = np.random.default_rng(0)
    maps, masks = tmp_path / "out" / "model" / "maps", tmp_path / "masks"
    maps.mkdir(parents=True)
    masks.mkdir()
    for i in range(6):
        mask = rng.random((8, 8)) < 0.2
        np.save(maps / f"{i}.npy", (rng.normal(size=(8, 8)) + mask).astype(np.float32))
        np.save(masks / f"{i}.npy", mask)
    return maps, masks


def test_maps_are_measured_beside_tables_and_alone(
    run: Run, lesions: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    maps, masks = lesions
    main(arguments)
    assert "pixels" not in found(ood)
    main([*arguments, f"--masks={masks}"])
    beside = found(ood)
    assert beside["targets"]
    assert "AUPRO" in capsys.readouterr().out
    scores = np.concatenate([np.load(maps / f"{i}.npy").ravel() for i in range(6)])
    truth = np.concatenate([np.load(masks / f"{i}.npy").ravel() for i in range(6)])
    auroc_of_pixels = beside["pixels"]["metrics"]["auroc"]
    assert auroc_of_pixels["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert auroc_of_pixels["low"] < auroc_of_pixels["value"] < auroc_of_pixels["high"]
    shutil.rmtree(ood)
    moved = maps.rename(maps.parents[2] / "elsewhere")
    main([*arguments, f"--masks={masks}", f"--maps={moved}"])
    alone = found(ood)
    assert alone["pixels"] == beside["pixels"]
    assert alone.keys() == {"options", "pixels"}


def test_maps_without_masks_or_of_no_folder_are_refused(
    run: Run, lesions: tuple[Path, Path]
) -> None:
    _, arguments = run
    maps, masks = lesions
    with pytest.raises(UserError, match="`masks`"):
        main([*arguments, f"--maps={maps}"])
    maps.rename(maps.with_name("others"))
    with pytest.raises(UserError, match=r"model/maps"):
        main([*arguments, f"--masks={masks}"])


def test_sets_under_covariate_shift_have_false_alarms_and_change_no_other_number(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ood, arguments = run
    main(arguments)
    before, page = found(ood), (ood / "report.html").read_text()
    assert 'id="shifted"' not in page
    capsys.readouterr()
    write_table(ood / "results_scanner.csv", table("scanner", "shifted", 40, {40: 2.5}))
    main(arguments)
    after, page = found(ood), (ood / "report.html").read_text()
    alarms = after.pop("shifted_false_alarms")
    counts = after["num_images"].pop("scanner"), after["num_skipped"].pop("scanner")
    assert after == before
    assert counts == (40, 0)
    decided = pd.read_csv(ood / "decisions_scanner.csv")["is_ood"]
    assert alarms["scanner"]["value"] == pytest.approx(decided.mean())
    assert 0 < alarms["scanner"]["low"] < decided.mean() < alarms["scanner"]["high"]
    assert "scanner" not in (ood / "metrics.csv").read_text()
    assert 'id="shifted-table"' in page
    assert any(line.startswith("scanner ") for line in capsys.readouterr().out.splitlines())
    main([*arguments, "--out_data=far,scanner"])
    assert found(ood)["shifted_false_alarms"] == alarms
    assert set(found(ood)["targets"]["both"]) == {"far"}


def test_sets_of_several_roles_are_refused(run: Run) -> None:
    ood, arguments = run
    mixed = [table("a", "shifted", 20, {}), table("b", "out", 20, {})]
    write_table(ood / "results_near.csv", pd.concat(mixed, ignore_index=True))
    with pytest.raises(UserError, match=r"results_near\.csv: .*shifted"):
        main(arguments)
