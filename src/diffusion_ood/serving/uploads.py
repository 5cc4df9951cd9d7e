"""The files of a request: read into memory within limits, and decoded from there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

import torch
from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from diffusion_ood.data.readers import read_image_bytes
from diffusion_ood.data.transforms import preparation, prepared_size
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

FIELD = "files"
MAX_NAME = 200


class Upload(NamedTuple):
    """A file of a request: its name as it is shown, and its content."""

    name: str
    data: bytes


class _InMemory(MultiPartParser):
    """A parser that never writes a file to a disk, and knows whether it saw the last boundary."""

    spool_max_size = 0  # without a limit; what a request may have in all is counted as it comes
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_uploads(
    request: Request, max_bytes: int, max_files: int, hold: Callable[[int], None]
) -> list[Upload]:
    """The files of a multipart request, in order.

    Args:
        request: whose body has not been read.
        max_bytes: of the body.
        max_files: in it.
        hold: is told how many bytes came each time; raises where there is no room for them.

    Raises:
        HTTPException: 400, 413, 415 or 422 with a sentence.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"expected multipart/form-data with files in the field {FIELD}")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise _too_large(max_bytes)

    async def counted() -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            hold(len(chunk))
            yield chunk

    parser = _InMemory(request.headers, counted(), max_files=max_files, max_fields=max_files)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a multipart body: {error.message}") from None
    if not parser.ended:
        raise HTTPException(400, "the multipart body ends before its last boundary")
    return [Upload(shown_name(file.filename or ""), await file.read()) for file in _files(form)]


def _files(form: FormData) -> list[UploadFile]:
    """The files of the one field that there may be."""
    files = []
    for field, value in form.multi_items():
        if field != FIELD or not isinstance(value, UploadFile):
            kind = "file" if isinstance(value, UploadFile) else "text"
            found = f"a {kind} in the field {shown_name(field)}"
            raise HTTPException(422, f"found {found}, expected files in the field {FIELD}")
        files.append(value)
    if not files:
        raise HTTPException(422, f"found no files in the field {FIELD}, expected at least one")
    return files


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"expected a request of at most {max_bytes / 1e6:g} MB")


def shown_name(name: str) -> str:
    """A client's name for something as one line of text; of a long one its end, with the suffix."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[-MAX_NAME:])


class Decoder:
    """Turns uploads into images of the model's shape, exactly as files are read.

    Not to be called by two threads at once: reading TIFF collects what is logged meanwhile.
    """

    def __init__(self, options: ImageOptions, shape: tuple[int, ...], max_pixels: int) -> None:
        self._options, self._shape, self._max_pixels = options, shape, max_pixels
        self._prepare = preparation(options)

    def __call__(self, upload: Upload) -> torch.Tensor:
        """The pixels (C, *S) in [0, 1].

        Raises:
            UserError: no image, or one that does not become one of the model's shape.
        """
        stored = read_image_bytes(upload.data, upload.name, self._options, self._max_pixels)
        sides = stored.shape[1:]
        try:
            fits = prepared_size(sides, self._options) == self._shape[1:]
        except UserError:  # a crop that is larger than the image
            fits = False
        if not fits:
            found, expected = (" x ".join(map(str, part)) for part in (sides, self._shape[1:]))
            raise UserError(
                f"{upload.name}: found {found} pixels, which do not become {expected} as the "
                "detector's images"
            )
        return torch.as_tensor(self._prepare(stored))
