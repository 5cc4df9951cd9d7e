"""Folders that say which images are healthy: BMAD's forms, and MedIAnomaly's BraTS2021."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.commands.get_datasets import main
from diffusion_ood.data.sources import bmad
from diffusion_ood.data.sources.base import RawLocation
from diffusion_ood.data.sources.good_folders import read_good_folders
from diffusion_ood.data.sources.raw_files import fetch_files
from diffusion_ood.data.splits import read_split
from diffusion_ood.detection.pixel_files import assess_pixels
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES
from diffusion_ood.screening.maps import map_path

PIXELS = {  # as BMAD has sets with masks
    "train/good/img": 4,
    "valid/good/img": 2,
    "valid/Ungood/img": 1,
    "valid/Ungood/label": 1,
    "test/good/img": 2,
    "test/good/label": 2,
    "test/Ungood/img": 3,
    "test/Ungood/label": 3,
}
OTHERS = {  # without masks, with other words, and MedIAnomaly's
    "images": {
        "train/good": 4,
        "val/good": 2,
        "val/ungood": 1,
        "test/good": 2,
        "test/ungood": 3,
    },
    "masks": {
        "train/good/img": 4,
        "valid/good/img": 2,
        "valid/Ungood/img": 1,
        "test/good/img": 2,
        "test/Ungood/img": 3,
        "test/Ungood/anomaly_mask": 3,
    },
    "tumor": {"train": 6, "test/normal": 2, "test/tumor": 3, "test/annotation": 3},
}


def write(folder: Path, form: dict[str, int]) -> Path:
    for number, (name, count) in enumerate(form.items()):
        (folder / name).mkdir(parents=True)
        first = 0 if name.startswith("test/Ungood") else 10 * number
        for i in range(count):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[i : i + 2, 2:5] = 255
            Image.fromarray(pixels).save(folder / name / f"{first + i:05d}_60.png")
    (folder / "train" / ".DS_Store").touch()
    return folder


def sizes(root: Path, name: str) -> dict[str, int]:
    splits = (root / "data_splits").glob(f"{name}_*.csv")
    return {path.stem.removeprefix(f"{name}_"): len(read_split(path)) for path in splits}


EXPECTED = {"train": 4, "val": 2, "test": 2, "ungood_val": 1, "ungood_test": 3}


def test_a_set_of_bmad_is_unpacked_and_keeps_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Brain", "Chest"):
        write(tmp_path / "packed" / name, PIXELS)
    (tmp_path / "source").mkdir()
    archive = Path(shutil.make_archive(str(tmp_path / "source/bmad"), "zip", tmp_path / "packed"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    download = dataclasses.replace(SOURCES["BMAD_Brain"].downloads[0], md5=digest)
    mine = dataclasses.replace(SOURCES["BMAD_Brain"], downloads=[download])
    monkeypatch.setitem(bmad.SOURCES, "BMAD_Brain", mine)
    root = tmp_path / "root"
    command = [f"--data_root={root}", f"--source_dir={archive.parent}", "--datasets=BMAD_Brain"]
    main(command)
    assert sizes(root, "BMAD_Brain") == EXPECTED
    assert sorted(path.name for path in (root / "BMAD" / "raw").iterdir()) == ["Brain"]
    printed = capsys.readouterr().out
    assert f"{root}/BMAD/raw/Brain/test/Ungood/label" in printed
    assert f"--training_ids={root}/data_splits/BMAD_Brain_train.csv" in printed
    main(command)
    assert "nothing to do" in capsys.readouterr().out


def test_another_archive_of_bmad_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bmad.zip").write_bytes(b"another")
    with pytest.raises(UserError, match=r"bmad\.zip: .*sha256"):
        fetch_files(RawLocation("BMAD_Liver", tmp_path), SOURCES["BMAD_Liver"])


def test_a_folder_of_bmad_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "Liver", {"train/good": 2, "test/good": 1})
    with pytest.raises(UserError, match=r"Liver: .*test/Ungood"):
        main([f"--data_root={tmp_path}", f"--source_dir={tmp_path}", "--datasets=BMAD_Liver"])


@pytest.mark.parametrize("form", OTHERS)
def test_an_image_folder_that_has_the_form_keeps_its_parts(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "own", OTHERS[form])
    main([f"--data_root={tmp_path}", f"--image_folder={folder}", "--name=Own"])
    wanted = EXPECTED if form != "tumor" else {"train": 5, "val": 1, "test": 2, "ungood_test": 3}
    assert sizes(tmp_path, "Own") == wanted
    masks = {"masks": "test/Ungood/anomaly_mask", "tumor": "test/annotation"}.get(form)
    assert (f"{folder}/{masks}" in capsys.readouterr().out) == (masks is not None)
    split = read_split(tmp_path / "data_splits" / "Own_ungood_test.csv")
    assert split.name == "Own_ungood"
    assert all(split.image_path(i).is_file() for i in range(3))


def test_what_would_divide_such_a_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "own", PIXELS)
    with pytest.raises(UserError, match="`test_fraction`"):
        main(
            [f"--data_root={tmp_path}", f"--image_folder={folder}", "--name=A", "--test_fraction=1"]
        )


@pytest.mark.parametrize("form", [{"train/a": 2, "test/b": 2}, {"good": 3, "Ungood": 2}])
def test_other_folders_have_no_such_form(form: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert read_good_folders(write(tmp_path / "own", {"train": 0, **form})) == {}


def test_maps_of_the_unhealthy_images_go_with_their_masks(tmp_path: Path) -> None:
    test = write(tmp_path / "own", PIXELS) / "test" / "Ungood"
    for image in (test / "img").iterdir():
        with Image.open(test / "label" / image.name) as mask:
            of_image = np.asarray(mask, np.float32)
        path = map_path(tmp_path / "maps", image.name, (1, 8, 8))
        path.parent.mkdir(exist_ok=True)
        np.save(path, of_image)
    found = assess_pixels(tmp_path / "maps", test / "label", n_bootstrap=0, seed=0)
    assert found.num_with_lesions == 3
    assert found.metrics["ap"].value == 1
