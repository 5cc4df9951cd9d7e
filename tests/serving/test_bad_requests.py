"""Requests that are wrong: each is answered 4xx with one sentence, and the service goes on."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import png

GOOD = png(100)
TYPE = "multipart/form-data; boundary=b"
Request = dict[str, Any]


def body(*parts: bytes, end: bytes = b"--b--\r\n", kind: str = TYPE) -> Request:
    content = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": content, "headers": {"Content-Type": kind}}


def part(content: bytes, disposition: str = 'form-data; name="files"; filename="a.png"') -> bytes:
    return (
        f"Content-Disposition: {disposition}\r\n\r\n".encode("utf-8", "surrogateescape") + content
    )


def file(content: bytes, name: str = "a.png", field: str = "files") -> Request:
    return {"files": [(field, (name, content))]}


def array(values: np.ndarray, name: str = "a.npy") -> Request:
    stream = io.BytesIO()
    np.save(stream, values)
    return file(stream.getvalue(), name)


def picture(mode: str, size: tuple[int, int] = (8, 8), kind: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **how)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def declared(width: int, height: int) -> bytes:
    """A PNG of which nothing but the sides is there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


HEADER = b"\x93NUMPY\x01\x00v\x00"
FRAMES = {"save_all": True, "append_images": [Image.new("L", (8, 8), 9)]}
BODIES: dict[str, Request] = {
    "no body": {},
    "JSON": {"json": {"files": []}},
    "a form without files": {"data": {"files": "a"}},
    "the bare image": {"content": GOOD, "headers": {"Content-Type": "image/png"}},
    "no type": {"content": GOOD},
    "another multipart": body(part(GOOD), kind="multipart/mixed; boundary=b"),
    "no boundary": body(part(GOOD), kind="multipart/form-data"),
    "an empty boundary": body(part(GOOD), kind="multipart/form-data; boundary="),
    "another boundary": body(part(GOOD), kind="multipart/form-data; boundary=c"),
    "an endless boundary": body(part(GOOD), kind=f"multipart/form-data; boundary={'b' * 999}"),
    "an empty body": body(end=b""),
    "no part": body(),
    "no last boundary": body(part(GOOD), end=b""),
    "a torn last boundary": body(part(GOOD), end=b"--b"),
    "a torn part": body(part(GOOD)[:60], end=b""),
    "a part without headers": body(b"\r\n" + GOOD),
    "a part without a name": body(part(GOOD, 'form-data; filename="a.png"')),
    "a part without a disposition": body(b"Content-Type: image/png\r\n\r\n" + GOOD),
    "a torn header": body(b"Content-Disp"),
    "a header without a colon": body(b"Content-Disposition form-data\r\n\r\n" + GOOD),
    "many headers of a part": body(b"A: b\r\n" * 99 + part(GOOD)),
    "a long header of a part": body(b"A: " + b"b" * 99_999 + b"\r\n" + part(GOOD)),
    "text in the field": body(part(b"a", 'form-data; name="files"')),
    "long text in the field": body(part(b"a" * 2_000_000, 'form-data; name="files"')),
    "another field": file(GOOD, field="file"),
    "another field beside": {"files": [("files", ("a", GOOD)), ("others", ("b", GOOD))]},
    "text beside": {"files": [("files", ("a", GOOD))], "data": {"a": "b"}},
    "too many files": {"files": [("files", ("a", GOOD))] * 65},
    "too many texts": {"files": [("files", ("a", GOOD))], "data": {str(k): "" for k in range(99)}},
    "too many bytes": file(b"\0" * 1_100_000),
    "too many bytes, not declared": {
        "content": iter([body(part(GOOD), end=b"")["content"], b"\0" * 1_100_000]),
        "headers": {"Content-Type": TYPE},
    },
    "maps that are no truth value": {"params": {"maps": "many"}, **file(GOOD)},
}
CONTENTS: dict[str, Request] = {
    "nothing": file(b""),
    "text": file(b"not an image"),
    "a page": file(b"<html><script>alert(1)</script></html>"),
    "a vector drawing": file(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg"),
    "a GIF": file(picture("L", kind="GIF")),
    "a WebP": file(picture("RGB", kind="WEBP")),
    "zeros": file(bytes(10_000)),
    "a torn PNG": file(GOOD[: len(GOOD) // 2]),
    "a PNG's signature": file(GOOD[:8]),
    "a damaged PNG": file(GOOD[:-20] + bytes(8) + GOOD[-12:]),
    "a torn JPEG": file(picture("L", (64, 64), "JPEG")[:300]),
    "a torn TIFF": file(picture("L", (64, 64), "TIFF")[:100]),
    "a torn BMP": file(picture("L", (64, 64), "BMP")[:100]),
    "an animation": file(picture("L", **FRAMES)),
    "several pages": file(picture("L", kind="TIFF", **FRAMES)),
    "transparency": file(picture("RGBA")),
    "other sides": file(png(1, (8, 9))),
    "a bomb": file(declared(9_000, 9_000)),
    "endless sides": file(declared(2**31 - 1, 2**31 - 1)),
    "no sides": file(declared(0, 8)),
    "rows that are not there": file(declared(8, 1_000)),
    "an array of text": array(np.array([["a", "b"]])),
    "an array of objects": array(np.array([[{}]], dtype=object)),
    "an array of complex numbers": array(np.full((8, 8), 1j)),
    "an array that is not finite": array(np.full((8, 8), np.nan)),
    "an array beyond 0 to 1": array(np.full((8, 8), 7.0)),
    "an array of five sides": array(np.zeros((1, 1, 1, 8, 8), np.uint8)),
    "an array without sides": array(np.uint8(3)),
    "an empty array": array(np.zeros((8, 0), np.uint8)),
    "a volume": array(np.zeros((8, 8, 8), np.uint8)),
    "a torn array": file(HEADER, "a.npy"),
    "an array of another kind": file(GOOD, "a.npy"),
    "an array that declares more": file(
        HEADER
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (900000, 900000)}".ljust(117)
        + b"\n"
        + bytes(64),
        "a.npy",
    ),
    "an array of another version": file(b"\x93NUMPY\x09\x00" + bytes(200), "a.npy"),
    "a pickle": file(b"cos\nsystem\n(S'false'\ntR.", "a.npy"),
    "an archive": file(b"PK\x03\x04" + bytes(100), "a.npy"),
    "no NIfTI": file(b"x" * 400, "a.nii"),
    "a torn packed NIfTI": file(b"\x1f\x8b\x08" + bytes(20), "a.nii.gz"),
    "a packed NIfTI of zeros": file(zlib.compress(bytes(500_000), wbits=31), "a.nii.gz"),
    "several files that are none": {"files": [("files", ("a", b"x")), ("files", ("b", b""))]},
}
NAMES = ["../../etc/passwd", "/dev/zero", "C:\\con", "a\0b.npy", "", "\u202egnp.exe", "é" * 2000]
NAMES += ["<img src=x onerror=alert(1)>", "a\r\nSet-Cookie: b=c", ".npy", "file:///etc/passwd"]
CASES = BODIES | CONTENTS | {f"nothing, called {name[:30]!r}": file(b"x", name) for name in NAMES}


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES)
def test_a_bad_request_is_answered_with_a_sentence(
    connect: Callable[..., Any], detector, case: str
) -> None:
    client = connect(max_mb=1.0)
    answer = client.post("/v1/score", **CASES[case])
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"detail"}
    sentence = answer.json()["detail"]
    assert isinstance(sentence, str)
    assert 10 < len(sentence) < 1000
    assert sentence.isprintable()
    assert detector.batches == []
    assert client.post("/v1/score", **file(GOOD)).status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_and_no_path(connect: Callable[..., Any], name: str) -> None:
    content = part(GOOD, f'form-data; name="files"; filename="{name}"')
    answer = connect().post("/v1/score", **body(content))
    if answer.status_code == 200:
        (found,) = answer.json()["files"]
        assert found["name"].isprintable()
        assert len(found["name"]) <= 200
    else:
        assert 400 <= answer.status_code < 500
        assert answer.json()["detail"].isprintable()


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/v1/score", 405),
        ("PUT", "/v1/score", 405),
        ("DELETE", "/v1/detector", 405),
        ("POST", "/", 405),
        ("GET", "/v1/none", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page.css%00", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_other_addresses_and_methods_are_refused(client, method, address, status) -> None:
    answer = client.request(method, address)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "[::2]:8000", "a]"])
def test_another_sites_name_is_refused_where_this_machine_alone_asks(client, host: str) -> None:
    assert client.get("/v1/detector", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machines_names_are_known(client, host: str) -> None:
    assert client.get("/v1/detector", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_is_refused(client, site: str) -> None:
    headers = {"Sec-Fetch-Site": site}
    assert client.post("/v1/score", headers=headers, **file(GOOD)).status_code == 403
    assert client.get("/", headers=headers).status_code == 200
