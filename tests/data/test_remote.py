"""What URLs are, what is shown of them, and what becomes of what a file system says."""

from __future__ import annotations

import http.server
import pickle
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.remote import Remote, files_below, is_url, plain, shown, starts
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.screening.inputs import gather


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    files = MemoryFileSystem()
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("simplecache::s3://bucket/a.png", True),
        ("a.png", False),
        ("/data/a.png", False),
        ("C://data/a.png", False),
        ("scan.nii.gz::axial=12", False),
        ("s3:/bucket/a.png", False),
    ],
)
def test_a_url_is_no_path(text: str, expected: bool) -> None:
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a b.png", "s3://bucket/a b.png"),
        ("https://me:se@cret@host:81/a.png", "https://host:81/a.png"),
        ("https://cret@host/a.nii.gz?sig=cret&x=a cret", "https://host/a.nii.gz"),
        ("zip://a.png::https://me:cret@host/b.zip?cret", "zip://a.png::https://host/b.zip"),
        ("abfs://box@one.dfs.core.windows.net/a.png", "abfs://box@one.dfs.core.windows.net/a.png"),
        ("403 of https://me:cret@host/a?sig=cret, sorry", "403 of https://host/a sorry"),
    ],
)
def test_no_secret_of_a_url_is_shown(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_a_file_url_is_a_path() -> None:
    assert plain("file:///data/a%20b.png") == "/data/a b.png"
    assert plain("/data/a%20b.png") == "/data/a%20b.png"


def test_a_folder_is_listed_by_name_without_what_is_hidden(memory: MemoryFileSystem) -> None:
    for name in ("b.png", "a/c.png", ".x/d.png", "a/.e.png", "a/f?g.png"):
        memory.pipe(f"/in/{name}", name.encode())
    memory.pipe("/inner.png", b"")
    files = files_below("memory://in/")
    assert files is not None
    assert [file.name for file in files] == [
        f"memory://in/{n}" for n in ("a/c.png", "a/f?g.png", "b.png")
    ]
    assert [file.read().data for file in files] == [b"a/c.png", b"a/f?g.png", b"b.png"]
    assert starts(files, 3) == [b"a/c", b"a/f", b"b.p"]
    memory.rm("/in/b.png")
    assert starts(files, 3) == [b"a/c", b"a/f", b""]
    with pytest.raises(UserError, match=r"^memory://in/b\.png: "):
        files[-1].read()
    assert files_below("memory://in/a/c.png") is None
    assert files[0] == Remote.of("memory://in/a/c.png")
    assert pickle.loads(pickle.dumps(files[0])).read().data == b"a/c.png"


@pytest.mark.parametrize(
    ("url", "package", "named"),
    [
        ("s3://bucket/in", "s3fs", "s3fs"),
        ("gs://bucket/in", "gcsfs", "gcsfs"),
        ("abfs://bucket/in", "adlfs", "adlfs"),
        ("https://me:cret@host/a.png?cret", "aiohttp", "aiohttp"),
        ("nothing://known/a.png", "s3fs", "nothing"),
    ],
)
def test_a_missing_package_is_named(
    url: str, package: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(known, url.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    for name in [n for n in sys.modules if n.startswith("fsspec.implementations.http")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError) as caught:
        gather([url])
    assert str(caught.value).startswith(f"{shown(url)}: ")
    assert named in str(caught.value)
    assert "cret" not in str(caught.value)
    rows = tmp_path / "a.csv"
    rows.write_text(f"image\n{url}\n")
    with pytest.raises(UserError, match=rf"a\.csv, row 2: .*{named}"):
        gather([rows])


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_training_and_scoring_refuse_urls(tmp_path: Path, on_error: str) -> None:
    path = tmp_path / "a_train.csv"
    path.write_text("image\nhttps://me:cret@host/a.png?cret\n")
    split = read_split(path)
    with pytest.raises(UserError, match=r"a_train\.csv.*row 2.*https://host/a\.png") as caught:
        open_images(split, ImageOptions(), LoadingOptions(on_error=on_error))
    assert "cret" not in str(caught.value)


def test_a_row_that_is_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"image\nfile://{tmp_path}/x%20y.png\n")
    assert read_split(path).image_path(0) == tmp_path / "x y.png"


@pytest.mark.parametrize(
    "text", ["image\n{0}\n{0}\n", "a,{0}\nb\n", "{0}\n"], ids=["twice", "header", "one cell"]
)
def test_a_wrong_split_shows_no_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text.format("https://me:cret@host/a?x=cret"))
    with pytest.raises(UserError) as caught:
        read_split(path)
    assert "cret" not in str(caught.value)


class Requests(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; whose query is not signed is refused."""

    def send_head(self) -> object:
        """The start of an answer."""
        if "sig=cret" not in self.path:
            self.send_error(403)
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_single_files_are_read_by_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a.png").write_bytes(b"content")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Requests, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"http://127.0.0.1:{server.server_port}"
        (item,) = gather([f"{host}/a.png?sig=cret"])
        assert (item.name, item.within) == (f"{host}/a.png", "a.png")
        assert isinstance(item.path, Remote)
        assert item.path.read() == (f"{host}/a.png", b"content")
        for wrong in ("a.png", "b.png?sig=cret"):
            with pytest.raises(UserError, match=f"^{host}/{wrong[0]}") as caught:
                gather([f"{host}/{wrong}"])
            assert "cret" not in str(caught.value)
            rows = tmp_path / "rows.csv"
            rows.write_text(f"image\n{host}/{wrong}\n")
            (lost,) = gather([rows])
            assert isinstance(lost.path, Remote)
            with pytest.raises(UserError, match=f"^{host}/{wrong[0]}") as caught:
                lost.path.read()
            assert "cret" not in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
