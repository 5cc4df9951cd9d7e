"""Image files before they are decoded: on a disk or in memory, and their decoders' complaints."""

from __future__ import annotations

import io
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

from diffusion_ood.data.complaints import ignoring
from diffusion_ood.data.formats.base import Refusal
from diffusion_ood.data.places import Place
from diffusion_ood.errors import UserError


class Content(NamedTuple):
    """A file that is in memory: as much of a `Path` as reading needs."""

    name: str
    data: bytes

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """The bytes as a file."""
        return io.BytesIO(self.data)


Source: TypeAlias = Path | Content


def file_status(path: Path) -> os.stat_result:
    """The size and times of an image file.

    Raises:
        UserError: it is missing, empty, or not a regular file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        found = f"found a link to nothing, {os.readlink(path)}" if os.path.islink(path) else ""
        raise UserError(
            f"{path}: {found or 'no such file'}, expected an image{_hint(path)}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: found a folder, expected an image file")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
        raise UserError(f"{path}: found a pipe or a device, expected an image file")
    if status.st_size == 0:
        raise UserError(f"{path}: found an empty file, expected an image")
    return status


def _hint(path: Path) -> str:
    """What may have been meant by a path without a file."""
    if "\\" in path.name and os.path.exists(str(path).replace("\\", "/")):
        return "; it is there with / in place of \\"
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, str(path))
        if other != str(path) and os.path.exists(other):
            return f"; it is there in the Unicode form {form}: write its name so"
    return ""


@contextmanager
def refusing(path: Path, *, folders: bool = False) -> Iterator[None]:
    """Turn any exception of a decoder into a sentence that names the file, or the place in it.

    With `folders` it may be a folder, as of a series.
    """
    place = Place.of(path)
    if not (folders and os.path.isdir(place.path)):
        file_status(place.path)
    with sentences(path):
        yield


@contextmanager
def sentences(path: Path | str) -> Iterator[None]:
    """The same where a file is in memory, or was found to be one; sentences begin with its name."""
    try:
        # Pillow warns of what it then repairs or raises; its limit of pixels differs from ours
        with ignoring(r"PIL\b"):
            yield
    except Refusal as error:
        raise UserError(f"{path}: {error}") from None
    except UserError:
        raise
    except MemoryError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # decoders of foreign bytes raise anything
        sentence = f"not a whole image of a known format ({_reason(error)})"
        raise UserError(f"{path}: {sentence}") from error


def _reason(error: Exception) -> str:
    """The first line of what went wrong."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return next(iter(text.strip().splitlines()), type(error).__name__)
