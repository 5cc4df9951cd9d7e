"""The report as a file: what it says, that nothing in it is trusted, and that it stays small."""

from __future__ import annotations

import html
import itertools
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.commands import ood_detection
from diffusion_ood.detection.examples import select_examples
from diffusion_ood.detection.table import write_table

MAX_BYTES = 5_000_000
EVIL = "<script>alert(1)</script>.png"  # the name of an image of "far"

NewRun = Callable[..., Path]


def detect(ood: Path, *flags: str) -> str:
    run = ood.parent
    ood_detection.main([f"--output_dir={run.parent}", f"--model_name={run.name}", *flags])
    return (ood / "report.html").read_text()


def text_of(page: str) -> str:
    """What a reader reads, with single spaces."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    text = re.sub(r"<[^>]+>", " ", body.replace("<wbr>", ""))
    return re.sub(r"\s+", " ", html.unescape(text))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text()


def test_every_metric_is_in_the_report_with_its_interval(run: Path, page: str) -> None:
    text = text_of(page)
    found = json.loads((run / "metrics.json").read_text())
    for sets in found["targets"].values():
        for metrics in sets.values():
            for value in metrics.values():
                shown = f"{100 * value['value']:.1f}"
                if value["low"] is not None:
                    shown += f" [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
                assert shown in text
    alarms = pd.read_csv(run / "decisions_in.csv")["is_ood"].sum()
    assert f"{alarms} of 80 in-distribution images" in text


def test_the_images_that_matter_are_shown_with_score_and_p_value(run: Path, page: str) -> None:
    text = text_of(page)
    for name in ("in", "far", "near"):
        decided = pd.read_csv(run / f"decisions_{name}.csv").astype({"is_ood": bool})
        rows = select_examples(decided, 4, is_in=name == "in")
        assert len(rows) >= 8
        for row in rows.itertuples():
            decision = ("OOD" if row.is_ood else "in") + (
                f" {'false alarm' if name == 'in' else 'miss'}" if row.mistake else ""
            )
            shown = f"{row.kind} {row.score:.2f} {row.p_value:.3g} {decision} {row.filename}"
            assert shown in text
    assert page.count("data:image/png;base64,") >= 3 * 8 * 4
    assert "no picture was kept" not in text


def test_the_report_says_how_it_was_made(run: Path, page: str) -> None:
    text = text_of(page)
    for words in (
        "python reconstruct.py --model_name='a b'",
        f"python ood_detection.py --output_dir={run.parents[1]} '--model_name=model <b>'",
        "checkpoint (SHA-256) " + "ab" * 32,
        "seed 7",
        "torch 9.9",
        f"pandas {pd.__version__}",
        "far 60 2 8 × 8 180 2.5 24.00 /data/far.csv",
        "the images of near are stored with 16 × 16 pixels",
    ):
        assert words in text


def test_nothing_that_a_file_is_called_becomes_part_of_the_page(page: str) -> None:
    assert EVIL in text_of(page)
    assert EVIL not in page
    assert "<b>" not in page
    assert len(re.findall(r"<script\b", page)) == 1
    assert not re.search(r"""(?:src|href)=["'](?!data:image/png;base64,|#)""", page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


class Outline(HTMLParser):
    """Ids, references, headings, landmarks, and what each image and table head says of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.unnamed: list[str] = []
        self.lost_heads = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in one element."""
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if found.get("id") else []
        for key in ("aria-labelledby", "for", "data-filters"):
            self.references += [found[key]] if found.get(key) else []
        self.references += [
            value[1:]
            for key, value in found.items()
            if key in ("href", "xlink:href") and value and value.startswith("#")
        ]
        if (tag == "img" and not found.get("alt")) or (
            found.get("role") in ("img", "region") and not found.get("aria-label")
        ):
            self.unnamed.append(self.get_starttag_text() or "")
        self.lost_heads += tag == "th" and found.get("scope") not in ("row", "col")


def test_the_page_can_be_heard_and_walked_through(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.references) <= set(outline.ids)
    assert outline.unnamed == []
    assert outline.lost_heads == 0
    assert outline.tags.count("caption") == outline.tags.count("table") > 4
    for landmark in ("header", "nav", "main", "footer"):
        assert outline.tags.count(landmark) == 1
    headings = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after <= before + 2 for before, after in itertools.pairwise(headings))


def test_the_same_tables_give_the_same_file(
    tmp_path: Path, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    ood = new_run(tmp_path / "m")
    pages = [detect(ood, "--n_bootstrap=20") for _ in range(2)]
    assert pages[0] == pages[1]
    assert "2023-11-14 22:13 UTC" in pages[0]


def test_a_run_of_bare_tables_says_what_is_unknown(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "bare", columns=("mse",))
    for file in (*ood.glob("*.json"), *ood.glob("*.npz"), *ood.glob("*.jsonl")):
        file.unlink()
    text = text_of(detect(ood, "--n_bootstrap=0"))
    assert "far 60 unknown unknown unknown unknown unknown" in text
    assert "The two distances" not in text
    assert "of these images have no picture" in text
    assert " ;" not in text  # where an interval would be


@pytest.mark.parametrize("flags", [["--z_score=0"], ["--target_fpr=0.001"], ["--headline=mse"]])
def test_other_options_have_a_report_too(tmp_path: Path, new_run: NewRun, flags: list[str]) -> None:
    text = text_of(detect(new_run(tmp_path / "m"), "--n_bootstrap=0", *flags))
    assert ("no image can be called OOD" in text) == (flags == ["--target_fpr=0.001"])


def test_a_run_without_ood_sets_has_a_report(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "m")
    for path in (*ood.glob("results_far.*"), *ood.glob("results_near.*")):
        path.unlink()
    page = detect(ood)
    outline, text = Outline(), text_of(page)
    outline.feed(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.references) <= set(outline.ids)
    assert outline.unnamed == []
    assert outline.tags.count("section") == 4  # summary, images, how it was made, terms
    assert outline.tags.count("figure") == 1
    assert outline.tags.count("svg") == 1
    assert {"summary", "in", "made", "terms", "in-images"} <= set(outline.ids)
    assert "metrics" not in outline.ids
    assert "AUROC" not in text
    assert re.search(r"\b(far|near)\b", text) is None
    found = json.loads((ood / "metrics.json").read_text())
    decided = pd.read_csv(ood / "decisions_in.csv").astype({"is_ood": bool})
    alarms = decided["is_ood"].sum()
    rate = {key: f"{100 * value:.1f}" for key, value in found["realised_fpr"].items()}
    shown = "[{low}, {high}]".format(**rate)
    assert f"{rate['value']} % {alarms} of 80 in-distribution images {shown}" in text
    assert f"Threshold {found['threshold']:.2f} " in text
    rows = select_examples(decided, 4, is_in=True)
    assert page.count("data:image/png;base64,") == 4 * len(rows)
    for name in rows["filename"]:
        assert name in text


def test_ten_images_are_enough(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "m")
    for name in ("val", "in", "far", "near"):
        table = pd.read_csv(ood / f"results_{name}.csv")
        write_table(ood / f"results_{name}.csv", table.head(30))
    assert re.search(r"10 validation images.*target_fpr", text_of(detect(ood)))


@pytest.mark.slow
def test_a_hundred_sets_are_drawn_as_far_as_there_is_room(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "m")
    for k in range(100):
        for suffix in ("csv", "json"):
            target = ood / f"results_set{k:02}.{suffix}"
            target.write_bytes((ood / f"results_near.{suffix}").read_bytes())
    page = detect(ood, "--n_bootstrap=0")
    assert "the 16 sets that are hardest" in text_of(page)
    assert "set99" in page
    assert len(page.encode()) < MAX_BYTES


@pytest.mark.slow
def test_a_hundred_thousand_images_make_a_small_report(tmp_path: Path, new_run: NewRun) -> None:
    ood = new_run(tmp_path / "m")
    rng = np.random.default_rng(0)
    num, t = 100_000, (100, 500)
    for name, kind in (("in", "in"), ("far", "out")):
        scores = rng.normal(name == "far", 1, (2, num * len(t)))
        rows = {"filename": np.repeat([f"{name}/{k}.png" for k in range(num)], len(t))}
        rows |= {"type": kind, "t": list(t) * num}
        rows |= {"mse": scores[0], "perceptual_difference": scores[1]}
        write_table(ood / f"results_{name}.csv", pd.DataFrame(rows))
    val = pd.read_csv(ood / "results_in.csv").head(2000)
    val = val.assign(type="val", filename="val/" + val["filename"])
    write_table(ood / "results_val.csv", val)
    begin = time.process_time()
    page = detect(ood, "--out_data=far")
    seconds = time.process_time() - begin
    assert "100,000" in page
    assert len(page.encode()) < MAX_BYTES / 5
    assert seconds < 60
