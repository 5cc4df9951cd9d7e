"""Splits and images of any content: a result or a sentence, never a traceback and never a hang.

`make fuzz` tries 10,000 of them; the tests, a few hundred. The cases are the same in every run.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_headers import png_files, tiff_files
from PIL import Image
from raw_pictures import turned

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

CASES = int(os.environ.get("FUZZ_CASES", "200"))  # altogether
SLOWEST_MS = 10_000
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))

fuzz = settings(
    max_examples=CASES // 4,
    deadline=SLOWEST_MS,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    if format == "NPY":
        np.save(file, PIXELS)
    else:
        Image.fromarray(PIXELS).save(file, format)
    return file.getvalue()


WHOLE = [encoded(format) for format in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "NPY")]
CELLS = st.sampled_from(
    ["image", "label", "a.png", '"', ",", ";", "\n", "\r\n", "\0", "é", " ", "/"]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image file with some bytes changed, cut off or put in."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["change", "cut", "insert"]))
        if kind == "cut":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        elif content:
            content[at] = draw(st.integers(0, 255))
    return bytes(content)


def assert_names(sentence: str, path: Path) -> None:
    assert str(path) in sentence
    assert "Traceback" not in sentence


@fuzz
@given(st.one_of(st.binary(max_size=200), st.lists(CELLS, max_size=40).map("".join)))
def test_any_split(content: bytes | str) -> None:
    path = FOLDER / "fuzz.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        split = read_split(path)
    except UserError as error:
        assert_names(str(error), path)
        return
    assert 0 < len(split) == len(set(split.images))
    assert all(image.strip() for image in split.images)


@fuzz
@given(
    st.one_of(damaged(), st.binary(min_size=1, max_size=100)),
    st.sampled_from(["png", "npy"]),
    st.booleans(),
)
def test_any_image(content: bytes, suffix: str, grey: bool) -> None:
    path = FOLDER / f"fuzz.{suffix}"
    path.write_bytes(content)
    options = ImageOptions(is_grayscale=grey)
    for read in (image_size, read_image):
        try:
            found = read(path, options)
        except UserError as error:
            assert_names(str(error), path)
            continue
        if isinstance(found, np.ndarray):
            assert found.shape[0] == options.channels
            assert found.size
            assert np.isfinite(found).all()


RANGED = ImageOptions(intensity_range=(-(2.0**33), 2.0**33))


def read_twice(path: Path, options: ImageOptions) -> np.ndarray | None:
    """The image, or None if it is refused; its header says the same sides as its pixels have."""
    found: list[np.ndarray | tuple[int, ...] | None] = []
    for read in (image_size, read_image):
        try:
            found.append(read(path, options))
        except UserError as error:
            assert_names(str(error), path)
            found.append(None)
    sides, image = found
    if isinstance(image, np.ndarray):
        assert image.shape == (options.channels, *(sides or ()))
        return image
    return None


@fuzz
@given(png_files())
def test_any_png_is_refused_or_as_a_second_decoder_reads_it(generated: tuple[bytes, int]) -> None:
    content, orientation = generated
    path = FOLDER / "fuzz.png"
    path.write_bytes(content)
    image = read_twice(path, ImageOptions())
    try:
        right = np.atleast_3d(imagecodecs.png_decode(content)).transpose(2, 0, 1)
    except (imagecodecs.PngError, ValueError):
        return
    if image is not None:
        right = turned(right[: 3 if len(right) > 2 else 1], orientation, inverse=True)
        np.testing.assert_array_equal(image, np.broadcast_to(right, image.shape))


@fuzz
@given(tiff_files(), st.booleans())
def test_any_tiff_is_refused_or_as_its_tags_say(
    generated: tuple[bytes, np.ndarray | None], ranged: bool
) -> None:
    content, right = generated
    path = FOLDER / "fuzz.tif"
    path.write_bytes(content)
    image = read_twice(path, RANGED if ranged else ImageOptions())
    right = second_tiff_decoder(path) if right is None else right
    if image is not None and right is not None:
        right = right[: 3 if len(right) > 2 else 1].astype(image.dtype)
        np.testing.assert_array_equal(image, np.broadcast_to(right, image.shape))


def second_tiff_decoder(path: Path) -> np.ndarray | None:
    """What Pillow finds, (C, H, W), where it is known to be right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as picture:
                tags = {code: np.ravel(value) for code, value in picture.tag_v2.items()}
                plain = [(tags.get(code, [1]) == np.array(1)).all() for code in (274, 339)]
                bits = {"L": 8, "RGB": 8, "I;16": 16}.get(picture.mode)
                if tags[262][0] == 0 or not all(plain) or (tags[258] != bits).any():
                    return None
                return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
        except Exception:
            return None
