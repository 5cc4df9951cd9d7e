"""Whose image it is: a pseudonym of the patient whom a DICOM file names.

The numbers of a hospital's patients can be tried one after the other, so a plain digest of one
would not hide it. The key of this digest is random and stays on the machine; where several have to
give one patient one pseudonym, they share a key by the environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffusion_ood.data.formats.dicom import is_dicom
from diffusion_ood.data.formats.dicom_series import series_files
from diffusion_ood.data.formats.dicom_tags import quiet, read_tags
from diffusion_ood.data.opening import Content, Source, sentences
from diffusion_ood.data.places import Place
from diffusion_ood.data.remote import Remote
from diffusion_ood.errors import UserError

KEY = "DIFFUSION_OOD_PATIENT_KEY"
SIZE = 32  # bytes of a key
HEAD = 1 << 20  # of a file at a URL, by far more than precedes the tags
TAGS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")


def patient_of(path: Path | Remote) -> str | None:
    """12 hexadecimal digits for the patient of a DICOM file or series; None of other files.

    The same number of the same issuer gives the same digits, with the same key. Where a file has no
    number, its study stands for the patient; where it has none either, it says nothing: None.

    Raises:
        UserError: a file or folder that cannot be read, or a key that cannot be kept.
    """
    with sentences(str(path)):
        file = _file(path)
        if not is_dicom(file):
            return None
        with file.open("rb") as opened, quiet():
            dataset = read_tags(opened, TAGS)
            number, issuer, study = (str(dataset.get(tag) or "").strip() for tag in TAGS)
    if not (number or study):  # all such files would be of one patient
        return None
    text = f"patient\0{number}\0{issuer}" if number else f"study\0{study}"
    content = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=6, key=_key()).hexdigest()


def patients(paths: Iterable[Path | Remote]) -> Iterator[str | None]:
    """`patient_of` each path; the slices of a volume cost one reading."""
    known: dict[Place | Remote, str | None] = {}
    for path in paths:
        whole = path if isinstance(path, Remote) else Place.of(path).whole
        if whole not in known:
            known[whole] = patient_of(path)
        yield known[whole]


def _file(path: Path | Remote) -> Source:
    """The file that is asked, one of a series; of one at a URL the start that holds the tags."""
    if isinstance(path, Remote):
        try:
            return path.read(HEAD)
        except UserError:  # it was there when it was screened; now it names nobody
            return Content(path.name, b"")
    place = Place.of(path)
    return series_files(place)[0] if os.path.isdir(place.path) else place.path


def _key() -> bytes:
    """The key of the environment, or else of this user on this machine, made when first used."""
    if given := os.environ.get(KEY):
        return hashlib.blake2b(given.encode("utf-8", "surrogateescape"), digest_size=SIZE).digest()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    path = home / "diffusion_ood" / "patients.key"
    try:
        if not path.exists():
            _write_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be kept ({error.strerror}), expected a key for patients' pseudonyms; "
            f"the environment may give one, as {KEY}"
        ) from None
    if len(key) != SIZE:
        raise UserError(f"{path}: found {len(key)} bytes, expected a key of {SIZE}")
    return key


def _write_key(path: Path) -> None:
    """Write a new key that its owner alone can read, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
