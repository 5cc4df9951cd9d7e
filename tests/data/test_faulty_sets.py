"""Sets of a split's images with faults: independent of order and of others, resumable, in kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.native_files import open_native
from diffusion_ood.data.sources.faulty import make_faulty_sets
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.registries import FAULTS

OF_PAIRS = ("foreign_patch", "lesions")
NAMES = [f"scans/p{i}/{i}.png" for i in range(5)]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A split of five grey images of 28 by 34, with labels."""
    rng = np.random.default_rng(1)
    for name in NAMES:
        image = np.kron(rng.integers(20, 230, (7, 17)), np.ones((4, 2))).astype(np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        Image.fromarray(image).save(path)
    path = tmp_path / "splits" / "Scans_test.csv"
    write_split(path, [f"../{name}" for name in NAMES], list("abcab"))
    return path


def made(split: Path, root: Path, *faults: str, seed: int = 2, **options: int) -> dict[str, bytes]:
    """The bytes of every image of the sets, by set and path."""
    severity = options.pop("severity", 3)
    splits = make_faulty_sets(split, root, faults, severity=severity, seed=seed, **options)
    found = {}
    for name, path in splits.items():
        images = read_split(path)
        for index in range(len(images)):
            key = images.images[index].removeprefix(f"../{name}/")
            found[f"{name}/{key}"] = images.image_path(index).read_bytes()
    return found


def test_a_set_is_a_split_with_the_labels_and_the_kind_of_the_originals(
    split: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    splits = make_faulty_sets(split, root, list(FAULTS), severity=2, seed=2, num_workers=2)
    assert list(splits) == [f"Scans_test_{name}2" for name in FAULTS]
    for name, path in splits.items():
        assert path == root / "data_splits" / f"{name}.csv"
        images = read_split(path)
        assert images.name == name
        assert images.images == tuple(f"../{name}/{image}" for image in NAMES)
        assert images.labels == ("a", "b", "c", "a", "b")
        for index, image in enumerate(NAMES):
            original = np.asarray(Image.open(tmp_path / image))
            with Image.open(images.image_path(index)) as changed:
                assert (changed.format, changed.mode, changed.size) == ("PNG", "L", (34, 28))
                assert (np.asarray(changed) != original).any()


def test_an_image_does_not_depend_on_order_others_processes_or_the_run(
    split: Path, tmp_path: Path
) -> None:
    faults = [name for name in FAULTS if name not in OF_PAIRS]
    whole = made(split, tmp_path / "a", *faults)
    assert whole == made(split, tmp_path / "b", *faults, num_workers=2)
    write_split(split, [f"../{NAMES[i]}" for i in (3, 1)])
    part = made(split, tmp_path / "c", *faults)
    assert len(part) == 2 * len(faults)
    assert part.items() <= whole.items()
    other = made(split, tmp_path / "d", "noise", seed=3)
    assert all(other[name] != part[name] for name in other)


@pytest.mark.parametrize("fault", OF_PAIRS)
def test_a_patch_does_not_depend_on_the_order_or_the_count(
    split: Path, tmp_path: Path, fault: str
) -> None:
    whole = made(split, tmp_path / "a", fault)
    assert made(split, tmp_path / "b", fault, first_n=2).items() <= whole.items()
    write_split(split, [f"../{name}" for name in reversed(NAMES)])
    assert made(split, tmp_path / "c", fault) == whole
    left = [f"../{name}" for name in NAMES[1:]]
    write_split(split, left)
    fewer = made(split, tmp_path / "d", fault)
    assert sum(fewer[name] != whole[name] for name in fewer) <= 1


def test_first_n_takes_the_first(split: Path, tmp_path: Path) -> None:
    found = made(split, tmp_path, "box", first_n=2)
    assert list(found) == [f"Scans_test_box3/{name}" for name in NAMES[:2]]
    assert len(made(split, tmp_path, "box", first_n=9)) == 5


def test_what_is_complete_is_left_alone(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(split, tmp_path, "noise")
    files = sorted(path for path in (tmp_path / "Scans_test_noise3").rglob("*") if path.is_file())
    files.append(tmp_path / "data_splits" / "Scans_test_noise3.csv")
    times = [path.stat().st_mtime_ns for path in files]
    assert made(split, tmp_path, "noise") == first
    assert [path.stat().st_mtime_ns for path in files] == times
    assert "nothing to do" in capsys.readouterr().out


def test_what_is_missing_or_made_from_other_content_is_written(split: Path, tmp_path: Path) -> None:
    first = made(split, tmp_path, "noise")
    folder = tmp_path / "Scans_test_noise3"
    (folder / NAMES[0]).unlink()
    kept = (folder / NAMES[1]).stat().st_mtime_ns
    assert made(split, tmp_path, "noise") == first
    Image.new("L", (34, 28), 128).save(tmp_path / NAMES[2])
    changed = made(split, tmp_path, "noise")
    assert [name for name in first if first[name] != changed[name]] == [
        f"Scans_test_noise3/{NAMES[2]}"
    ]
    assert (folder / NAMES[1]).stat().st_mtime_ns == kept
    assert made(split, tmp_path, "noise", seed=3).keys() == first.keys()
    assert made(split, tmp_path, "noise") == changed


def test_a_run_that_was_cut_off_goes_on(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(split, tmp_path / "a", "blur")
    encode = []

    def cut_off(path: Path) -> object:
        if len(encode) == 3:
            raise KeyboardInterrupt
        encode.append(path)
        return open_native(path)

    with monkeypatch.context() as patch:
        patch.setattr("diffusion_ood.data.sources.faulty.open_native", cut_off)
        with pytest.raises(KeyboardInterrupt):
            made(split, tmp_path / "b", "blur")
    folder = tmp_path / "b" / "Scans_test_blur3"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(times) == 3
    assert not (tmp_path / "b" / "data_splits").exists()
    assert made(split, tmp_path / "b", "blur") == whole
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list(folder.rglob("*.tmp"))


def test_damaged_files_are_written_again(split: Path, tmp_path: Path) -> None:
    first = made(split, tmp_path, "noise")
    folder = tmp_path / "Scans_test_noise3"
    torn, wrong, kept = (folder / name for name in NAMES[:3])
    time = kept.stat().st_mtime_ns
    torn.write_bytes(torn.read_bytes()[:-9])
    wrong.write_bytes(bytes(len(wrong.read_bytes())))
    assert made(split, tmp_path, "noise") == first
    manifest = folder / "manifest.json"  # as a run that was cut off and the first version left it
    found = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({k: v for k, v in found.items() if k not in ("of", "written")}))
    torn.write_bytes(torn.read_bytes()[:-9])
    assert made(split, tmp_path, "noise") == first
    assert kept.stat().st_mtime_ns == time
    assert json.loads(manifest.read_text()) == found


def test_sets_of_another_split_of_the_same_name_are_kept(split: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = made(split, root, "noise")
    other = tmp_path / "more" / split.name
    write_split(other, [f"../{NAMES[1]}"])
    with pytest.raises(UserError, match=r"Scans_test_noise3: found images made from \.\./splits"):
        made(other, root, "box", "noise")
    assert not (root / "Scans_test_box3").exists()
    (root / "link").symlink_to(split.parent)
    assert made(root / "link" / split.name, root, "noise") == first
    assert made(other, root, "box").keys() == {f"Scans_test_box3/{NAMES[1]}"}


def test_files_of_another_origin_are_not_taken_for_ours(split: Path, tmp_path: Path) -> None:
    whole = made(split, tmp_path / "a", "blur")
    stray = tmp_path / "b" / "Scans_test_blur3" / NAMES[0]
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"torn")
    assert made(split, tmp_path / "b", "blur") == whole
    (tmp_path / "b" / "Scans_test_blur3" / "manifest.json").write_text("[1, 2]")
    stray.write_bytes(b"torn")
    assert made(split, tmp_path / "b", "blur") == whole


def test_absolute_paths_keep_their_folders(split: Path, tmp_path: Path) -> None:
    image = tmp_path / NAMES[0]
    write_split(split, [str(image)])
    (found,) = made(split, tmp_path / "root", "box")
    assert found == f"Scans_test_box3/{image.relative_to(image.anchor).as_posix()}"


def test_two_copies_of_one_name_are_refused(split: Path, tmp_path: Path) -> None:
    write_split(split, ["../scans/p0/0.png", "scans/p0/0.png"])
    (split.parent / "scans/p0").mkdir(parents=True)
    Image.new("L", (9, 9)).save(split.parent / "scans/p0/0.png")
    with pytest.raises(UserError, match=r"row 3: found scans/p0/0\.png"):
        made(split, tmp_path / "root", "box")


def test_a_patch_needs_another_image_of_as_many_sides(split: Path, tmp_path: Path) -> None:
    write_split(split, [f"../{NAMES[0]}"])
    with pytest.raises(UserError, match="found one image"):
        made(split, tmp_path / "root", "box", "foreign_patch")
    assert not (tmp_path / "root").exists()
    np.save(tmp_path / "volume.npy", np.zeros((8, 8, 8), np.uint8))
    write_split(split, [f"../{NAMES[0]}", "../volume.npy"])
    with pytest.raises(UserError, match="sides"):
        made(split, tmp_path / "root", "foreign_patch")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_written_is_named_with_its_row(
    split: Path, tmp_path: Path, workers: int
) -> None:
    Image.new("P", (9, 9)).save(tmp_path / "palette.png")
    more = [f"../{name}" for name in NAMES]
    for i in range(20):  # more than one process takes at a time
        Image.new("L", (9, 9), i).save(tmp_path / f"{i}.png")
        more.append(f"../{i}.png")
    write_split(split, [*more, "../palette.png"])
    with pytest.raises(UserError, match=r"row 27: .*palette\.png: found") as error:
        made(split, tmp_path / "root", "box", num_workers=workers)
    assert len(error.value.args) == 1
    assert not (tmp_path / "root" / "data_splits").exists()


def test_volumes_and_colours_of_16_bits_go_through_every_fault(split: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for name in ("v0.nii.gz", "v1.nii.gz"):
        volume = np.kron(rng.integers(-900, 900, (4, 5, 3)), np.ones((3, 3, 3))).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([2, 2, 5, 1])), tmp_path / name)
    write_split(split, ["../v0.nii.gz", "../v1.nii.gz"])
    before = nibabel.load(tmp_path / "v0.nii.gz")
    values = np.asanyarray(before.dataobj)
    splits = make_faulty_sets(split, tmp_path / "root", list(FAULTS), severity=3, seed=2)
    for path in splits.values():
        after = nibabel.load(read_split(path).image_path(0))
        changed = np.asanyarray(after.dataobj)
        assert after.header == before.header
        assert (changed != values).any()
        assert values.min() <= changed.min() <= changed.max() <= values.max()


def test_masks_say_where_stored_images_differ_visibly(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = made(split, tmp_path, "lesions", num_workers=2)
    folder = tmp_path / "Scans_test_lesions3_masks"
    assert f"masks: {folder}" in capsys.readouterr().out
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.relative_to(folder).as_posix() for path in paths] == NAMES
    for name in NAMES:
        before = np.asarray(Image.open(tmp_path / name)).astype(float)
        after = np.asarray(Image.open(tmp_path / "Scans_test_lesions3" / name)).astype(float)
        with Image.open(folder / name) as file:
            assert (file.mode, file.size) == ("L", (34, 28))
            mask = np.asarray(file)
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask == 255, np.abs(after - before) / 255 >= 0.1)
    times = [path.stat().st_mtime_ns for path in paths]
    assert made(split, tmp_path, "lesions") == found
    assert [path.stat().st_mtime_ns for path in paths] == times
    whole = paths[1].read_bytes()
    paths[1].unlink()
    assert made(split, tmp_path, "lesions") == found
    assert paths[1].read_bytes() == whole
    made(split, tmp_path, "noise")
    assert not (tmp_path / "Scans_test_noise3_masks").exists()


def test_masks_of_other_kinds_of_files_are_png_or_npy(split: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    volume = np.kron(rng.integers(-900, 900, (4, 5, 3)), np.ones((3, 3, 3))).astype(np.int16)
    for name in ("v.nii.gz", "w.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / name)
    np.save(tmp_path / "v.npy", volume.astype(np.float32))
    write_split(split, ["../v.nii.gz", "../w.nii.gz", "../v.npy"])
    made(split, tmp_path / "root", "lesions")
    colours = np.kron(rng.integers(20, 230, (7, 9, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    for name in ("c.jpg", "c.bmp", "d.tif"):
        Image.fromarray(colours).save(tmp_path / name)
    pictures = split.with_name("Pictures.csv")
    write_split(pictures, ["../c.jpg", "../c.bmp", "../d.tif"])
    made(pictures, tmp_path / "root", "lesions")
    for folder, names in (
        ("Scans_test_lesions3_masks", ("v.nii.gz.npy", "w.nii.gz.npy", "v.npy")),
        ("Pictures_lesions3_masks", ("c.jpg.png", "c.bmp.png", "d.tif.png")),
    ):
        masks = tmp_path / "root" / folder
        assert {path.name for path in masks.rglob("*") if path.is_file()} == set(names)
        for name in names:
            array = name.endswith(".npy")
            mask = np.load(masks / name) if array else np.asarray(Image.open(masks / name))
            assert mask.shape == ((12, 15, 9) if array else (28, 36))
            assert set(np.unique(mask)) == {0, 255}
