"""DICOM's elements: some of a file's are read, and nothing that pydicom says of them gets out."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from diffusion_ood.data.complaints import Aside, ignoring
from diffusion_ood.data.formats.base import Refusal

if TYPE_CHECKING:
    from pydicom import Dataset

_PYDICOM = Aside("pydicom")

HEAD = 1 << 16  # bytes within which a file names its transfer syntax


def functional(dataset: Dataset, number: int, macro: str) -> Dataset:
    """The item of a macro that holds for a frame: its own, the shared one, or the whole file."""
    own, shared = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
    for groups, at in ((own, number), (shared, 0)):
        items = dataset.get(groups) or ()
        if len(items) > at and items[at].get(macro):
            return items[at].get(macro)[0]
    return dataset


def whole(dataset: Dataset, tag: str, default: int | None = None) -> int:
    """A whole number; Refusal where it is missing and nothing stands for it."""
    try:
        value = dataset.get(tag)
        return int(value if value is not None or default is None else default)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(f"found no {tag}, or none that is a whole number, expected it") from None


def floats(dataset: Dataset, tag: str, count: int) -> tuple[float, ...] | None:
    """So many finite numbers; None where there is nothing; Refusal of anything else."""
    try:
        value = dataset.get(tag)
        if value is None or value == "":
            return None
        numbers = tuple(map(float, [value] if isinstance(value, float | int) else value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise Refusal(f"found no {tag} of {count} finite numbers, expected them")
    return numbers


def read_tags(file: BinaryIO, tags: Sequence[str], *, pixels: bool = False) -> Dataset:
    """Some elements of a file, and its meta information; within `quiet`."""
    import pydicom
    from pydicom.filereader import read_partial
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(0)
    try:  # pydicom inflates at once, to a thousand times as much; of this piece it may
        start = read_partial(io.BytesIO(file.read(HEAD)), lambda *_: True)
        deflated = start.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except zlib.error:
        deflated = True
    if deflated:
        raise Refusal("found a file that is deflated as a whole, which is not read here")
    file.seek(0)
    return pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=list(tags))


@contextmanager
def quiet() -> Iterator[None]:
    """Turn pydicom's complaints into a `Refusal`, and let none out: they quote patients' tags."""
    try:
        with _PYDICOM, ignoring(""):
            yield
    except (Refusal, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise Refusal("not a whole DICOM file") from None
    except Exception as error:
        raise Refusal(f"not a whole DICOM file ({type(error).__name__})") from None
