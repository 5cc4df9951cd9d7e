"""Folders of images: who goes to which split, and what a patient is."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from diffusion_ood.data.sources.base import Part
from diffusion_ood.data.sources.image_folder import list_images, part_of, prepare_folder
from diffusion_ood.data.splits import Split, read_split
from diffusion_ood.errors import UserError

SIZES = {"train": 77, "val": 4, "test": 19}


def touch(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def prepared(tmp_path: Path, **options: Any) -> dict[Part, Split]:
    defaults = {"group_by": None, "test_fraction": 0.2, "seed": 0}
    paths = prepare_folder(tmp_path / "in", "S", tmp_path / "out", **{**defaults, **options})
    return {part: read_split(path) for part, path in paths.items()}


def parts_by_name(splits: Mapping[Part, Split]) -> dict[str, Part]:
    return {image: part for part, split in splits.items() for image in split.images}


def test_images_stay_where_they_are_and_folders_are_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{label}/x/{i}.{s}" for label in "ab" for i in range(25) for s in ("png", "nii.gz")]
    touch(tmp_path / "in", [*names, "a/notes.txt", "b/.hidden.png", ".git/x.png"])
    splits = prepared(tmp_path)
    assert {part: len(split) for part, split in splits.items()} == SIZES
    rows = [
        (split.images[i], split.labels[i], split.image_path(i))
        for split in splits.values()
        for i in range(len(split))
    ]
    assert sorted(image for image, _, _ in rows) == sorted(f"../../in/{name}" for name in names)
    assert all(path.is_file() for _, _, path in rows)
    assert all(image.split("/")[3] == label for image, label, _ in rows)
    for split in splits.values():
        assert list(split.images) == sorted(split.images)
    printed = capsys.readouterr().out
    assert "with .txt (1)" in printed
    assert f"S_test.csv: {SIZES['test']} images" in printed


def test_the_division_depends_on_the_seed_alone(tmp_path: Path) -> None:
    touch(tmp_path / "in", [f"{i}.png" for i in range(50)])
    first = prepared(tmp_path)
    assert first["test"].labels is None
    assert prepared(tmp_path)["test"].images == first["test"].images
    assert prepared(tmp_path, seed=1)["test"].images != first["test"].images


def test_a_set_that_only_tests_has_one_split_of_everything(tmp_path: Path) -> None:
    touch(tmp_path / "in", ["b.png", "a.png"])
    splits = prepared(tmp_path, test_fraction=1)
    assert list(splits) == ["test"]
    assert splits["test"].images == ("../../in/a.png", "../../in/b.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: .*0 images"):
        prepare_folder(tmp_path / "empty", "S", tmp_path, group_by=None, test_fraction=1, seed=0)


@pytest.mark.parametrize("pattern", [r"p(\d+)_", r"p\d+"])
def test_a_patient_is_in_one_split(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path / "in", [f"p{patient}_{i}.png" for patient in range(20) for i in range(3)])
    splits = prepared(tmp_path, group_by=pattern, val_fraction=0.3)
    patients = [
        {image.split("/")[-1].split("_")[0] for image in split.images} for split in splits.values()
    ]
    assert all(patients)
    assert sum(map(len, patients)) == 20
    assert set.union(*patients) == {f"p{i}" for i in range(20)}
    assert sum(map(len, splits.values())) == 60


def test_images_beside_sub_folders_have_no_labels(tmp_path: Path) -> None:
    touch(tmp_path / "in", ["a.png", "b/c.png", "b/d.png"])
    splits = prepared(tmp_path, test_fraction=1)
    assert len(splits["test"]) == 3
    assert splits["test"].labels is None


def test_adding_and_removing_images_moves_no_other(tmp_path: Path) -> None:
    touch(tmp_path / "in", [f"{i}.png" for i in range(100)])
    before = parts_by_name(prepared(tmp_path))
    touch(tmp_path / "in", [f"{i}.png" for i in range(100, 150)])
    (tmp_path / "in" / "7.png").unlink()
    after = parts_by_name(prepared(tmp_path))
    assert len(after) == 149
    assert all(after[name] == part for name, part in before.items() if name in after)


def test_the_shares_are_those_asked_for_in_the_long_run(tmp_path: Path) -> None:
    parts = Counter(part_of(f"{i}.png", 2, 0.2, 0.1) for i in range(10_000))
    assert parts["test"] == pytest.approx(2_000, abs=160)  # four standard deviations
    assert parts["val"] == pytest.approx(800, abs=110)
    assert part_of("caf\u00e9", 2, 0.2, 0.1) == part_of("cafe\u0301", 2, 0.2, 0.1)


def test_a_part_without_images_is_refused_with_a_seed_that_has_some(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(4)]
    touch(tmp_path / "in", names)
    with pytest.raises(UserError, match=r"`seed` 0 .* val; give `seed`=\d+") as caught:
        prepared(tmp_path, seed=0)
    better = int(str(caught.value).split("`seed`=")[1].split(",")[0])
    splits = prepared(tmp_path, seed=better)
    assert set(splits) == {"train", "val", "test"}
    assert sum(map(len, splits.values())) == 4
    for name in names[2:]:
        (tmp_path / "in" / name).unlink()
    with pytest.raises(UserError, match=" 2 images"):
        prepared(tmp_path)


def test_links_are_followed_and_what_is_left_out_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, ["elsewhere/b/1.png", "in/a/0.png", "in/a/x.dcm", "in/a/y.dcm", "in/README"])
    touch(tmp_path, ["in/.git/z.png", "in/a/.z.png", "one.png"])
    (tmp_path / "in/b").symlink_to("../elsewhere/b")
    (tmp_path / "in/b/2.png").symlink_to("../../one.png")
    (tmp_path / "in/a/gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "in/a/pipe.png")
    images, left_out = list_images(tmp_path / "in")
    assert images == ["a/0.png", "b/1.png", "b/2.png"]
    assert left_out == {
        "with .dcm": 2,
        "without a suffix": 1,
        "hidden files": 1,
        "hidden folders": 1,
        "links to nothing": 1,
        "pipes or devices": 1,
    }
    prepared(tmp_path, test_fraction=1)
    assert "with .dcm (2)" in capsys.readouterr().out


@pytest.mark.parametrize("target", [".", "..", "a", "a/0.png"])
def test_what_links_make_appear_twice_is_refused(tmp_path: Path, target: str) -> None:
    touch(tmp_path / "in", ["a/0.png", "b/1.png"])
    (tmp_path / "in/b/link.png").symlink_to(tmp_path / "in" / target)
    with pytest.raises(UserError, match="the same as"):
        list_images(tmp_path / "in")


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    touch(tmp_path / "in", ["a.dcm", "b.dcm"])
    with pytest.raises(UserError, match=r"in: .*0 images.*with \.dcm"):
        prepared(tmp_path)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}/in: "):
        prepared(tmp_path)
    touch(tmp_path / "in", ["p1_a.png", "p2_a.png", "x.png"])
    with pytest.raises(UserError, match=r"x\.png: `group_by`="):
        prepared(tmp_path, group_by=r"p\d")
    with pytest.raises(UserError, match=r"`group_by`.*[(]"):
        prepared(tmp_path, group_by="(")
