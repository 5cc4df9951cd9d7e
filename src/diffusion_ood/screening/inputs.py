"""Which images are screened: files, folders of them, and splits, on a disk or at URLs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from diffusion_ood.data.formats import dicom, nifti
from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import SUFFIXES, image_suffix
from diffusion_ood.data.remote import Remote, files_below, is_url, plain, shown, starts
from diffusion_ood.data.slices import parts
from diffusion_ood.data.splits import Edit, Split, read_split
from diffusion_ood.data.studies import UNKNOWN, places_of, series_or_unknown
from diffusion_ood.data.transforms import flip
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.paths import expanded
from diffusion_ood.runtime.files import as_cell
from diffusion_ood.runtime.words import counted

LISTS = (".csv", ".txt")
File = TypeVar("File", Path, Remote)


@dataclass(frozen=True)
class Item:
    """An image that is to be screened.

    Attributes:
        name: by which its decision is known; its path as text.
        path: of its file, or what is at a URL.
        within: its path within the folder or split that names it, by which groups are told apart.
        edit: how it is turned, as its split says.
        series: digest of the DICOM series, of a file that was found in a folder.
    """

    name: str
    path: Path | Remote
    within: str
    edit: Edit | None = None
    series: str | None = None

    def read(self, reader: Reader) -> Tensor:
        """The image as the model sees it, `(C, *S)`; UserError where it cannot be read."""
        if isinstance(self.path, Remote):
            image = reader.content(self.path.read().data, self.path.name, nifti.MAX_VOXELS)
        else:
            image = reader.read(self.path)
        return flip(image[None], self.edit, reader.options)[0]


def gather(places: Sequence[str | Path], without: Sequence[Path | None] = ()) -> list[Item]:
    """Every image of these files, folders, split CSVs and image lists, or URLs of them, each once.

    Folders are searched through, but for those `without`, which are results, and hidden and linked
    ones; files in them that are no images by their names, nor DICOM, are passed over, and counted
    aloud, as DICOM without an image is. Every DICOM file is an image here, see `for_model`.

    Raises:
        UserError: a split that is wrong, a folder without an image, a path without a file, or two
            URLs that differ in their credentials or queries alone.
    """
    found: dict[str, Item] = {}
    left_out = [Path(os.path.realpath(folder)) for folder in without if folder is not None]
    for place in places:
        for item in _items(place, left_out):
            other = found.setdefault(item.name, item)
            if other.path != item.path:
                raise UserError(f"{item.name}: found two files whose names read so, expected one")
    return list(found.values())


def for_model(items: Sequence[Item], options: ImageOptions) -> list[Item]:
    """What these items are to a model: of volumes, or of their slices, a series of DICOM is one.

    Of a model of slices every slice is an item.
    """
    if options.spatial_dimension == 2 and options.slices is None:
        return list(items)
    local = [(item.path, item.series) for item in items if isinstance(item.path, Path)]
    places = places_of({path: series for path, series in local if series is not None})
    found: dict[str, Item] = {}
    for item in items:
        if isinstance(item.path, Remote):
            _refuse_volume(item.path, options)
            found.setdefault(item.name, item)
            continue
        place = places.get(item.path)
        known = place is None or place.path == item.path
        own = item if place is None or known else _of_series(item, item.path, place)
        whole = str(own.path)
        for part in parts(Path(whole), options):
            path = Path(whole + part)
            one = replace(own, name=own.name + part, path=path, within=own.within + part)
            found.setdefault(one.name, one)
    return list(found.values())


def _refuse_volume(file: Remote, options: ImageOptions) -> None:
    """Refuse what is read from several files, or several times, and so from a disk alone."""
    suffix = image_suffix(file.name)
    if suffix is None or (options.slices is not None and suffix in nifti.SUFFIXES):
        raise UserError(
            f"{file}: found what no volume or slice is read of at a URL, expected a path, or for a "
            "model of volumes NIfTI; copy the folder to a disk"
        )


def _of_series(item: Item, path: Path, place: Place) -> Item:
    """The series that a file is of."""
    depth = len(path.relative_to(place.path).parts)
    folder = Path(item.within).parents[depth - 1]
    name = place.path.resolve().name if folder == Path() else str(folder)
    series = str(place)[len(str(place.path)) :]
    return Item(as_cell(str(place)), Path(str(place)), f"{as_cell(name)}{series}")


def _series(path: Path) -> str | None:
    """The digest of a DICOM file's series, `UNKNOWN` of another image, None of what is none."""
    if image_suffix(path.name):
        return UNKNOWN
    is_one = path.suffix.lower() == dicom.SUFFIX or dicom.is_dicom(path)
    return series_or_unknown(path) if is_one else None


def _items(place: str | Path, left_out: Sequence[Path]) -> Iterator[Item]:
    text = plain(str(place))
    if is_url(text):
        yield from _at_url(text)
        return
    place = expanded(text)
    if place.is_dir():
        everything = {path: _series(path) for path in _walk(place, left_out)}
        without = sum(dicom.is_dicom(path) for path, one in everything.items() if one is None)
        for path, series in _images(str(place), everything, without).items():
            within = as_cell(str(path.relative_to(place)))
            yield Item(as_cell(str(path)), path, within, series=series or None)
    elif place.suffix.lower() in LISTS:
        yield from _of_split(read_split(place))
    elif Place.of(place).path.exists():
        yield Item(as_cell(str(place)), place, as_cell(place.name))
    else:
        raise UserError(f"{place}: no such file or folder, expected images")


def _at_url(url: str) -> Iterator[Item]:
    """The images of a folder at a URL, of a list there, or the one."""
    name, files = shown(url), files_below(url)
    folder, _, last = name.rpartition("/")
    if files is not None:
        unknown = [f for f in files if not f.name.lower().endswith((*SUFFIXES, dicom.SUFFIX))]
        magic = dicom.PREAMBLE, dicom.PREAMBLE + len(dicom.MAGIC)
        begun = zip(unknown, starts(unknown, magic[1]), strict=True)
        others = {file for file, start in begun if start[slice(*magic)] != dicom.MAGIC}
        everything = {file: None if file in others else UNKNOWN for file in files}
        for file in _images(name, everything, 0):
            within = file.name.removeprefix(f"{name.rstrip('/')}/")
            yield Item(as_cell(file.name), file, as_cell(within))
    elif last.lower().endswith(LISTS):
        content = Remote.of(url).read().data
        try:
            split = read_split(Path(last), content=content)
            yield from _of_split(split, url.partition("?")[0].rpartition("/")[0])
        except UserError as error:
            raise UserError(f"{folder}/{error}") from None
    else:
        yield Item(as_cell(name), Remote.of(url), as_cell(last))


def _images(name: str, everything: Mapping[File, str | None], reports: int) -> dict[File, str]:
    """The images of a folder with their series; what else it holds is counted aloud."""
    files = {path: series for path, series in everything.items() if series is not None}
    others = len(everything) - len(files) - reports
    for count, kind in (
        (others, "without an image's name"),
        (reports, "of DICOM without an image"),
    ):
        if count:
            print(f"{name}: passed over {counted(count, 'file')} {kind}", file=sys.stderr)
    if not files:
        raise UserError(
            f"{name}: found no image, expected files such as {', '.join(SUFFIXES)}, or DICOM"
        )
    return files


def _of_split(split: Split, folder: str | None = None) -> Iterator[Item]:
    """The images of a split, or of one that lies in a folder at a URL."""
    edited = f" ({split.edit})" if split.edit else ""
    for number, image in enumerate(map(plain, split.images)):
        url = image if is_url(image) else ""
        if not url and folder is not None and not os.path.isabs(image):
            url = f"{folder}/{image}"
        try:
            path = Remote.of(url) if url else split.image_path(number)
        except UserError as error:
            raise split.error(number, error) from None
        within = shown(image).partition("://")[2] if is_url(image) else split.images[number]
        yield Item(as_cell(f"{path}{edited}"), path, as_cell(within), split.edit)


def _walk(folder: Path, left_out: Sequence[Path]) -> Iterator[Path]:
    """Files below a folder by name, hidden ones left out."""
    for path, folders, files in os.walk(folder):
        kept = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [
            n for n in kept if Path(os.path.realpath(os.path.join(path, n))) not in left_out
        ]
        yield from (Path(path, name) for name in sorted(files) if not name.startswith("."))
