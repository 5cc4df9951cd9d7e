"""Methods that share their calls, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gaussian import gaussian_diffusion
from PIL import Image

from diffusion_ood.commands import ood_detection
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.methods.joined import joined
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import READ
from diffusion_ood.registries import METHODS

Command = Callable[..., Path]
NAMES = ("denoising", "features", "score_geometry")


@pytest.fixture
def flags(splits: Path, tmp_path: Path) -> list[str]:
    """Three methods, and 24 images to learn from."""
    names = [
        f"{splits}/{name}"
        for part in ("A_train", "A_more")
        for name in read_split(splits / f"{part}.csv").images
    ]
    write_split(tmp_path / "reference.csv", names)
    return [
        f"--methods={','.join(NAMES)}",
        f"--reference_ids={tmp_path / 'reference.csv'}",
        "--num_levels=3",
    ]


def tables(ood: Path, name: str = "in") -> dict[str, pd.DataFrame]:
    return {method: pd.read_csv(ood / method / f"results_{name}.csv") for method in NAMES}


def test_they_share_their_calls_and_have_a_table_each(
    score: Command, run_dir: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ood = score(run_dir, *flags)
    assert "together they take 19 calls in place of 22" in capsys.readouterr().out
    found = tables(ood)
    assert [len(found[name]) for name in NAMES] == [6 * 3, 6, 6 * 3]
    assert np.isfinite(found["features"].select_dtypes("number")).all(axis=None)
    ood_detection.main(
        [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    )
    assert json.loads((ood / "metrics.json").read_text())["methods"].keys() == {*NAMES, "joined"}


def test_a_table_that_is_missing_is_made_alone_with_the_same_numbers(
    score: Command, run_dir: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = tables(score(run_dir, *flags))
    (run_dir / "ood" / "denoising" / "results_in.csv").unlink()
    (run_dir / "ood" / "denoising" / "results_in.json").unlink()
    capsys.readouterr()
    found = tables(score(run_dir, *flags, "--batch_size=1"))
    printed = capsys.readouterr().out
    assert "in, score_geometry: 6 of 6 images were done" in printed
    assert "learned from" not in printed
    for name in NAMES:
        pd.testing.assert_frame_equal(found[name], expected[name], rtol=1e-4)


def test_other_images_to_learn_from_are_other_numbers(
    score: Command, run_dir: Path, flags: list[str]
) -> None:
    score(run_dir, *flags)
    with pytest.raises(UserError, match=r"results_val\.json: .*learned"):
        score(run_dir, *flags, "--first_n_reference=23")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--first_n_reference=19"], "`first_n_reference`: found 19, expected at least 20"),
        (["--num_levels=1001"], "`num_levels`: found 1001"),
    ],
)
def test_what_cannot_be_is_refused(
    score: Command, run_dir: Path, flags: list[str], more: list[str], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        score(run_dir, *flags, *more)


def test_features_need_images_to_learn_from(score: Command, run_dir: Path) -> None:
    with pytest.raises(UserError, match=r"`methods` features: .*`reference_ids`"):
        score(run_dir, "--methods=features")


@pytest.mark.parametrize(
    ("flag", "methods"),
    [
        ("--num_levels=3", "reconstruction"),
        ("--num_levels=3", "features,diffood"),
        ("--first_n_reference=30", "denoising"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    score: Command, run_dir: Path, flag: str, methods: str
) -> None:
    name = flag.removeprefix("--").split("=")[0]
    with pytest.raises(UserError, match=f"^`{name}`: "):
        score(run_dir, flag, f"--methods={methods}")


class Recorded:
    """Options that remember which of them were read."""

    def __init__(self, options: ReconstructOptions) -> None:
        self.options, self.read = options, set[str]()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(self.options, name)


@pytest.mark.parametrize("name", sorted(set(READ) - {"reconstruction", "diffood"}))
def test_what_a_method_reads_is_known_to_the_command_line(name: str) -> None:
    found = Recorded(ReconstructOptions(scores=("mse",)))
    joined(found) if name == "joined" else METHODS[name].from_options(found)
    of_the_command = {"reference_ids", "first_n_reference", "save_images", "report_images"}
    # Neither has noise; its seed is that of the calls that it could share.
    unused = {"seed"} if name in ("path", "autoencoder") else set()
    # Without LPIPS among the scores nobody asks for its weights.
    weights = {"lpips_weights"}
    assert found.read - unused - weights == set(READ[name]) - of_the_command - weights


def test_every_method_says_what_it_reads() -> None:
    assert set(READ) == {*METHODS, "joined"}


@pytest.mark.parametrize(
    ("budget", "draws", "columns"),
    [(1, 1, 1), (3, 3, 1), (10, 5, 2), (30, 5, 4), (100, 16, 4), (400, 64, 4)],
)
def test_joined_evidence_costs_no_more_than_its_budget(
    budget: int, draws: int, columns: int
) -> None:
    options = ReconstructOptions(methods=("joined",), budget=budget, scores=("mse",))
    methods = joined(options)
    diffusion = gaussian_diffusion()
    assert 0.8 * budget <= shared_calls(methods, diffusion) <= budget
    geometry = methods[1]
    assert len(geometry.draws(diffusion)) == draws
    assert len(geometry.columns) == columns


def test_joined_evidence_is_the_headline(score: Command, run_dir: Path, flags: list[str]) -> None:
    flags = [flag for flag in flags if not flag.startswith(("--methods", "--num_levels"))]
    ood = score(run_dir, *flags, "--methods=reconstruction,joined")
    names = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=50"]
    ood_detection.main(names)
    found = json.loads((ood / "metrics.json").read_text())
    assert found["headline"] == "joined"
    assert found["methods"]["joined"]["calls_per_image"] == 30
    assert set(found["targets"]) > {"joined", "reconstruction (mse)", "features (all)"}
    decided = pd.read_csv(ood / "joined" / "decisions_in.csv")
    assert list(decided) == ["filename", "score", "p_value", "is_ood"]
    assert len(decided) == 6
    assert "joined (primary)" in (ood / "joined" / "report.html").read_text()
    ood_detection.main([*names, "--heads=knn"])  # which joined evidence has none of
    ood_detection.main([*names, "--headline=mse"])
    assert json.loads((ood / "metrics.json").read_text())["headline"] == "mse"


def test_what_joined_evidence_has_already_is_not_measured_twice() -> None:
    with pytest.raises(UserError, match="`methods`: found denoising"):
        ReconstructOptions(methods=("joined", "denoising"))


def test_what_is_doubtful_about_its_tables_is_doubtful_about_joined_evidence(
    score: Command, run_dir: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ood = score(run_dir, *flags)
    path = ood / "denoising" / "results_in.csv"
    table = pd.read_csv(path)
    table.assign(mse=table["mse"] * 1.5).to_csv(path, index=False)
    capsys.readouterr()
    ood_detection.main(
        [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    )
    changed = "results_in.csv is not the table that results_in.json describes"
    assert capsys.readouterr().out.count(changed) == 1
    assert changed in (ood / "joined" / "report.html").read_text()


def test_a_set_that_one_method_lacks_and_a_set_of_one_image(
    score: Command, run_dir: Path, splits: Path, flags: list[str], tmp_path: Path
) -> None:
    one = read_split(splits / "B_test.csv").first(1)
    write_split(tmp_path / "One.csv", [str(one.image_path(0))])
    ood = score(run_dir, *flags, f"--out_ids={splits / 'B_test.csv'},{tmp_path / 'One.csv'}")
    names = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    ood_detection.main(names)
    found = json.loads((ood / "metrics.json").read_text())
    assert found["headline"] == "joined"
    assert set(found["targets"]["joined"]) == {"B", "One", "(mean)"}
    for path in (ood / "features").glob("results_One.*"):
        path.unlink()
    ood_detection.main(names)
    found = json.loads((ood / "metrics.json").read_text())
    assert set(found["targets"]["joined"]) == {"B"}


def test_joined_evidence_decides_without_ood_sets(
    score: Command, run_dir: Path, splits: Path, flags: list[str]
) -> None:
    ood = score(run_dir, *flags)
    names = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    ood_detection.main(names)
    before = json.loads((ood / "metrics.json").read_text())
    decided = (ood / "joined" / "decisions_in.csv").read_bytes()
    for path in (*(ood / "features").glob("results_B.*"), *(ood / "denoising").glob("results_B.*")):
        path.unlink()
    ood_detection.main(names)  # one method has an OOD set, which the others have not
    assert "joined" not in json.loads((ood / "metrics.json").read_text())["methods"]
    for path in (ood / "score_geometry").glob("results_B.*"):
        path.unlink()
    ood_detection.main(names)
    found = json.loads((ood / "metrics.json").read_text())
    assert found["headline"] == "joined"
    assert found["num_images"] == {"val": 6, "in": 6}
    for key in ("threshold", "realised_fpr"):
        assert found[key] == before[key]
    assert (ood / "joined" / "decisions_in.csv").read_bytes() == decided
    assert set(found["targets"]) == set(before["targets"])
    assert not any(found["targets"].values())
    assert found["methods"].keys() == {*NAMES, "joined"}
    assert "<h1>" in (ood / "joined" / "report.html").read_text()


def test_what_cannot_be_joined_is_not_the_headline(
    score: Command, run_dir: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ood = score(run_dir, *flags)
    names = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", "--n_bootstrap=0"]
    ood_detection.main(names)
    with pytest.raises(UserError, match="`headline` joined"):
        ood_detection.main([*names, "--headline=joined", "--no-z_score"])
    capsys.readouterr()
    ood_detection.main([*names, "--no-z_score"])
    assert f"warning: {ood / 'joined'} is of an earlier run" in capsys.readouterr().out


def test_images_to_learn_from_have_the_size_of_the_model(
    score: Command, run_dir: Path, flags: list[str], tmp_path: Path
) -> None:
    write_split(tmp_path / "large.csv", ["large.png"])
    Image.new("L", (16, 16)).save(tmp_path / "large.png")
    flags = [flag for flag in flags if not flag.startswith("--reference_ids")]
    with pytest.raises(UserError, match=r"large\.csv: found images of \(1, 16, 16\)"):
        score(run_dir, *flags, f"--reference_ids={tmp_path / 'large.csv'}")
