"""Packed files: found again, rebuilt when a source changes, and whole whoever builds them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data import decoding
from diffusion_ood.data.contents import file_digests
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.packed import Packed, cache_folder, open_packed
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions

GREY = ImageOptions(is_grayscale=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of 3 x 4 pixels, number i all of value 10 i, and their split."""
    for i in range(6):
        Image.new("L", (4, 3), 10 * i).save(tmp_path / f"{i}.png")
    write_split(tmp_path / "A_train.csv", [f"{i}.png" for i in range(6)])
    return tmp_path


def opened(folder: Path, options: ImageOptions = GREY, num_workers: int = 0) -> Packed:
    split = read_split(folder / "A_train.csv")
    cache = cache_folder(split)
    assert cache is not None
    digests = file_digests(split, cache)
    result = open_packed(split, digests, options, cache, num_workers, progress=False)
    assert result is not None
    return result


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / ".cache").iterdir())


def no_decoding(*_: object) -> None:
    raise AssertionError("decoded again")


def test_bytes_stay_bytes_and_are_mapped(folder: Path) -> None:
    images = opened(folder).images
    assert isinstance(images, np.memmap)
    assert (images.dtype, images.shape) == (np.uint8, (6, 1, 3, 4))
    np.testing.assert_array_equal(images[:, 0, 2, 3], [0, 10, 20, 30, 40, 50])


def test_a_packed_file_is_read_and_not_built_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = opened(folder).images
    monkeypatch.setattr(decoding, "read_image", no_decoding)
    np.testing.assert_array_equal(opened(folder).images, before)


def test_resized_images_are_floats_in_0_to_1(folder: Path) -> None:
    found = opened(folder, ImageOptions(is_grayscale=True, image_size=2))
    assert (found.images.dtype, found.images.shape) == (np.float32, (6, 1, 2, 2))
    np.testing.assert_allclose(found.images[5], 50 / 255, rtol=1e-6)
    assert found.native_sizes == ((3, 4),)


def test_mixed_types_are_packed_as_floats(folder: Path) -> None:
    Image.fromarray(np.full((3, 4), 65_535, dtype=np.uint16)).save(folder / "5.png")
    images = opened(folder).images
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[[0, 1, 5], 0, 0, 0], np.float32([0, 10 / 255, 1]))


def test_a_changed_source_file_rebuilds_and_removes_the_stale_file(folder: Path) -> None:
    opened(folder)
    Image.new("L", (4, 3), 200).save(folder / "2.png")
    os.utime(folder / "2.png", ns=(1, 1))
    np.testing.assert_array_equal(opened(folder).images[:, 0, 0, 0], [0, 10, 200, 30, 40, 50])
    assert files(folder) == [".json", ".npy"]


def test_a_folder_of_equal_sizes_and_times_is_not_taken_for_another(folder: Path) -> None:
    opened(folder)
    (folder / "other").mkdir()
    for path in folder.glob("*.png"):
        other = folder / "other" / path.name
        np.save(other.with_suffix(".npy"), 0)  # so that numbers of files are not given out again
        Image.new("L", (4, 3), 250).save(other)
        other.write_bytes(other.read_bytes().ljust(path.stat().st_size, b"\0"))
        path.write_bytes(path.read_bytes().ljust(other.stat().st_size, b"\0"))
    opened(folder)
    for path in list(folder.glob("*.png")):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        os.replace(folder / "other" / path.name, path)
        os.utime(path, ns=times)
    assert opened(folder).images[:, 0, 0, 0].tolist() == [250] * 6


def test_a_changed_split_removes_what_it_packed(folder: Path) -> None:
    opened(folder)
    write_split(folder / "A_train.csv", ["3.png", "1.png"])
    os.utime(folder / "A_train.csv", ns=(1, 1))
    np.testing.assert_array_equal(opened(folder).images[:, 0, 0, 0], [30, 10])
    assert files(folder) == [".json", ".npy"]


def test_other_options_and_the_first_n_have_files_of_their_own(folder: Path) -> None:
    opened(folder)
    opened(folder, ImageOptions())
    first = read_split(folder / "A_train.csv").first(2)
    assert len(open_images(first, GREY, LoadingOptions(0), progress=False)) == 2
    assert files(folder) == [".json"] * 3 + [".npy"] * 3


@pytest.mark.parametrize("damage", ["cut the images", "cut the record", "other type"])
def test_a_damaged_file_is_built_again(folder: Path, damage: str) -> None:
    opened(folder)
    (array,), (record,) = ((folder / ".cache").glob(f"*{suffix}") for suffix in (".npy", ".json"))
    if damage == "cut the images":
        array.write_bytes(array.read_bytes()[:-5])
    elif damage == "cut the record":
        record.write_text("{")
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "dtype": "float32"}))
    np.testing.assert_array_equal(opened(folder).images[:, 0, 0, 0], [0, 10, 20, 30, 40, 50])


def test_an_unreadable_image_leaves_nothing_behind(folder: Path) -> None:
    (folder / "4.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"4\.png: "):
        opened(folder)
    assert files(folder) == []


def test_a_worker_s_error_arrives_as_its_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 2)
    (folder / "4.png").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        opened(folder, num_workers=2)
    assert "Traceback" not in str(caught.value)
    assert "4.png: not an image" in str(caught.value)


def test_missing_files_and_other_sizes_are_named(folder: Path) -> None:
    Image.new("L", (5, 3)).save(folder / "4.png")
    with pytest.raises(UserError, match=r"4\.png: .*3 x 5 .*3 x 4 .*0\.png"):
        opened(folder)
    (folder / "4.png").unlink()
    with pytest.raises(UserError, match=r"A_train\.csv, row 6: .*4\.png"):
        opened(folder)


def test_two_builders_at_once_agree(folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: opened(folder), range(2)))
    for result in results:
        np.testing.assert_array_equal(result.images[:, 0, 0, 0], [0, 10, 20, 30, 40, 50])
    assert files(folder) == [".json", ".npy"]


def test_a_read_only_folder_falls_back_to_the_user_s_cache_and_then_to_none(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    (folder / ".cache").touch()  # a file where the folder should be; root may write anywhere else
    assert opened(folder).images[1, 0, 0, 0] == 10
    assert len(list(home.rglob("*.npy"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "0.png"))
    images = open_images(read_split(folder / "A_train.csv"), GREY, LoadingOptions(0))
    assert not images.packed
    assert capsys.readouterr().out.count("are not packed\n") == 1
