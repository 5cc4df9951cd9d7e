"""Every bad input through the real commands: one sentence and exit code 2, or the right numbers."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

from diffusion_ood import cli
from diffusion_ood.commands import ood_detection, reconstruct
from diffusion_ood.data.loaders import ImageSet, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.detection.table import read_table
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.runtime.files import sha256

Command = Callable[[Sequence[str]], None]
Change = Callable[[Path], object]

ROWS = "".join(f"A_test/{i}.png\n" for i in range(6))
FAR = "A_test/" + 251 * "x" + ".png"


def score_flags(run_dir: Path, data: Path) -> list[str]:
    """The flags that score A_test alone, from one level, by MSE."""
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--in_ids={data / 'A_test.csv'}",
        *("--run_val=0", "--run_out=0", "--budget=1", "--scores=mse"),
        *("--device=cpu", "--compile=off", "--num_workers=0"),
    ]


def written(*folders: Path) -> dict[str, str]:
    """What lies below, by its digest; an empty part and what it will be made with are no result."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {
        str(path): sha256(path)
        for path in files
        if path.suffix != ".json" and path.name != ".lock" and path.stat().st_size
    }


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """`refusal(main, argv)` is the one line on stderr of a run that ends with 2 and leaves nothing.

    Split files and images are not looked at: a test has just changed them.
    """

    def run(main: Command, argv: Sequence[str], code: int = 2) -> str:
        folders = tmp_path / "runs", tmp_path / "data" / ".cache"
        before = written(*folders)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.run(lambda: main(argv))
        error = capsys.readouterr().err
        assert left.value.code == code, error
        assert written(*folders) == before
        (line,) = error.splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture(scope="session")
def plain(trained: Path, splits: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The score table of A_test as it is."""
    run_dir = tmp_path_factory.mktemp("plain") / "A"
    run_dir.mkdir()
    os.link(trained / "checkpoint_best.pth", run_dir / "checkpoint_best.pth")
    reconstruct.main(score_flags(run_dir, splits))
    return read_table(run_dir / "ood" / "results_in.csv")


def scored(run_dir: Path, data: Path, *flags: str) -> pd.DataFrame:
    """The score table of A_test, by the command."""
    reconstruct.main([*score_flags(run_dir, data), *flags])
    return read_table(run_dir / "ood" / "results_in.csv")


# The file and, where one row is wrong, its number and what was found there.
BAD_SPLITS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, r"A_test\.csv: "),
    "empty": (b"", r"A_test\.csv: .*empty"),
    "blank": (b"\n\n", r"A_test\.csv: .*empty"),
    "header only": (b"image,label\n", r"A_test\.csv: .*header"),
    "semicolons": (b"image;label\na.png;1\n", r"A_test\.csv, row 1: .*;"),
    "no header": (b"a.png\nb.png\n", r"A_test\.csv, row 1: .*'a\.png'"),
    "Latin-1": (b"image\nb\xe4r.png\n", r"A_test\.csv, row 2: .* e4.*UTF-8"),
    "UTF-16": ("image\na.png\n".encode("utf-16"), r"A_test\.csv, row 1: .* ff.*UTF-8"),
    "zero byte": (b"image\na\0b.png\n", r"A_test\.csv, row 2: .*zero byte"),
    "duplicated rows": (f"image\n{ROWS}A_test/2.png\n".encode(), r"row 8: .*A_test/2\.png.*row 4"),
    "too many cells": (b"image\na.png,1\n", r"A_test\.csv, row 2: .*2 cells"),
    "empty cell": (b"image,label\na.png,\n", r"A_test\.csv, row 2: .*empty"),
    "open quote": (b'image\n"a.png\n', r"A_test\.csv, row 2: "),
    "a hole in one row": (b"/a.png,,/b.png\n", r"A_test\.csv, row 1: cell 2 "),
    "no such image": (b"image\nA_test/0.png\nx.png\n", r"row 3: .*x\.png: "),
    "name of 300 bytes": (b"image\n" + 300 * b"x" + b".png\n", r"row 2: .*File name"),
    "an escape sequence": (b"image\n\x1b[2J.png\n", r"row 2: .*\\x1b\[2J\.png: "),
    "a newline in a name": (b'image\n"a\nb.png"\n', r"row 2: .*a\\nb\.png: "),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_a_split_that_is_none(
    case: str, refusal: Callable[..., str], run_dir: Path, own_splits: Path
) -> None:
    content, sentence = BAD_SPLITS[case]
    path = own_splits / "A_test.csv"
    path.unlink() if content is None else path.write_bytes(content)
    refused = refusal(reconstruct.main, score_flags(run_dir, own_splits))
    assert re.search(f"error: .*{sentence}", refused)


GOOD_SPLITS = {
    "byte order mark": "\ufeffimage\n" + ROWS,
    "CRLF": "image\r\n" + ROWS.replace("\n", "\r\n"),
    "quotes": "image\n" + "".join(f'"A_test/{i}.png"\n' for i in range(6)),
    "labels with commas": "image,label\n" + ROWS.replace("\n", ',"a, b"\n'),
    "one row of paths": ROWS.strip().replace("\n", ",") + "\n",
    "no last line end": "image\n" + ROWS.strip(),
}


@pytest.mark.parametrize("case", GOOD_SPLITS)
def test_a_split_in_another_writing_gives_the_same_table(
    case: str, run_dir: Path, own_splits: Path, plain: pd.DataFrame
) -> None:
    (own_splits / "A_test.csv").write_bytes(GOOD_SPLITS[case].encode())
    pd.testing.assert_frame_equal(scored(run_dir, own_splits), plain, rtol=1e-5)


def test_a_million_rows(run_dir: Path, own_splits: Path, plain: pd.DataFrame) -> None:
    more = "".join(f"A_test/{i:07d}.png\n" for i in range(1_000_000 - 6))
    (own_splits / "A_test.csv").write_text("image\n" + ROWS + more)
    begin = time.process_time()
    table = scored(run_dir, own_splits, "--first_n=6")
    assert time.process_time() - begin < 15  # 2 s measured
    pd.testing.assert_frame_equal(table, plain, rtol=1e-5)


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    rng = np.random.default_rng(0)
    image = image or Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values), allow_pickle=True)
    return file.getvalue()


def animated() -> bytes:
    return encoded(
        "GIF",
        Image.new("L", (8, 8), 1),
        save_all=True,
        append_images=[Image.new("L", (8, 8), 200)],
    )


def replaced_by(make: Callable[[Path], object]) -> Change:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


# What the image holds, or the reason of the system.
BAD_IMAGES: dict[str, tuple[str, bytes | Change, str]] = {
    "missing": ("png", Path.unlink, ""),
    "zero bytes": ("png", b"", "empty"),
    "truncated PNG": ("png", cut(encoded("PNG")), "whole"),
    "truncated JPEG": ("jpg", cut(encoded("JPEG")), "whole"),
    "truncated NPY": ("npy", cut(array(np.zeros((8, 8)))), "whole"),
    "text": ("png", b"<script>alert(1)</script>", "PNG, JPEG, TIFF, BMP, DICOM, NPY"),
    "animated GIF": ("png", animated(), "PNG, JPEG, TIFF, BMP, DICOM, NPY"),
    "animated GIF by its name": ("gif", animated(), "PNG, JPEG, TIFF, BMP, DICOM, NPY"),
    "transparent": ("png", encoded("PNG", Image.new("RGBA", (8, 8))), "transparent"),
    "1 x 1": ("png", encoded("PNG", Image.new("L", (1, 1))), "1 x 1 .*8 x 8"),
    "mixed sizes": ("png", encoded("PNG", Image.new("L", (9, 8))), "8 x 9 .*8 x 8"),
    "NaN": ("npy", array(np.full((8, 8), np.nan)), "finite"),
    "infinity": ("npy", array(np.full((8, 8), np.inf)), "finite"),
    "beyond 0 to 1": ("npy", array(np.full((8, 8), -3.0)), "-3 to -3.*--intensity_range"),
    "four channels": ("npy", array(np.zeros((8, 8, 4))), r"\(8, 8, 4\)"),
    "two channels": ("npy", array(np.zeros((2, 8, 8))), r"\(2, 8, 8\)"),
    "complex": ("npy", array(np.zeros((8, 8), complex)), "complex128"),
    "objects": ("npy", array(np.array([[{}]])), ""),
    "no pixels": ("npy", array(np.zeros((0, 8))), r"\(1, 0, 8\)"),
    "a directory": ("png", replaced_by(Path.mkdir), "folder"),
    "a dangling link": (
        "png",
        replaced_by(lambda path: path.symlink_to("nowhere.png")),
        r"nowhere\.png",
    ),
    "a link to itself": (
        "png",
        replaced_by(lambda path: path.symlink_to(path.name)),
        "Too many levels",
    ),
    "a pipe": ("png", replaced_by(os.mkfifo), "pipe"),
    "a device": ("png", replaced_by(lambda path: path.symlink_to("/dev/zero")), "device"),
    "below a file": ("png/x.png", lambda path: path.parent.write_bytes(b"x"), "Not a directory"),
}


UNPACKED = {f"{case}, unpacked": case for case in ("missing", "truncated PNG", "NaN", "1 x 1")}


@pytest.mark.parametrize("case", [*BAD_IMAGES, *UNPACKED])
def test_an_image_that_is_none(
    case: str, refusal: Callable[..., str], run_dir: Path, own_splits: Path
) -> None:
    suffix, content, sentence = BAD_IMAGES[UNPACKED.get(case, case)]
    name = f"A_test/bad.{suffix}"
    if isinstance(content, bytes):
        (own_splits / name).write_bytes(content)
    else:
        if "/x" not in name:
            (own_splits / name).touch()
        content(own_splits / name)
    (own_splits / "A_test.csv").write_text(f"image\nA_test/0.png\n{name}\nA_test/1.png\n")
    argv = [*score_flags(run_dir, own_splits), f"--cache_data={int(case not in UNPACKED)}"]
    line = refusal(reconstruct.main, argv)
    assert re.search(rf"error: .*A_test\.csv, row 3: .*bad\.{suffix}: .*{sentence}", line)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file of one bit a pixel, which inflates to what its header says."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", b"x")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    refusal: Callable[..., str],
    run_dir: Path,
    own_splits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = own_splits / "bomb.png"
    bomb.write_bytes(png_header(20_000, 20_000))
    (own_splits / "A_test.csv").write_text("image\nbomb.png\n")

    def no_decoding(image: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    for cache in (0, 1):
        argv = [*score_flags(run_dir, own_splits), f"--cache_data={cache}"]
        line = refusal(reconstruct.main, argv)
        assert re.search(r"bomb\.png: .*400000000.*100000000", line)


def as_palette(grey: Image.Image) -> Image.Image:
    """The image with its values in a palette, backwards."""
    image = Image.fromarray(255 - np.asarray(grey)).convert("P")
    image.putpalette([255 - v for v in range(256) for _ in range(3)])
    image.putdata((255 - np.asarray(grey)).ravel().tolist())
    return image


def as_cmyk(grey: Image.Image) -> Image.Image:
    black = Image.fromarray(255 - np.asarray(grey))
    none = Image.new("L", grey.size)
    return Image.merge("CMYK", (none, none, none, black))


def as_sixteen_bits(grey: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)


GOOD_IMAGES: dict[str, Callable[[Image.Image], bytes]] = {
    "16-bit": lambda grey: encoded("PNG", as_sixteen_bits(grey)),
    "16-bit TIFF": lambda grey: encoded("TIFF", as_sixteen_bits(grey)),
    "palette": lambda grey: encoded("PNG", as_palette(grey)),
    "opaque alpha": lambda grey: encoded("PNG", grey.convert("RGBA")),
    "grey and alpha": lambda grey: encoded("PNG", grey.convert("LA")),
    "colours": lambda grey: encoded("PNG", grey.convert("RGB")),
    "CMYK": lambda grey: encoded("TIFF", as_cmyk(grey)),
    "BMP": lambda grey: encoded("BMP", grey),
}


@pytest.mark.parametrize("case", GOOD_IMAGES)
def test_an_image_in_another_format_gives_the_same_scores(
    case: str, run_dir: Path, own_splits: Path, plain: pd.DataFrame
) -> None:
    """The name stays, which the noise depends on: formats are told by content."""
    path = own_splits / "A_test" / "1.png"
    with Image.open(path) as image:
        content = GOOD_IMAGES[case](image.copy())
    path.write_bytes(content)
    table = scored(run_dir, own_splits)
    pd.testing.assert_frame_equal(table, plain, rtol=1e-4)


def test_a_constant_image_is_scored(run_dir: Path, own_splits: Path) -> None:
    path = own_splits / "A_test" / "1.png"
    Image.new("L", (8, 8), 128).save(path)
    table = scored(run_dir, own_splits).set_index("filename")
    assert 0 < table.loc["A_test/1.png", "mse"] < 1
    images = opened(own_splits)
    assert torch.equal(images.batch([1]), torch.full((1, 1, 8, 8), 128 / 255))


def opened(data: Path) -> ImageSet:
    grey, loading = ImageOptions(is_grayscale=True), LoadingOptions(num_workers=0)
    return open_images(read_split(data / "A_test.csv"), grey, loading, progress=False)


NAMES = {
    "spaces": "A_test/ two  words .png",
    "quotes": "A_test/\"double\" and 'single'.png",
    "comma": "A_test/a,b.png",
    "newline": "A_test/first\nsecond.png",
    "script": "A_test/<script>alert(1)<%2Fscript>.png",
    "255 bytes": FAR,
    "other letters": "A_test/βρόχος 画像.png",
    "a percent": "A_test/%s{0}$HOME.png",
    "not a number": "A_test/NA.png",
}


@pytest.mark.parametrize("case", NAMES)
def test_any_name_is_a_name(
    case: str, run_dir: Path, own_splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = NAMES[case]
    shutil.copy(own_splits / "A_test" / "1.png", own_splits / name)
    quoted = '"' + name.replace('"', '""') + '"'
    (own_splits / "A_test.csv").write_text(f"image\nA_test/0.png\n{quoted}\n")
    table = scored(run_dir, own_splits)
    assert list(table["filename"]) == ["A_test/0.png", name]
    with Image.open(own_splits / "A_test" / "1.png") as image:
        expected = np.asarray(image, dtype=np.float32) / 255
    np.testing.assert_array_equal(opened(own_splits).batch([1])[0, 0], expected)
    for own, role in (("val", "val"), ("X", "out")):
        table.assign(type=role).to_csv(run_dir / "ood" / f"results_{own}.csv", index=False)
    ood_detection.main([*score_flags(run_dir, own_splits)[:2], "--n_bootstrap=0"])
    decided = pd.read_csv(run_dir / "ood" / "decisions_X.csv", keep_default_na=False)
    assert list(decided["filename"]) == ["A_test/0.png", name]
