"""TIFF: tags that say what samples mean, and texts that say nothing of them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from raw_pictures import tiff, turned

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

BLACK_IS_ZERO, RGB, PALETTE, CMYK = 1, 2, 3, 5
COLOUR = ImageOptions()
SIDES = 7, 11


def known(channels: int = 1) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (channels, *SIDES), dtype=np.uint8)


def read(path: Path, photometric: int = BLACK_IS_ZERO, channels: int = 1, **how: Any) -> Any:
    path.write_bytes(tiff(known(channels), photometric, **how))
    image = read_image(path, COLOUR)
    assert image_size(path, COLOUR) == image.shape[1:]
    return image


# A tag, its values that are refused, and those that change nothing.
SCALES: list[tuple[str, int, int, tuple[int, Any], tuple[int, Any] | None]] = [
    ("GrayResponseCurve", BLACK_IS_ZERO, 291, (3, [*range(256)]), None),
    ("DotRange", RGB, 336, (3, [255, 0]), (3, [0, 255])),
    ("DotRange", CMYK, 336, (1, [5, 255] * 4), (1, [0, 255] * 4)),
    ("Decode", BLACK_IS_ZERO, 433, (11, [1.0, 0.0]), None),
    ("ReferenceBlackWhite", RGB, 532, (5, [16, 1, 235, 1] * 3), (5, [0, 1, 255, 1] * 3)),
    ("Indexed", BLACK_IS_ZERO, 346, (3, [1]), (3, [0])),
]
# Tags that describe an image, or that say how to show it.
DESCRIPTIVE = {280: (3, [9]), 281: (3, [200]), 340: (3, [9]), 301: (3, [*range(0, 65_536, 257)])}


@pytest.mark.parametrize(("name", "photometric", "code", "other", "usual"), SCALES)
def test_scales_are_refused_by_name(
    tmp_path: Path, name: str, photometric: int, code: int, other: Any, usual: Any
) -> None:
    channels = {BLACK_IS_ZERO: 1, RGB: 3, CMYK: 4}[photometric]
    path = tmp_path / "a.tif"
    with pytest.raises(UserError, match=rf"a\.tif: .*{name}"):
        read(path, photometric, channels, tags={code: other})
    if usual:
        plain = read(path, photometric, channels)
        np.testing.assert_array_equal(read(path, photometric, channels, tags={code: usual}), plain)


@pytest.mark.parametrize("code", DESCRIPTIVE)
def test_descriptive_tags_change_nothing(tmp_path: Path, code: int) -> None:
    image = read(tmp_path / "a.tif", tags={code: DESCRIPTIVE[code]})
    np.testing.assert_array_equal(image[:1], known())


def test_unlike_formats_of_samples_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?i)a\.tif: .*SampleFormat"):
        read(tmp_path / "a.tif", RGB, 3, tags={339: (3, [1, 1, 2])})


@pytest.mark.parametrize(
    "text",
    [
        "shape=(7, 11)",
        "shape=(7,)",
        "shape=round",
        "shape=",
        '{"shape": broken',
        '{"shape": null}',
        '{"shape": "round"}',
        '{"a": {"shape": [5, 7, 11]}, "b": "shape"}',
        '{"note": "\\"shape\\": 5"}',
    ],
)
def test_descriptions_are_texts(tmp_path: Path, text: str) -> None:
    image = read(tmp_path / "a.tif", tags={270: (2, [*text.encode(), 0])})
    np.testing.assert_array_equal(image[:1], known())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("shape=(5, 7, 11)", "5 frames"),
        ("ImageJ=1.53\nimages=1\ncf=0\nc0=-32768\nc1=1\n", "calibration"),
    ],
)
def test_what_a_program_notes_of_its_file_counts(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(UserError, match=rf"a\.tif: .*{found}"):
        read(tmp_path / "a.tif", tags={270: (2, [*text.encode(), 0])})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("orientation", [0, 6, 9])
def test_an_orientation_is_a_whole_number_from_1_to_8(
    tmp_path: Path, kind: int, orientation: int, order: str
) -> None:
    numbers = [orientation, 1] if kind == 5 else [orientation]
    image = read(tmp_path / "a.tif", tags={274: (kind, numbers)}, order=order)
    turns = orientation == 6 and kind not in (5, 11)
    right = turned(known(), 6, inverse=True) if turns else known()
    np.testing.assert_array_equal(image[:1], right)


def test_an_orientation_in_xmp_has_to_agree(tmp_path: Path) -> None:
    packet = 1, list(b'<x tiff:Orientation="6"/>')
    with pytest.raises(UserError, match=r"a\.tif: .*orientation 6"):
        read(tmp_path / "a.tif", tags={700: packet})
    image = read(tmp_path / "a.tif", tags={700: packet, 274: (3, [6])})
    assert image.shape[1:] == SIDES[::-1]


@pytest.mark.parametrize("top", [255, 256])
def test_a_map_without_a_number_of_256_is_one_of_8_bits(tmp_path: Path, top: int) -> None:
    colours = np.random.default_rng(top).integers(0, 256, (3, 256))
    colours[0, 0] = top
    image = read(tmp_path / "a.tif", PALETTE, tags={320: (3, colours.ravel().tolist())})
    assert image.dtype == (np.uint8 if top == 255 else np.uint16)
    np.testing.assert_array_equal(image, colours[:, known()[0]])
