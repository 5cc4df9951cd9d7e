"""Files that are written again: kind, sides, depth, channels and header stay as they were."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from diffusion_ood.data.native_files import open_native
from diffusion_ood.data.readers import read_samples
from diffusion_ood.errors import UserError

Array = npt.NDArray[Any]
SIDES = (28, 33)


def values(kind: str, channels: int = 1) -> Array:
    """(H, W) or (H, W, C) of a type."""
    rng = np.random.default_rng(3)
    shape = SIDES if channels == 1 else (*SIDES, channels)
    if np.dtype(kind).kind == "f":
        return rng.normal(size=shape).astype(kind)
    return rng.integers(7, 120, shape).astype(kind)


def opaque(colours: Array) -> Array:
    return np.concatenate(
        [colours, np.full_like(colours[..., :1], np.iinfo(colours.dtype).max)], -1
    )


def saved(path: Path, array: Array, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_keeps_its_header(tmp_path: Path, kind: str, channels: int) -> None:
    array = values(kind, channels)
    if channels in (2, 4):
        array = opaque(array[..., :-1])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    native = open_native(tmp_path / "a.png")
    content = native.encode(native.samples)
    assert content[:26] == (tmp_path / "a.png").read_bytes()[:26]
    np.testing.assert_array_equal(imagecodecs.png_decode(content), array)
    assert native.samples.dtype == np.dtype(kind)
    span = (0, 255) if kind == "u1" else (native.samples.min(), native.samples.max())
    assert (native.low, native.high) == span


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_type_channels_compression_and_byte_order(
    tmp_path: Path, kind: str, channels: int, compression: int, byteorder: str
) -> None:
    array = values(kind, channels)
    path = tmp_path / "a.tif"
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(
        path, array, compression=compression, byteorder=byteorder, photometric=photometric
    )
    native = open_native(path)
    written = io.BytesIO(native.encode(native.samples))
    with tifffile.TiffFile(path) as before, tifffile.TiffFile(written) as after:
        assert after.byteorder == before.byteorder
        for tag in ("BitsPerSample", "SampleFormat", "PhotometricInterpretation", "Compression"):
            old, new = (file.pages.first.tags.valueof(tag) for file in (before, after))
            assert new == old, tag
        np.testing.assert_array_equal(after.asarray(), array)


def test_tiff_keeps_an_opaque_alpha(tmp_path: Path) -> None:
    array = opaque(values("u2", 3))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
    native = open_native(path)
    path.write_bytes(native.encode(native.samples))
    np.testing.assert_array_equal(tifffile.imread(path), array)
    np.testing.assert_array_equal(read_samples(path), native.samples)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_jpeg_stays_jpeg_near_its_values(tmp_path: Path, channels: int, mode: str) -> None:
    smooth = np.add.outer(np.arange(28), 3 * np.arange(33)).astype(np.uint8)
    array = smooth if channels == 1 else np.stack([smooth, smooth[::-1], 255 - smooth], -1)
    path = saved(tmp_path / "a.jpg", array, quality=95, subsampling=0)
    native = open_native(path)
    with Image.open(io.BytesIO(native.encode(native.samples))) as written:
        assert (written.format, written.mode, written.size) == ("JPEG", mode, (33, 28))
        again = np.asarray(written).astype(float)
    difference = again - np.moveaxis(native.samples, 0, -1).reshape(again.shape)
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_bmp_keeps_mode_and_values(tmp_path: Path, channels: int, mode: str) -> None:
    array = values("u1", channels)
    native = open_native(saved(tmp_path / "a.bmp", array))
    assert len(native.samples) == channels
    with Image.open(io.BytesIO(native.encode(native.samples))) as written:
        assert (written.format, written.mode) == ("BMP", mode)
        np.testing.assert_array_equal(np.asarray(written), array)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["u1", ">i2", "<i2", "<f4"])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 5)])
def test_nifti_keeps_every_byte_but_the_voxels(
    tmp_path: Path, suffix: str, kind: str, shape: tuple[int, ...]
) -> None:
    nibabel = pytest.importorskip("nibabel")
    array = np.random.default_rng(3).integers(3, 99, shape).astype(kind)
    path = tmp_path / f"a{suffix}"
    header = nibabel.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_data_dtype(kind)
    image = nibabel.Nifti1Image(array, np.diag([2, 3, 4, 1]), header)
    image.header["descrip"] = b"as it was"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    if kind != "<f4":
        image.header.set_slope_inter(2, -1024)
    nibabel.save(image, path)
    native = open_native(path)
    assert native.samples.shape == (1, *(shape[:2] if shape[2:] == (1,) else shape))
    assert (native.low, native.high) == (native.samples.min(), native.samples.max())
    bytes_of = gzip.decompress if suffix == ".nii.gz" else bytes
    assert bytes_of(native.encode(native.samples)) == bytes_of(path.read_bytes())
    mirrored = native.samples[:, ::-1]
    path.write_bytes(native.encode(mirrored))
    written = nibabel.load(path)
    np.testing.assert_array_equal(written.affine, np.diag([2, 3, 4, 1]))
    assert written.shape == shape
    assert written.get_data_dtype() == np.dtype(kind)
    stored = np.asanyarray(written.dataobj.get_unscaled())
    np.testing.assert_array_equal(stored.reshape(mirrored.shape, order="F"), mirrored)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_a_volume_of_any_orientation_is_changed_in_ras(tmp_path: Path, codes: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    ras = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([2, 3, 4, 1]))
    axes = nibabel.orientations.axcodes2ornt(codes)
    nibabel.save(stored := ras.as_reoriented(axes), tmp_path / "a.nii.gz")
    native = open_native(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(native.samples[0], ras.dataobj)
    (tmp_path / "b.nii.gz").write_bytes(native.encode(native.samples[:, ::-1]))
    mirrored = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(mirrored.affine, stored.affine)
    back = nibabel.as_closest_canonical(mirrored)
    np.testing.assert_array_equal(back.dataobj, np.asarray(ras.dataobj)[::-1])


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (3, 8, 9), (8, 9, 7), (8, 9, 7, 1)])
@pytest.mark.parametrize("kind", ["u1", "i4", "f4"])
def test_arrays_keep_shape_and_type(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    np.save(tmp_path / "a.npy", array)
    native = open_native(tmp_path / "a.npy")
    again = np.load(io.BytesIO(native.encode(native.samples)))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4"])
def test_stored_values_survive_the_way_to_0_and_1(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "a.npy", values(kind))
    native = open_native(tmp_path / "a.npy")
    assert 0 <= native.unit.min() <= native.unit.max() <= 1
    np.testing.assert_allclose(native.stored(native.unit), native.samples, atol=1e-6)
    ends = native.stored(np.array([-1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(ends, [native.low, native.low, native.high, native.high])


def test_inversion_of_stored_values_undoes_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values("u2"))
    native = open_native(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", native.stored(1 - native.unit)[0])
    other = open_native(tmp_path / "b.npy")
    assert (other.low, other.high) == (native.low, native.high)
    np.testing.assert_array_equal(other.stored(1 - other.unit), native.samples)


def test_what_cannot_hold_other_values_is_refused(tmp_path: Path) -> None:
    grey = Image.fromarray(values("u1"))
    colour = Image.fromarray(values("u1", 3))
    kinds = {
        "palette.png": grey.convert("P"),
        "bits.png": grey.convert("1"),
        "bits.bmp": grey.convert("1"),
        "palette.bmp": colour.convert("P"),
        "palette.tif": colour.convert("P"),
        "bits.tif": grey.convert("1"),
        "ink.jpg": colour.convert("CMYK"),
        "ink.tif": colour.convert("CMYK"),
    }
    for name, picture in kinds.items():
        picture.save(tmp_path / name)
        with pytest.raises(UserError) as error:
            open_native(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: found"), name
        assert len(error.value.args) == 1


@pytest.mark.parametrize("array", [np.zeros((4, 4), complex), np.zeros((4, 4), bool)])
def test_arrays_of_other_numbers_are_refused(tmp_path: Path, array: Array) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: "):
        open_native(tmp_path / "a.npy")


def test_values_that_are_not_finite_and_missing_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[np.nan, 1], [0, 1]]))
    for name in ("a.npy", "b.png", "c.nii"):
        with pytest.raises(UserError, match=name):
            open_native(tmp_path / name)
