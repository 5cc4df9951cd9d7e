"""Splits: which images belong to a set, as a CSV file with the header `image` or `image,label`.

An image list of OpenOOD or OpenMIBOOD, `path label` a line of a `.txt` file, is read as one too.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from diffusion_ood.data.image_lists import SUFFIX, list_root, parse_list
from diffusion_ood.data.remote import is_url, plain, shown
from diffusion_ood.errors import UserError
from diffusion_ood.paths import expanded
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.runtime.words import counted

Edit = Literal["vflip", "hflip", "patched"]

PATCHED = "val_patched"
"""Name of the set of the validation images, each with a patch of another."""

HEADERS = (["image"], ["image", "label"])


@dataclass(frozen=True)
class Split:
    """The images of one set, in the order of their CSV file.

    Attributes:
        name: of the set, with its flip and without `_train`, `_val` or `_test`.
        path: the file that was read.
        images: the paths as written there.
        labels: one text an image, or None where the file has no such column.
        edit: `vflip` turns every image upside down, `hflip` mirrors it left to right, `patched`
            puts a piece of another image of the split in its place.
        root: the folder at which relative paths start; None is the file's own.
        unit: an image is named by a `row` of the file, or by a `cell` of its only row.
        numbers: of each image's row or cell; None for all of them in their order.
    """

    name: str
    path: Path
    images: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    edit: Edit | None = None
    root: Path | None = None
    unit: Literal["row", "cell"] = "row"
    numbers: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image_path(self, i: int) -> Path:
        """Where image number `i` lies; UserError of one at a URL, which screening alone reads."""
        image = plain(self.images[i])
        if is_url(image):
            found = f"found the URL {shown(image)}, expected a path"
            raise self.error(i, f"{found}; screening alone reads URLs, so copy the images")
        return (self.root or self.path.parent) / image

    def number(self, i: int) -> int:
        """The row, or the cell, that names image number `i`; the header is row 1."""
        if self.numbers is not None:
            return self.numbers[i]
        return i + (2 if self.unit == "row" else 1)

    def where(self, i: int) -> str:
        """The file and row that name image number `i`, as an error's first words."""
        return f"{self.path}, {self.unit} {self.number(i)}"

    def error(self, i: int, reason: object) -> UserError:
        """An error about image number `i`, with the row that names it."""
        return UserError(f"{self.where(i)}: {reason}")

    def first(self, n: int) -> Split:
        """The split of the first `n` images."""
        return self.only(range(min(n, len(self))))

    def only(self, indices: Sequence[int]) -> Split:
        """The split of the images of these indices."""
        return replace(
            self,
            images=tuple(self.images[i] for i in indices),
            labels=self.labels and tuple(self.labels[i] for i in indices),
            numbers=tuple(map(self.number, indices)),
        )


def read_split(path: Path, flips: bool = True, content: bytes | None = None) -> Split:
    """Read a split: header `image[,label]`, then one image a row; or one row of paths, no header.

    A file whose name ends with `.txt` is an image list: a path and a label a line.

    With `flips`, a path without a file whose name contains `_vflip` or `_hflip` means the
    split of that name without this part, flipped. With the `content` of a file that lies
    elsewhere, nothing is looked for on this disk.

    Raises:
        UserError: the file is missing, has another content, or names an image twice.
    """
    source, flip, here = path, None, content is None
    if content is None:
        source = expanded(path)
        if flips and not os.path.exists(source):
            source, flip = _without_flip(source)
        content = _bytes(source)
    text = _text(source, content)
    if source.suffix == SUFFIX:
        images, labels = parse_list(source, text)
        _refuse_duplicates(source, images, "image", 1)
        lines = enumerate(text.splitlines(), start=1)
        return Split(
            _name(re.sub(r"^(train|val|valid|test)_", "", source.stem), flip),
            source,
            images,
            labels,
            flip,
            list_root(source, images[0]) if here else None,
            numbers=tuple(number for number, line in lines if line.strip()),
        )
    rows = _rows(source, text)
    name = _name(source.stem, flip)
    if [cell.strip() for cell in rows[0]] not in HEADERS:
        return Split(name, source, _headerless(source, rows), None, flip, unit="cell")
    return Split(name, source, *_columns(source, rows), flip)


def write_split(path: Path, images: Sequence[str], labels: Sequence[str] | None = None) -> None:
    """Write a split in the order given, atomically."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        if labels is None:
            writer.writerow(["image"])
            writer.writerows([image] for image in images)
        else:
            writer.writerow(["image", "label"])
            writer.writerows(zip(images, labels, strict=True))


def _without_flip(path: Path) -> tuple[Path, Edit | None]:
    """The file that a flipped split's name stands for: `X_vflip_test.csv` → `X_test.csv`."""
    found = re.search(r"_(vflip|hflip)(?=_|$)", path.stem)
    if found is None:
        return path, None
    source = path.with_name(path.stem[: found.start()] + path.stem[found.end() :] + path.suffix)
    if not os.path.exists(source):
        raise UserError(f"{path}: no such file, nor is there {source.name} beside it to flip")
    return source, "vflip" if found[1] == "vflip" else "hflip"


def _name(stem: str, flip: Edit | None) -> str:
    name = re.sub(r"_(train|val|test)$", "", stem)
    return f"{name}_{flip}" if flip else name


def _bytes(path: Path) -> bytes:
    if os.path.isdir(path):
        raise UserError(f"{path}: found a folder, expected a CSV file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected a split CSV") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        found = content[error.start : error.end].hex(" ")
        raise UserError(
            f"{path}, row {row}: found the bytes {found}, expected text in UTF-8"
        ) from None
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, row {row}: found a zero byte, expected text")
    return text


def _rows(path: Path, text: str) -> list[list[str]]:
    """The cells of every row that is not blank, with at least one row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error as error:
        raise UserError(f"{path}, row {len(rows) + 1}: not a CSV row ({error})") from None
    while rows and not rows[-1]:  # blank lines at the end name no images
        rows.pop()
    if not rows:
        raise UserError(f"{path}: found an empty file, expected the header image or image,label")
    return rows


def _columns(path: Path, rows: list[list[str]]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The images and labels of the rows below a header, after every check on them."""
    header = [cell.strip() for cell in rows[0]]
    if len(rows) == 1:
        raise UserError(f"{path}: found a header only, expected one image a row below it")
    width = len(header)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != width:
            cells = counted(len(row), "cell")
            raise UserError(f"{path}, row {number}: found {cells}, expected {width}")
        if not all(map(str.strip, row)):
            raise UserError(
                f"{path}, row {number}: found an empty cell, expected {' and '.join(header)}"
            )
    images = tuple(row[0] for row in rows[1:])
    _refuse_duplicates(path, images, "row", 2)
    return images, tuple(row[1] for row in rows[1:]) if width == 2 else None


def _headerless(path: Path, rows: list[list[str]]) -> tuple[str, ...]:
    """The images of a file that is one row of paths, as earlier tools wrote it."""
    cells = rows[0]
    if len(rows) > 1 or not all(os.path.splitext(cell)[1] or not cell.strip() for cell in cells):
        _refuse_header(path, cells)
    if len(cells) == 1 and ";" in cells[0]:
        _refuse_header(path, cells)
    for number, cell in enumerate(cells, start=1):
        if not cell.strip():
            raise UserError(f"{path}, row 1: cell {number} is empty, expected the path of an image")
    _refuse_duplicates(path, cells, "cell", 1)
    return tuple(cells)


def _refuse_header(path: Path, cells: list[str]) -> NoReturn:
    found = shown(",".join(cells))
    found = found if len(found) <= 60 else found[:60] + "…"
    hint = ""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in found:
            hint = f" (the cells are separated by {name}, expected commas)"
    if found in ("image,label", "image"):
        hint = " (the row is one quoted cell, expected no quotes around it)"
    raise UserError(f"{path}, row 1: found {found!r}, expected image or image,label{hint}")


def _refuse_duplicates(path: Path, images: Iterable[str], unit: str, start: int) -> None:
    seen: dict[str, int] = {}
    for number, image in enumerate(images, start):
        # `./a.png` is a.png; where `..` leads depends on links.
        plain = image if ".." in image else os.path.normpath(image)
        first = seen.setdefault(plain, number)
        if first != number:
            raise UserError(
                f"{path}, {unit} {number}: found {shown(image)} again after {unit} {first}, "
                "expected every image once"
            )
