"""MedNIST, MedMNIST and the Decathlon: small files of the form in which they are published."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from diffusion_ood.commands.get_datasets import main
from diffusion_ood.data.readers import read_image
from diffusion_ood.data.sources import decathlon, medmnist, mednist
from diffusion_ood.data.sources.base import RawLocation
from diffusion_ood.data.sources.prepare import split_path
from diffusion_ood.data.sources.raw_files import fetch_files
from diffusion_ood.data.splits import Split, read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.registries import SOURCES


def tar(path: Path, files: Mapping[str, bytes]) -> str:
    """Write a tar archive, and return its MD5."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return md5(path.read_bytes()).hexdigest()


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, archive_md5: str, **changes: Any) -> None:
    """Let a source be published with another digest and other counts."""
    source = SOURCES[name]
    downloads = [dataclasses.replace(source.downloads[0], md5=archive_md5)]
    mine = dataclasses.replace(source, downloads=downloads, **changes)
    if SOURCES.places[name].endswith(":SOURCES"):
        module = {"T": decathlon}.get(name[0], medmnist)
        monkeypatch.setitem(module.SOURCES, name, mine)
    else:
        monkeypatch.setattr(mednist, "SOURCE", mine)


def parts(root: Path, name: str) -> dict[str, Split]:
    return {part: read_split(split_path(root, name, part)) for part in ("train", "val", "test")}


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), value).save(buffer, "JPEG")
    return buffer.getvalue()


def test_each_kind_of_mednist_is_a_set_with_parts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    files = {f"MedNIST/{kind}/{i:06d}.jpeg": jpeg(i) for kind in mednist.KINDS for i in range(21)}
    files["MedNIST/HeadCT/._000000.jpeg"] = b"of macOS"
    archive = tmp_path / "raw" / "MedNIST.tar.gz"
    counts = {
        f"{kind}_{part}": count
        for kind in mednist.KINDS
        for part, count in (("train", 17), ("val", 2), ("test", 2))
    }
    replaced(monkeypatch, "MedNIST", tar(archive, files), counts=counts)
    command = [f"--data_root={tmp_path / 'root'}", f"--source_dir={tmp_path / 'raw'}"]
    main([*command, "--datasets=MedNIST"])
    printed = capsys.readouterr().out
    for kind in mednist.KINDS:
        splits = parts(tmp_path / "root", f"MedNIST_{kind}")
        assert {part: len(split) for part, split in splits.items()} == {
            "train": 17,
            "val": 2,
            "test": 2,
        }
        assert splits["test"].name == f"MedNIST_{kind}"
        images = {image for split in splits.values() for image in split.images}
        assert len(images) == 21
        assert all(f"MedNIST/raw/MedNIST/{kind}/0" in image for image in images)
    assert read_image(splits["test"].image_path(0), ImageOptions(is_grayscale=True)).shape[1:] == (
        64,
        64,
    )
    assert "--model_name=mednist_abdomenct" in printed
    assert "--is_grayscale=1" in printed
    main([*command, "--datasets=MedNIST"])
    assert "nothing to do" in capsys.readouterr().out


def test_a_sample_of_mednist_is_refused(tmp_path: Path) -> None:
    for kind in mednist.KINDS:
        (tmp_path / "MedNIST" / kind).mkdir(parents=True)
    with pytest.raises(UserError, match=r"MedNIST: found 0 .*8000"):
        main([f"--data_root={tmp_path}", f"--source_dir={tmp_path}", "--datasets=MedNIST"])


SHAPES = {
    "bloodmnist_64": (64, 64, 3),
    "chestmnist": (28, 28),
    "organmnist3d": (28, 28, 28),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_a_set_of_medmnist_keeps_its_parts_and_pixels(
    name: str,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if workers:
        monkeypatch.setattr("diffusion_ood.data.sources.prepare.CHUNK", 1)
    rng = np.random.default_rng(0)
    counts = {"train": 7, "val": 2, "test": 3}
    arrays: dict[str, Any] = {
        f"{part}_images": rng.integers(0, 256, (count, *SHAPES[name]), np.uint8)
        for part, count in counts.items()
    }
    width = 14 if name == "chestmnist" else 1
    labels: dict[str, Any] = {
        f"{part}_labels": np.zeros((count, width), int) for part, count in counts.items()
    }
    labels["test_labels"][:2, -1] = 1
    labels["test_labels"][0, 0] = 1
    path = tmp_path / f"{name}.npz"
    np.savez_compressed(path, **arrays, **labels)
    digest = md5(path.read_bytes()).hexdigest()
    replaced(monkeypatch, name, digest, counts=counts, files={path.name: digest})
    command = [f"--data_root={tmp_path / 'root'}", f"--source_dir={tmp_path}"]
    main([*command, f"--datasets={name}", f"--num_workers={workers}"])
    splits = parts(tmp_path / "root", name)
    volumes = len(SHAPES[name]) == 3 and SHAPES[name][2] != 3
    options = ImageOptions(is_grayscale=name != "bloodmnist_64", spatial_dimension=2 + volumes)
    for part, split in splits.items():
        assert len(split) == counts[part]
        for i, expected in enumerate(arrays[f"{part}_images"]):
            found = read_image(split.image_path(i), options)
            assert found.dtype == np.uint8
            wanted = expected.transpose(2, 0, 1) if expected.shape[2:] == (3,) else expected[None]
            np.testing.assert_array_equal(found, wanted)
    many = name == "chestmnist"
    assert splits["test"].labels == (("0+13", "13", "none") if many else ("1", "1", "0"))
    printed = capsys.readouterr().out
    assert ("--spatial_dimension=3" in printed) == volumes
    assert ("--is_grayscale=1" in printed) == options.is_grayscale


def test_the_published_digests_of_medmnist_are_of_one_file_each() -> None:
    found = {name: SOURCES[name] for name in medmnist.MD5}
    assert len({source.downloads[0].md5 for source in found.values()}) == len(found) == 60
    assert found["organamnist_224"].counts == {"train": 34_561, "val": 6_491, "test": 17_778}
    for name, source in found.items():
        assert source.downloads[0].url.endswith(f"/{name}.npz?download=1")


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"train_labels": 0, "val_labels": 0, "test_labels": 0}, "train_images"),
        ({"train_images": np.zeros((1, 2, 2))}, "train_images"),
    ],
)
def test_a_file_of_another_form_is_named(
    arrays: dict[str, Any], named: str, tmp_path: Path
) -> None:
    labels = {f"{part}_labels": np.zeros((1, 1), int) for part in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **{**labels, **arrays})
    with pytest.raises(UserError, match=rf"a\.npz: .*{named}"):
        SOURCES["pathmnist"].read({"pathmnist.npz": tmp_path / "a.npz"}, 0)


@pytest.mark.parametrize("task", ["Task02_Heart", "Task01_BrainTumour"])
def test_a_task_of_the_decathlon_is_unpacked_and_its_volumes_stay_nifti(
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    volume = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    content = volume.to_bytes()
    folders = {"imagesTr": 10, "labelsTr": 10, "imagesTs": 4}
    files = {f"{task}/dataset.json": b'{"numTraining": 10, "numTest": 4}'}
    for folder, count in folders.items():
        for i in range(count):
            files[f"{task}/{folder}/._la_{i:03d}.nii.gz"] = b"of macOS"
            files[f"{task}/{folder}/la_{i:03d}.nii.gz"] = content
    digest = tar(tmp_path / f"{task}.tar", files)
    replaced(monkeypatch, task, digest)
    main(
        [
            f"--data_root={tmp_path / 'root'}",
            f"--source_dir={tmp_path}",
            f"--datasets={task}",
        ]
    )
    splits = parts(tmp_path / "root", task)
    of_part = {part: set(split.images) for part, split in splits.items()}
    known = {f"../{task}/raw/{task}/imagesTr/la_{i:03d}.nii.gz" for i in range(10)}
    assert of_part["train"] | of_part["val"] == known
    assert not of_part["train"] & of_part["val"]
    assert of_part["test"] == {f"../{task}/raw/{task}/imagesTs/la_{i:03d}.nii.gz" for i in range(4)}
    flags = capsys.readouterr().out.split()
    assert "--spatial_dimension=3" in flags
    assert ("--volume_channel=0" in flags) == (task == "Task01_BrainTumour")


def test_another_archive_is_refused(tmp_path: Path) -> None:
    tar(tmp_path / "Task09_Spleen.tar", {"Task09_Spleen/dataset.json": b"{}"})
    with pytest.raises(UserError, match=r"Task09_Spleen\.tar: .*410d4a301da4e5b2f6f86ec3ddba524e"):
        fetch_files(RawLocation("Task09_Spleen", tmp_path), SOURCES["Task09_Spleen"])


def test_a_task_without_all_of_its_volumes_is_refused(tmp_path: Path) -> None:
    for folder, content in (("imagesTr", b""), ("imagesTs", b"")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "la_000.nii.gz").write_bytes(content)
    (tmp_path / "dataset.json").write_text('{"numTraining": 1, "numTest": 2}')
    with pytest.raises(UserError, match=r"imagesTs: .* 1 .* 2 "):
        SOURCES["Task02_Heart"].read({"Task02_Heart": tmp_path}, 0)


def test_ten_tasks_have_an_archive_each() -> None:
    assert len({SOURCES[name].downloads[0].md5 for name in decathlon.MD5}) == 10
