"""Archives that a data set is published as: found or downloaded, and unpacked whole."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from diffusion_ood.data.sources.base import Place, find_files
from diffusion_ood.data.sources.download import download
from diffusion_ood.errors import UserError


def fetch_archive(place: Place, url: str, md5: str, folder: str) -> None:
    """Have the archive's top folder in the data set's raw folder.

    Args:
        place: of the data set; an archive that lies in one of its folders is not downloaded.
        url: where the archive is published.
        md5: of the archive.
        folder: the archive's top folder.

    Raises:
        UserError: the archive cannot be had, or is not the published one.
    """
    from torchvision.datasets.utils import check_integrity

    name = Path(url).name
    found = find_files(place, [name]) or {}
    archive = found.get(name, place.raw_dir / name)
    if not found:
        download(place, url, name, md5, [name])
    elif not check_integrity(str(archive), md5):
        raise UserError(
            f"{archive}: expected a file of MD5 {md5}; it is damaged or not the one that "
            f"{place.name} is published as"
        )
    unpack(archive, place.raw_dir, folder)


def unpack(archive: Path, target: Path, folder: str) -> None:
    """Unpack the top folder of a ZIP or tar archive into `target`, which gets it whole or not.

    Raises:
        UserError: the archive is damaged or has no such folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=f".{folder}.") as temporary:
        try:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as file:
                    file.extractall(temporary)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            kind = "ZIP" if archive.suffix == ".zip" else "tar"
            raise UserError(f"{archive}: not a whole {kind} file ({error})") from None
        if not Path(temporary, folder).is_dir():
            raise UserError(f"{archive}: found no folder {folder} in it")
        shutil.move(Path(temporary, folder), target / folder)
