"""Folders of images: who goes to which split, and what a patient is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diffusion_ood.data.sources.base import Part
from diffusion_ood.data.sources.image_folder import divide, prepare_folder
from diffusion_ood.data.splits import Split, read_split
from diffusion_ood.errors import UserError


def touch(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def prepared(tmp_path: Path, **options: Any) -> dict[Part, Split]:
    defaults = {"group_by": None, "test_fraction": 0.2, "seed": 0}
    paths = prepare_folder(tmp_path / "in", "S", tmp_path / "out", **{**defaults, **options})
    return {part: read_split(path) for part, path in paths.items()}


def test_images_stay_where_they_are_and_folders_are_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{label}/x/{i}.{s}" for label in "ab" for i in range(25) for s in ("png", "nii.gz")]
    touch(tmp_path / "in", [*names, "a/notes.txt", "b/.hidden.png", ".git/x.png"])
    splits = prepared(tmp_path)
    assert {part: len(split) for part, split in splits.items()} == {
        "train": 76,
        "val": 4,
        "test": 20,
    }
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
    assert "ignored 1 files with .txt" in printed
    assert "S_test.csv: 20 images" in printed


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
    splits = prepared(tmp_path, group_by=pattern)
    patients = [
        {image.split("/")[-1].split("_")[0] for image in split.images} for split in splits.values()
    ]
    assert [len(group) for group in patients] == [15, 1, 4]
    assert set.union(*patients) == {f"p{i}" for i in range(20)}
    assert sum(map(len, splits.values())) == 60


def test_images_beside_sub_folders_have_no_labels(tmp_path: Path) -> None:
    touch(tmp_path / "in", ["a.png", "b/c.png", "b/d.png"])
    splits = prepared(tmp_path)
    assert [len(split) for split in splits.values()] == [1, 1, 1]
    assert splits["train"].labels is None


def test_few_groups_give_one_to_each_part_and_fewer_are_refused(tmp_path: Path) -> None:
    for n in (3, 4):
        parts = divide([str(i) for i in range(n)], 0.9, 0, tmp_path)
        assert sorted(parts.values()).count("train") >= 1
        assert set(parts.values()) == {"train", "val", "test"}
    with pytest.raises(UserError, match=" 2 images"):
        divide(["a", "b"], 0.2, 0, tmp_path)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}/in: "):
        prepared(tmp_path)
    touch(tmp_path / "in", ["p1_a.png", "p2_a.png", "x.png"])
    with pytest.raises(UserError, match=r"x\.png: `group_by`="):
        prepared(tmp_path, group_by=r"p\d")
    with pytest.raises(UserError, match=r"`group_by`.*[(]"):
        prepared(tmp_path, group_by="(")
