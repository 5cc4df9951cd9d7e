"""Slices of volumes: which they are, how they lie, and what they are known by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import phantom, save_series, series

from diffusion_ood.data import contents, decoding, slices
from diffusion_ood.data.contents import file_digests
from diffusion_ood.data.decoding import DecodedImages, decode
from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.inputs import Reader, names_of, slices_of
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.data.slices import parts, sliced
from diffusion_ood.data.splits import Split, read_split, write_split
from diffusion_ood.data.volumes import open_volume
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.runtime.files import sha256

SHAPE = (4, 5, 6)  # from the left, the back and the foot
AXIAL = ImageOptions(is_grayscale=True, slices="axial")
LOADING = LoadingOptions(num_workers=0)


def voxels(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def write(path: Path, values: np.ndarray, axes: str = "RAS") -> Path:
    """A file of values (x, y, z) that are stored along other axes."""
    image = nibabel.Nifti1Image(values, np.eye(4))
    to = nibabel.orientations.axcodes2ornt(axes)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), to)
    nibabel.save(image.as_reoriented(turn), path)
    return path


@pytest.fixture
def scans(tmp_path: Path) -> Split:
    """Three scans of six axial slices, with labels."""
    names = [f"scan{k}.nii.gz" for k in range(3)]
    for k, name in enumerate(names):
        write(tmp_path / name, voxels(k))
    write_split(tmp_path / "scans.csv", names, ["a", "b", "a"])
    return read_split(tmp_path / "scans.csv")


def test_a_slice_lies_as_radiologists_see_it(tmp_path: Path) -> None:
    values, path = voxels(), write(tmp_path / "a.nii.gz", voxels(), "PSL")
    right, front, head = 3, 4, 5
    axial = read_image(Path(f"{path}::axial=2"), AXIAL)
    assert axial.shape == (1, 5, 4) == (1, *image_size(Path(f"{path}::axial=2"), AXIAL))
    assert axial[0, 0, 0] == values[right, front, 2]
    assert axial[0, 0, -1] == values[0, front, 2]
    assert axial[0, -1, 0] == values[right, 0, 2]
    coronal = read_image(Path(f"{path}::coronal=1"), AXIAL)
    assert coronal.shape == (1, 6, 4)
    assert coronal[0, 0, 0] == values[right, 1, head]
    assert coronal[0, -1, -1] == values[0, 1, 0]
    sagittal = read_image(Path(f"{path}::sagittal=0"), AXIAL)
    assert sagittal.shape == (1, 6, 5)
    assert sagittal[0, 0, 0] == values[0, front, head]
    assert sagittal[0, -1, -1] == values[0, 0, 0]


def test_volumes_become_their_slices(scans: Split) -> None:
    found = sliced(scans, replace(AXIAL, every=2))
    assert found.images[:4] == (*(f"scan0.nii.gz::axial={k}" for k in (0, 2, 4)),
                                "scan1.nii.gz::axial=0")  # fmt: skip
    assert found.labels == ("a",) * 3 + ("b",) * 3 + ("a",) * 3
    assert [found.number(k) for k in (0, 2, 3, 8)] == [2, 2, 3, 4]
    assert sliced(found, AXIAL) == found
    assert sliced(scans, replace(AXIAL, slices=None)) is scans
    assert len(sliced(scans, replace(AXIAL, slices="sagittal"))) == 3 * 4


def test_pictures_and_what_cannot_be_read_stay(tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    (tmp_path / "a.png").write_bytes(b"any")
    for name in ("broken.nii.gz", "a.png", "missing.nii"):
        assert parts(tmp_path / name, AXIAL) == [""]


def test_a_slice_twice_is_refused(scans: Split) -> None:
    write_split(scans.path, ["scan0.nii.gz::axial=3", "scan0.nii.gz"])
    with pytest.raises(UserError, match=r"scans\.csv, row 3: .*axial=3"):
        sliced(read_split(scans.path), AXIAL)


def test_no_slice_is_refused(scans: Split) -> None:
    place = Path(f"{scans.image_path(0)}::axial=6")
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"axial=6: found 6"):
            read(place, AXIAL)
        with pytest.raises(UserError, match="spatial_dimension"):
            read(place, ImageOptions(is_grayscale=True, spatial_dimension=3))


@pytest.mark.parametrize("given", [{"slices": "axial", "spatial_dimension": 3}, {"every": 2}])
def test_options_that_do_not_go_together(given: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"`slices`"):
        ImageOptions(**given)  # type: ignore[arg-type] # by their names


@pytest.mark.parametrize("packed", [True, False])
def test_a_set_of_slices(scans: Split, packed: bool) -> None:
    images = open_images(scans, AXIAL, LoadingOptions(num_workers=0, cache_data=packed))
    assert images.packed == packed
    assert (len(images), images.shape) == (18, (1, 5, 4))
    expected = voxels(1)[::-1, ::-1, 4].T / np.float32(255)
    np.testing.assert_array_equal(images[6 + 4][0], expected)
    assert len(set(images.digests)) == len(images.contents) == 18
    again = open_images(scans, AXIAL, LOADING)
    np.testing.assert_array_equal(images.batch(range(18)), again.batch(range(18)))


def test_a_file_is_hashed_once(scans: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return sha256(path)

    monkeypatch.setattr(contents, "sha256", counting)
    found = file_digests(sliced(scans, AXIAL), None)
    assert len(hashed) == 3
    assert len(set(found)) == 18
    assert {len(digest) for digest in found} == {contents.DIGITS}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_volume_is_decoded_once(
    scans: Split, monkeypatch: pytest.MonkeyPatch, workers: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def counting(place: Place) -> Volume:
        volume = open_volume(place)

        def load(box: tuple[slice, ...]) -> np.ndarray:
            with open(log, "a") as file:
                file.write("1")
            return volume.load(box)

        return replace(volume, load=load)

    monkeypatch.setattr(slices, "open_volume", counting)
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 4)
    slices._kept.cache_clear()
    images = DecodedImages(sliced(scans, AXIAL), AXIAL)
    assert len([*decode(images, workers, "")]) == 18
    assert log.stat().st_size == 3


def test_what_cannot_be_read_is_skipped(scans: Split) -> None:
    content = scans.image_path(1).read_bytes()
    scans.image_path(1).write_bytes(content[: len(content) // 2])
    skipping = replace(LOADING, on_error="skip")
    found = open_images(scans, AXIAL, skipping)
    assert len(found) == 12
    assert {image.row for image in found.skipped} == {3}
    with pytest.raises(UserError, match=r"scans\.csv, row 3: "):
        open_images(scans, AXIAL, LOADING)


def test_edits_and_first(scans: Split) -> None:
    plain, turned = (
        open_images(replace(scans, edit=edit), AXIAL, LOADING) for edit in (None, "vflip")
    )
    np.testing.assert_array_equal(plain[3].flip(-2), turned[3])
    few = open_images(sliced(scans, AXIAL).first(7), AXIAL, LOADING)
    assert few.split.images[-1] == "scan1.nii.gz::axial=0"


def test_paths_of_volumes_given_to_a_reader(scans: Split) -> None:
    paths = [scans.image_path(0), scans.image_path(1)]
    found = slices_of(paths, AXIAL)
    assert names_of(found) == [f"{path}::axial={k}" for path in paths for k in range(6)]
    (batch,) = Reader(AXIAL, (1, 5, 4)).batches(found)
    assert batch.shape == (12, 1, 5, 4)
    array = voxels().astype(np.uint8)
    assert slices_of(array, AXIAL) is array
    (stack,) = Reader(AXIAL, (1, 5, 6)).batches(array)
    assert stack.shape == (4, 1, 5, 6)


def test_percentiles_are_those_of_the_volume(scans: Split) -> None:
    options = replace(AXIAL, intensity_percentiles=(0.0, 50.0))
    values = voxels().astype(np.float64)
    low, high = np.percentile(values[values > 0], [0, 50])
    for k in (0, 3):
        found = read_image(Path(f"{scans.image_path(0)}::axial={k}"), options)[0]
        expected = np.clip((values[::-1, ::-1, k].T - low) / (high - low), 0, 1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_spacing_resamples_within_the_slice_alone(scans: Split) -> None:
    found = open_images(scans, replace(AXIAL, spacing=(0.5, 1.0, 3.0)), LOADING)
    assert (len(found), found.shape) == (18, (1, 5, 7))
    plain = open_images(scans, AXIAL, LOADING)
    np.testing.assert_allclose(found[2][:, :, ::2], plain[2], atol=1 / 255)


def test_a_series_becomes_its_slices(tmp_path: Path) -> None:
    values = phantom()  # from the right, the front and the foot
    (tmp_path / "study").mkdir()
    save_series(tmp_path / "study", series(values))
    write_split(tmp_path / "s.csv", ["study"])
    options = replace(AXIAL, intensity_range=(0.0, 1000.0))
    found = open_images(read_split(tmp_path / "s.csv"), options, LOADING)
    assert found.split.images == tuple(f"study::axial={k}" for k in range(5))
    assert len(set(found.digests)) == 5
    np.testing.assert_allclose(found[1][0], values[:, :, 1].T / 1000, atol=1e-6)


def test_of_several_channels_the_slices_have_the_one_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = np.stack([voxels(k) for k in range(3)], -1)
    nibabel.save(nibabel.Nifti1Image(several, np.eye(4)), tmp_path / "a.nii")
    boxes = []
    opened = slices.open_volume

    def watched(place: Place) -> Volume:
        volume = opened(place)
        return replace(volume, load=lambda box: [boxes.append(box), volume.load(box)][1])

    monkeypatch.setattr(slices, "open_volume", watched)
    path = Path(f"{tmp_path / 'a.nii'}::axial=2")
    for channel in (2, 0):
        found = read_image(path, replace(AXIAL, volume_channel=channel))
        np.testing.assert_array_equal(found[0], voxels(channel)[::-1, ::-1, 2].T)
    assert [box[3] for box in boxes] == [slice(2, 3), slice(0, 1)]


def test_a_series_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    options = replace(AXIAL, intensity_range=(0.0, 1000.0))
    path = Path(f"{tmp_path / 'scan'}::axial=1")
    read = []
    for values in (phantom(), phantom() + 1):
        save_series(tmp_path / "scan", series(values.astype(np.uint16)))
        read.append(read_image(path, options).astype(int))
    np.testing.assert_array_equal(read[1], read[0] + 1)
