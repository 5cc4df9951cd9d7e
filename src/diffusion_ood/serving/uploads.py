"""The files of a request: read into memory, within limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

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
