"""Files at URLs, of object stores and web servers: whatever fsspec knows.

What is shown of a URL holds no credentials: neither what stands before its @ nor what follows a ?.
A file system is opened where it is read, by credentials of the environment, so that a `Remote` can
go to another process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from diffusion_ood.errors import UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from diffusion_ood.data.opening import Content

_URL = re.compile(r"([A-Za-z][\w+.-]+::)*[A-Za-z][\w+.-]+://")  # two letters: C:// is a drive
# What stands before an @ is a container in abfs://container@account.dfs.core.windows.net.
_SECRET = re.compile(r"(?<!abfs://)(?<!abfss://)(?<=://)[^/\s]*@|\?\S+")


@dataclass(frozen=True)
class Remote:
    """A file at a URL.

    Attributes:
        name: what is shown of it.
        path: of the file in its file system.
        url: as it was given, of the file or of a folder above it.
    """

    name: str
    path: str = field(repr=False)
    url: str = field(repr=False, compare=False)

    @classmethod
    def of(cls, url: str) -> Remote:
        """The file of a URL, of which nothing is read; UserError where fsspec lacks a package."""
        return cls(shown(url), _opened(url)[1], url)

    def read(self, end: int | None = None) -> Content:
        """Its content, as far as an end; UserError where that cannot be had."""
        from diffusion_ood.data.opening import Content  # with NumPy, which names do not need

        files, _ = _opened(self.url)
        with _reaching(self.name):
            return Content(self.name, files.cat_file(self.path, end=end))

    def __str__(self) -> str:
        return self.name


def is_url(text: str) -> bool:
    """Whether a text is a URL, such as s3://bucket/a.png, and no path."""
    return _URL.match(text) is not None


def plain(text: str) -> str:
    """The path of a file:// URL; any other text as it is."""
    local = text.removeprefix("file://")
    return text if local == text else unquote(local)


def shown(text: str) -> str:
    """A text without what is secret in its URLs; of a text that is one, without all of its query.

    A query of a list's row may hold spaces, which end a URL within a sentence.
    """
    return _SECRET.sub("", text.partition("?")[0] if is_url(text) else text)


def files_below(url: str) -> list[Remote] | None:
    """The files of a folder and of those below it by name, hidden ones left out; None of a file.

    The name of each is the folder's, a slash, and its path within.

    Raises:
        UserError: nothing is there, or it cannot be listed.
    """
    files, root = _opened(url)
    name = shown(url).rstrip("/")
    with _reaching(name):
        if files.info(root)["type"] != "directory":
            return None
        start = len(root.rstrip("/")) + 1
        within = {path[start:]: path for path in files.find(root)}
    return [
        Remote(f"{name}/{part}", within[part], url)
        for part in sorted(within)
        if part and not part.endswith("/") and not re.search(r"(^|/)\.", part)
    ]


def starts(remotes: Sequence[Remote], end: int) -> list[bytes]:
    """The first bytes of files of one URL, asked for together; none of what cannot be read."""
    if not remotes:
        return []
    files, _ = _opened(remotes[0].url)
    with _reaching(remotes[0].name):
        found = files.cat_ranges([remote.path for remote in remotes], 0, end, on_error="return")
    return [start if isinstance(start, bytes) else b"" for start in found]


def _opened(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, which fsspec keeps, and the path in it."""
    from fsspec.core import url_to_fs

    with _reaching(shown(url)):
        return url_to_fs(url)


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Turn whatever a file system raises into a sentence that names the URL."""
    try:
        yield
    except MemoryError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file or folder, expected images") from None
    except ImportError as error:
        raise UserError(f"{name}: cannot be read without another package ({error})") from None
    except Exception as error:  # each file system has its own
        said = next(iter(shown(str(error)).strip().splitlines()), "")
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise UserError(f"{name}: cannot be read ({reason})") from None
