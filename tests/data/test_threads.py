"""Files of every format, whole and damaged, read by several threads as by one."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import image, save
from PIL import Image
from pydicom.uid import RLELossless
from raw_pictures import bmp, png, tiff

from diffusion_ood.data.complaints import Errors, ignoring
from diffusion_ood.data.readers import read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

GREY = ImageOptions(is_grayscale=True, intensity_range=(0, 255))
GENERATOR = np.random.default_rng(0)
ROUNDS = 3
PIXELS = GENERATOR.integers(0, 256, (1, 24, 32)).astype(np.uint8)


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(file, format)
    return file.getvalue()


def nifti(packed: bool, folder: Path) -> bytes:
    path = folder / f"x.nii{'.gz' if packed else ''}"
    nibabel.save(nibabel.Nifti1Image(PIXELS[0].astype(np.float32), np.eye(4)), path)
    return path.read_bytes()


def dicom(packed: bool, folder: Path) -> bytes:
    file = image(PIXELS[0])
    if packed:
        file.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    return save(folder / "x.dcm", file).read_bytes()


def whole(folder: Path) -> Iterator[tuple[str, bytes]]:
    """A file's suffix and content."""
    jpeg = encoded("JPEG")
    yield "png", png(PIXELS, 8, 0)
    yield "jpg", jpeg
    yield "jpg", jpeg[:2] + b"\xff\xe2\x00\x10MPF\0" + bytes(10) + jpeg[2:]  # Pillow warns
    yield "bmp", bmp(PIXELS, 8, palette=np.stack([np.arange(256)] * 3, 1))
    yield "tif", tiff(PIXELS, 1)
    yield "tif", tiff(PIXELS, 1, strip=5, compression=8, predictor=2)
    damaged = tiff(PIXELS, 1, tags={305: (3, [7])})
    yield "tif", damaged.replace(b"\x31\x01\x03\0", b"\x31\x01\x4d\0")  # tifffile logs
    yield "npy", npy()
    yield "nii", nifti(False, folder)
    yield "nii.gz", nifti(True, folder)
    yield "dcm", dicom(False, folder)
    yield "dcm", dicom(True, folder)
    yield "dcm", dicom(False, folder).replace(b"PID-77341", b"PID\\0\xff341")  # pydicom warns


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, PIXELS[0])
    return file.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Each file as it is, cut off, and with bytes that were changed."""
    folder, paths = tmp_path_factory.mktemp("files"), []
    for number, (suffix, content) in enumerate(whole(folder)):
        changed = [content, content[: len(content) * 2 // 3]]
        for place in GENERATOR.integers(0, len(content), 6):
            changed.append(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        for damage, data in enumerate(changed):
            paths.append(folder / f"{number}_{damage}.{suffix}")
            paths[-1].write_bytes(data)
    return paths


def answer(path: Path) -> bytes | str:
    """The pixels, or why there are none."""
    try:
        return read_image(path, GREY).tobytes()
    except UserError as error:
        return str(error)


@pytest.mark.filterwarnings("error")
def test_eight_threads_read_what_one_does(
    files: list[Path], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before, interval = list(warnings.filters), sys.getswitchinterval()
    with warnings.catch_warnings():
        expected = [answer(path) for path in files]
    assert 20 < sum(isinstance(one, bytes) for one in expected) < len(files) - 20
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(ROUNDS):
                assert list(threads.map(answer, files)) == expected
    finally:
        sys.setswitchinterval(interval)
    assert [one for one in warnings.filters if isinstance(one[3], str | None)] == [
        one for one in before if isinstance(one[3], str | None)
    ]
    assert logging.getLogger("pydicom").propagate
    assert not caplog.records
    assert not "".join(capfd.readouterr())


def test_warnings_are_ignored_in_their_thread_alone() -> None:
    def warned() -> None:
        warnings.warn_explicit("x", UserWarning, "x.py", 1, module="PIL.Image")

    with ThreadPoolExecutor(1) as other, warnings.catch_warnings():
        warnings.simplefilter("error")
        with ignoring(r"PIL\b"):
            warned()
            assert isinstance(other.submit(warned).exception(), UserWarning)
        with pytest.raises(UserWarning):
            warned()


def test_a_loggers_errors_go_to_the_thread_that_made_them() -> None:
    logger, errors = logging.getLogger("tests.threads"), Errors()
    logger.addFilter(errors)
    with ThreadPoolExecutor(1) as other, errors.caught() as found:
        logger.error("mine")
        logger.warning("nothing")
        other.submit(logger.error, "others'").result()
    assert found == ["mine"]
