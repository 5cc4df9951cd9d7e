"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`, and rename it to `path` once it is complete and on disk.

    Args:
        path: the file to write; its folder is made if it is missing.
        mode: `"w"` for UTF-8 text without newline translation, `"wb"` for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp"
    )
    try:
        with _naming(path), os.fdopen(descriptor, mode, **text) as file:  # type: ignore[call-overload] # keywords by mode
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only the owner can read
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def whole_records(data: bytes) -> bytes:
    """A CSV file's content without a torn last record: to the last line end outside quotes."""
    end = len(data)
    while (end := data.rfind(b"\n", 0, end)) >= 0:
        if data.count(b'"', 0, end) % 2 == 0:
            return data[: end + 1]
    return b""


def write_through(file: io.FileIO, data: bytes) -> None:
    """Append bytes to an unbuffered file, and wait until they are on disk."""
    with _naming(file.name):
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Add the path to an error of writing, which has only a file descriptor."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")


def as_text(name: str) -> str:
    """A name of a file, in which what is no text is escaped, for what takes text alone."""
    return name.encode("utf-8", "backslashreplace").decode()


def as_cell(text: str) -> str:
    """Text for a cell of a CSV file, which Python's writer does not quote for a carriage return."""
    return as_text(text).replace("\r", "\\r")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: IO[bytes]) -> str:
    """SHA-256 of the rest of an open file."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
