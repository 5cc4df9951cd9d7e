"""The raw files of a data set: found, or downloaded and unpacked by torchvision, and checked."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from diffusion_ood.data.sources.base import Download, RawFiles, RawLocation, Source
from diffusion_ood.errors import UserError

DRIVE = "drive:"


def find_files(location: RawLocation, names: Iterable[str]) -> RawFiles | None:
    """The files and folders of these names, each also with `.gz`; None if one is missing."""
    found = {}
    for name in names:
        candidates = (
            path for folder in location.folders for path in (folder / name, folder / f"{name}.gz")
        )
        path = next(filter(Path.exists, candidates), None)
        if path is None:
            return None
        found[name] = path
    return found


def fetch_files(location: RawLocation, source: Source) -> RawFiles:
    """The raw files of a data set; those that are missing are downloaded or unpacked.

    Raises:
        UserError: a file is not available, or differs from the published one.
    """
    for file in source.downloads:
        top = file.folder or file.name.removesuffix(".gz")
        if find_files(location, [name for name in source.files if name.split("/")[0] == top]):
            continue
        path = (find_files(location, [file.name]) or {}).get(file.name)
        path = path or _download(location, file, [wanted.name for wanted in source.downloads])
        if file.folder:
            verify(location.name, path, file.md5, lambda archive: archive.open("rb"))
            unpack(path, location.raw_dir, file.folder)
    found = find_files(location, source.files)
    assert found is not None, "the MD5 of every download was right"
    return found


def open_maybe_gzip(path: Path) -> IO[bytes]:
    """Open a file of bytes, uncompressing it if its name ends with `.gz`."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value] # gzip's file reads bytes


def verify(
    name: str, path: Path, expected: str, opened: Callable[[Path], IO[bytes]] = open_maybe_gzip
) -> None:
    """Compare the MD5 or SHA-256 of a file's uncompressed content, by the digest's length.

    Raises:
        UserError: it is another file, or a damaged one.
    """
    kind = {32: "md5", 64: "sha256"}[len(expected)]
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with opened(path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read whole ({error})") from None
    if digest.hexdigest() != expected:
        raise UserError(
            f"{path}: found {kind} {digest.hexdigest()}, expected {expected} for {name}; "
            "the file is damaged or belongs to another data set"
        )


def unpack(archive: Path, target: Path, folder: str) -> None:
    """Unpack the top folder of a ZIP or tar archive into `target`: the whole folder or nothing.

    Raises:
        UserError: the archive is damaged or has no such folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=f".{folder}.") as temporary:
        try:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as file:
                    names = [name for name in file.namelist() if name.startswith(f"{folder}/")]
                    file.extractall(temporary, names)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise UserError(f"{archive}: not a whole archive ({error})") from None
        if not Path(temporary, folder).is_dir():
            raise UserError(f"{archive}: found no folder {folder} in it")
        shutil.rmtree(target / folder, ignore_errors=True)  # an incomplete one
        shutil.move(Path(temporary, folder), target / folder)


def _download(location: RawLocation, file: Download, wanted: list[str]) -> Path:
    """Download one file into the data set's raw folder, unless it is there already."""
    from torchvision.datasets.utils import download_file_from_google_drive, download_url

    md5 = file.md5 if len(file.md5) == 32 else None  # fetch_files compares the others
    reason = f"not all of its files are in {location.source_dir or location.raw_dir}"
    if location.source_dir is None and location.download:
        try:
            if file.url.startswith(DRIVE):
                drive_id = file.url.removeprefix(DRIVE)
                download_file_from_google_drive(drive_id, location.raw_dir, file.name, md5)
            else:
                download_url(file.url, location.raw_dir, file.name, md5)
            return location.raw_dir / file.name
        except Exception as error:  # the network and the servers fail in many ways
            # the reason's first line: some libraries add a page of advice
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"{file.name} cannot be downloaded ({lines[0]})"
    raise UserError(
        f"{location.name}: {reason}; put {', '.join(wanted)} into {location.raw_dir} and run "
        "again, or give the folder that holds them with `source_dir`=FOLDER"
    )
