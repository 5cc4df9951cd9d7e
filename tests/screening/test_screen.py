"""`diffusion-ood screen`: decisions on whatever comes, kept whatever happens."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ramps import JOINED, noise, ramps, write

from diffusion_ood import Detector, Diffusion
from diffusion_ood.calibration.fdr import benjamini_hochberg
from diffusion_ood.commands import screen
from diffusion_ood.errors import UserError
from diffusion_ood.screening import run
from diffusion_ood.screening.decisions import HEADER
from diffusion_ood.screening.inputs import gather

Rows = list[dict[str, str]]


def rows(path: Path) -> Rows:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(detector: Path, *argv: object) -> None:
    screen.main([str(detector), *map(str, argv), "--device=cpu"])


def test_every_image_has_a_row(detector_file: Path, folder: Path, tmp_path: Path) -> None:
    call(detector_file, folder, f"--output={tmp_path / 'out'}")
    found = rows(tmp_path / "out" / "decisions.csv")
    assert tuple(found[0]) == HEADER
    assert sorted(row["file"] for row in found) == sorted(map(str, folder.rglob("*.png")))
    scored = [row for row in found if row["score"]]
    (lost,) = [row for row in found if row["reason"]]
    assert "p99_broken.png" in lost["reason"]
    assert [row["is_ood"] for row in scored if "q0" in row["file"]] == ["True"] * 8
    detector = Detector.load(detector_file, "cpu")
    expected = detector.score([Path(row["file"]) for row in scored])
    np.testing.assert_allclose([float(row["score"]) for row in scored], expected.score, atol=1e-6)
    np.testing.assert_array_equal([float(row["p_value"]) for row in scored], expected.p_value)
    assert [row["loudest"] for row in scored] == expected.loudest
    assert [row["content"] for row in scored] == expected.keys
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 2 * 24
    assert "p99_broken.png" in report


def test_a_run_that_was_cut_off_goes_on(
    detector_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the file was torn, whole rows are kept and the others are made again, equal."""
    out = tmp_path / "out"
    call(detector_file, folder, f"--output={out}", "--report_images=0")
    path = out / "decisions.csv"
    whole = path.read_bytes()
    values = [{**row, "milliseconds": ""} for row in rows(path)]
    measured: list[int] = []
    measure = Detector.measure

    def counting(self: Detector, pixels: np.ndarray, **options: bool) -> object:
        measured.append(len(pixels))
        return measure(self, pixels, **options)

    monkeypatch.setattr(Detector, "measure", counting)
    for share in (1.0, 0.6, 0.3, 0.01):
        torn = whole[: int(share * len(whole))]
        path.write_bytes(torn)
        measured.clear()
        call(detector_file, folder, f"--output={out}", "--report_images=0")
        assert [{**row, "milliseconds": ""} for row in rows(path)] == values
        kept = sum(
            b",,,,," not in line
            for line in torn.splitlines(keepends=True)[1:]
            if line.endswith(b"\n")
        )
        assert sum(measured) == 44 - kept


def test_a_changed_image_is_decided_again(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call(detector_file, folder, f"--output={out}", "--report_images=0")
    changed = folder / "p00_0.png"
    Image.fromarray(noise(1, 9)[0]).save(changed)
    call(detector_file, folder, f"--output={out}", "--report_images=0")
    verdicts = {row["file"]: row["is_ood"] for row in rows(out / "decisions.csv")}
    assert verdicts[str(changed)] == "True"


def test_decisions_on_other_images_are_kept_aside(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call(detector_file, folder, f"--output={out}", "--report_images=0")
    call(detector_file, folder / "more", f"--output={out}", "--report_images=0")
    assert len(rows(out / "decisions.csv")) == 8
    assert len(rows(out / "earlier.csv")) == 36


def test_another_detector_is_refused(
    detector_file: Path, folder: Path, tmp_path: Path, diffusion: Diffusion
) -> None:
    out = tmp_path / "out"
    call(detector_file, folder / "more", f"--output={out}", "--report_images=0")
    other = tmp_path / "other.detector"
    Detector.fit(diffusion, ramps(20, 5), options=JOINED, device="cpu").save(other)
    with pytest.raises(UserError, match="output"):
        call(other, folder / "more", f"--output={out}")


def test_lines_of_json_and_the_exit_code(
    detector_file: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(detector_file, folder, "--json", "--exit_code")
    assert ended.value.code == 3
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 45
    assert sum("reason" in line for line in found) == 1
    assert sum(line.get("is_ood", False) for line in found) >= 8
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    usual = folder / "p01_1.png"
    call(detector_file, usual, "--json", "--exit_code")
    assert not json.loads(capsys.readouterr().out)["is_ood"]


def test_false_discoveries_are_bounded_over_the_batch(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    call(detector_file, folder, f"--output={tmp_path / 'out'}", "--fdr=0.3")
    found = [row for row in rows(tmp_path / "out" / "decisions.csv") if row["score"]]
    p = [float(row["p_value"]) for row in found]
    expected = benjamini_hochberg(p, 0.3)
    assert [row["is_ood"] == "True" for row in found] == expected.tolist()
    assert expected.sum() >= 8


def test_a_group_has_one_decision(detector_file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(detector_file, folder, f"--output={out}", r"--group_by=([pq]\d\d)_")
    found = rows(out / "groups.csv")
    assert [row["group"] for row in found] == [*(f"p{k:02}" for k in range(9)), "q00", "q01"]
    assert {row["num_images"] for row in found} == {"4"}
    assert [float(row["p_value"]) for row in found[-2:]] == [1 / 21, 1 / 21]
    assert "groups.csv" in (out / "report.html").read_text()


def test_groups_need_names_of_validation_images(
    folder: Path, tmp_path: Path, diffusion: Diffusion
) -> None:
    nameless = tmp_path / "nameless.detector"
    Detector.fit(diffusion, ramps(20, 5), options=JOINED, device="cpu").save(nameless)
    with pytest.raises(UserError, match="group_by"):
        call(nameless, folder / "more", f"--output={tmp_path / 'out'}", r"--group_by=(q\d\d)")


def test_a_stream_that_turns_is_noticed(
    detector_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = tmp_path / "stream.json"
    days, counts = [ramps(30, 11), ramps(30, 12), noise(30, 13)], []
    for day, images in enumerate(days):
        folder = tmp_path / f"day{day}"
        write(folder, [*images], "x{}_{}", 10)
        argv = [folder, f"--output={tmp_path / 'out' / str(day)}", f"--monitor={stream}"]
        argv += [f"--report_images={day}"]
        call(detector_file, *argv)
        call(detector_file, *argv)  # a second time adds nothing
        state = json.loads(stream.read_text())
        counts.append(len(np.unique(np.concatenate(days[: day + 1]), axis=0)))  # some are equal
        assert len(state["values"]) == counts[-1]
    assert max(state["values"][: counts[1]]) < np.log10(20) < max(state["values"])
    assert "drifted" in (tmp_path / "out" / "2" / "report.html").read_text()


def test_maps_are_arrays_and_pictures(detector_file: Path, folder: Path, tmp_path: Path) -> None:
    call(detector_file, folder, f"--output={tmp_path / 'out'}", f"--maps={tmp_path / 'maps'}")
    maps = {p.name: np.load(p) for p in (tmp_path / "maps").rglob("*.npy")}
    assert len(maps) == len([*(tmp_path / "maps").rglob("*.png")]) == 44
    assert {of_image.shape for of_image in maps.values()} == {(8, 8)}
    odd = np.mean([of_image.mean() for name, of_image in maps.items() if name.startswith("q")])
    usual = np.mean([of_image.mean() for name, of_image in maps.items() if name.startswith("p")])
    assert odd > 2 * usual
    assert (tmp_path / "maps" / "more" / "q00_0.png.npy").exists()


def test_splits_and_flipped_ones_are_screened(
    detector_file: Path, splits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    argv = [splits / "A_test.csv", splits / "A_vflip_test.csv", splits / "A_test" / "0.png"]
    call(detector_file, *argv, f"--output={out}", "--report_images=0")
    found = rows(out / "decisions.csv")
    assert len(found) == 12  # the last one is of the first split
    scores = [float(row["score"]) for row in found]
    assert min(scores[6:]) > max(scores[:6])


@pytest.mark.parametrize(
    "place", ["nothing_here", "empty"], ids=["missing", "a folder without images"]
)
def test_no_image_at_all_is_refused(detector_file: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=place):
        call(detector_file, tmp_path / place)


def test_two_processes_decide_as_one(
    detector_file: Path, folder: Path, tmp_path: Path, launch: Callable[..., list]
) -> None:
    call(detector_file, folder, f"--output={tmp_path / 'one'}", "--report_images=0")
    script = tmp_path / "screen.py"
    script.write_text("from diffusion_ood.commands import screen\nscreen.main()\n")
    done = launch(
        str(script), str(detector_file), str(folder), f"--output={tmp_path / 'two'}",
        "--device=cpu", "--report_images=0", processes=2,
    )  # fmt: skip
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    one, two = (rows(tmp_path / name / "decisions.csv") for name in ("one", "two"))
    assert [row["file"] for row in one] == [row["file"] for row in two]
    for name in ("score", "p_value"):
        a, b = ([float(row[name] or 0) for row in found] for found in (one, two))
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not (tmp_path / "two" / "parts").exists() or not [
        *(tmp_path / "two" / "parts").iterdir()
    ]


def test_decisions_come_while_it_runs(detector_file: Path, folder: Path) -> None:
    seen: list[int] = []
    detector = Detector.load(detector_file, "cpu")
    run.screen(detector, gather([folder]), None, seen=lambda made: seen.append(len(made)))
    assert seen == [16, 16, 13]


def test_a_name_with_a_carriage_return_is_a_row(detector_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "in", [*ramps(2, 3)], "a\r{}\n{}", 1)
    for _ in range(2):
        call(detector_file, tmp_path / "in", f"--output={tmp_path / 'out'}", "--report_images=0")
        assert len(rows(tmp_path / "out" / "decisions.csv")) == 2


def test_results_are_neither_screened_nor_do_they_replace_files(
    detector_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for _ in range(2):
        call(detector_file, ".", "--maps=maps", "--report_images=0")
        assert len(rows(folder / "screening" / "decisions.csv")) == 45
    with pytest.raises(UserError, match="maps"):
        call(detector_file, ".", "--maps=.")
    own = tmp_path / "own"
    own.mkdir()
    (own / ".notes.tmp").write_text("precious")
    call(detector_file, folder / "more", f"--output={own}", "--report_images=0")
    assert (own / ".notes.tmp").read_text() == "precious"
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.html").write_text("another")
    with pytest.raises(UserError, match=r"report\.html"):
        call(detector_file, folder / "more", f"--output={other}")


@pytest.mark.parametrize("flag", ["--group_by=(zzz)", "--monitor=torn.json"])
def test_what_cannot_work_is_refused_before_an_image_is_measured(
    detector_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.json").write_text("{")
    monkeypatch.setattr(Detector, "measure", None)
    with pytest.raises(UserError):
        call(detector_file, folder, "--output=out", flag)


def test_simultaneous_runs_all_reach_the_stream(
    detector_file: Path, tmp_path: Path, launch: Callable[..., list]
) -> None:
    script = tmp_path / "screen.py"
    script.write_text("from diffusion_ood.commands import screen\nscreen.main()\n")
    images = write(tmp_path / "in", [*noise(3, 3)], "{}_{}", 1)

    def run_one(k: int) -> int:
        argv = (f"--output={tmp_path / str(k)}", f"--monitor={tmp_path / 's.json'}")
        (done,) = launch(str(script), str(detector_file), str(images[k]), *argv, "--device=cpu")
        return done.returncode

    with ThreadPoolExecutor(3) as threads:
        assert [*threads.map(run_one, range(3))] == [0, 0, 0]
    assert len(json.loads((tmp_path / "s.json").read_text())["values"]) == 3


def test_a_leftover_of_a_killed_process_does_not_outlive_a_newer_decision(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    out, changed, broken = tmp_path / "out", folder / "p00_0.png", folder / "p00_1.png"
    argv = (folder, f"--output={out}", "--report_images=0")
    call(detector_file, *argv)
    (out / "parts").mkdir()
    (out / "decisions.csv").rename(out / "parts" / "decisions.1.csv")
    Image.fromarray(noise(1, 9)[0]).save(changed)
    broken.write_bytes(b"no image")
    call(detector_file, *argv)
    found = {row["file"]: row for row in rows(out / "decisions.csv")}
    assert found[str(changed)]["is_ood"] == "True"
    assert found[str(broken)]["score"] == ""
    assert not [*(out / "parts").iterdir()]


def test_groups_of_an_earlier_run_do_not_stay(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    argv = (folder, f"--output={tmp_path / 'out'}", "--report_images=0")
    call(detector_file, *argv, r"--group_by=([pq]\d\d)_")
    call(detector_file, *argv)
    assert not (tmp_path / "out" / "groups.csv").exists()


def test_a_table_of_parquet_has_types_and_is_gone_on_with(
    detector_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    words = [folder, f"--output={tmp_path / 'out'}", "--report_images=0"]
    table, csv_table = tmp_path / "out" / "decisions.parquet", tmp_path / "out" / "decisions.csv"
    call(detector_file, *words, "--table=parquet")
    assert not csv_table.exists()
    found = parquet.read_table(table)
    kinds = dict.fromkeys(HEADER, "string") | {"is_ood": "bool"}
    kinds |= dict.fromkeys(("score", "p_value", "milliseconds"), "double")
    assert {field.name: str(field.type) for field in found.schema} == kinds
    monkeypatch.setattr(Detector, "measure", None)
    call(detector_file, *words, "--table=csv")
    assert not table.exists()
    as_text = [["" if v is None else str(v) for v in row.values()] for row in found.to_pylist()]
    assert [list(row.values()) for row in rows(csv_table)] == as_text
    table.write_bytes(b"PAR1, but no more")
    with pytest.raises(UserError, match=r"decisions\.parquet"):
        call(detector_file, *words)
