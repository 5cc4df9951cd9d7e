"""Screening of images at URLs: as those on a disk, whatever fails, and without a secret."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import nibabel
import numpy as np
import pytest
from dicom_files import image, save
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from ramps import noise, ramps

from diffusion_ood import Detector
from diffusion_ood.commands import screen
from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.patients import patients
from diffusion_ood.data.remote import Remote
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.screening import run
from diffusion_ood.screening.inputs import for_model, gather
from diffusion_ood.screening.volume_maps import volume_map

SECRET = "p4ssw0rd"


class Vault(MemoryFileSystem):
    """Asks for a password, and says it aloud."""

    protocol = "vault"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: object) -> dict[str, str]:
        """As of any name."""
        return {"type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """One image, whatever is asked for."""
        if "lost" in path:
            raise TimeoutError(f"no answer of {path}")
        return bytes(MemoryFileSystem().cat_file("/in/p00_0.png"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 usual images of 3 patients, 4 others, a broken file, and something else."""
    write(tmp_path / "in", ramps(12, 3), "p")
    write(tmp_path / "in" / "more", noise(4, 4), "q")
    (tmp_path / "in" / "p99_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    (tmp_path / "in" / "notes.md").write_text("no image")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    return tmp_path / "in"


@pytest.fixture
def memory(folder: Path) -> Iterator[MemoryFileSystem]:
    """The same folder at memory://in."""
    files = MemoryFileSystem()
    fsspec.register_implementation("vault", Vault, clobber=True)
    for path in filter(Path.is_file, folder.rglob("*")):
        files.pipe(f"/in/{path.relative_to(folder)}", path.read_bytes())
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def write(folder: Path, images: np.ndarray, name: str) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{name}{k // 4:02}_{k % 4}.png" for k in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(detector: Path, *argv: object) -> None:
    screen.main([str(detector), *map(str, argv), "--device=cpu"])


def test_a_folder_at_a_url_is_screened_as_on_a_disk(
    detector_file: Path,
    folder: Path,
    memory: MemoryFileSystem,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in one call; and again, which measures nothing."""
    out, maps = tmp_path / "out", tmp_path / "maps"
    argv = [folder, "memory://in/", f"--output={out}", r"--group_by=([pq]\d\d)_"]
    call(detector_file, *argv)
    assert "memory://in/: passed over 1 file" in capsys.readouterr().err
    found = {row["file"]: row for row in rows(out / "decisions.csv")}
    local = [name for name in found if not name.startswith("memory://")]
    assert len(local) == 17
    assert len(found) == 34
    for name in local:
        here, there = found[name], found[f"memory://in/{Path(name).relative_to(folder)}"]
        assert bool(there["reason"]) == ("broken" in name)
        assert there["content"] == here["content"]
        if here["score"]:
            assert float(there["score"]) == pytest.approx(float(here["score"]), abs=1e-6)
    groups = rows(out / "groups.csv")
    assert [row["group"] for row in groups] == ["p00", "p01", "p02", "q00"]
    assert {row["num_images"] for row in groups} == {"8"}
    assert "memory://in/more/q00_" in (out / "report.html").read_text()
    monkeypatch.setattr(Detector, "measure", None)
    call(detector_file, *argv, "--report_images=0")
    monkeypatch.undo()
    call(detector_file, "memory://in", f"--output={out}", f"--maps={maps}")
    assert len(rows(out / "decisions.csv")) == 17
    assert len(rows(out / "earlier.csv")) == 16
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2 * 16
    assert len([*maps.rglob("*.npy")]) == len([*maps.rglob("*.png")]) == 16
    assert (maps / "more" / "q00_0.png.npy").exists()


def test_rows_of_lists_are_urls(
    detector_file: Path, folder: Path, memory: MemoryFileSystem, tmp_path: Path
) -> None:
    here = folder / "p00_0.png"
    listed = tmp_path / "list.csv"
    listed.write_text(f"image,label\nmemory://in/p00_1.png,a\n{here},b\nfile://{here}x,c\n")
    items = gather([listed])
    assert [item.name for item in items] == ["memory://in/p00_1.png", str(here), f"{here}x"]
    assert [item.within for item in items[:2]] == ["in/p00_1.png", str(here)]
    images = tmp_path / "test_list.txt"
    images.write_text("memory://in/p00_1.png 0\nin/p00_0.png 1\nmemory://in/no.png 0\n")
    items = gather([images])
    assert [str(item.path) for item in items[:2]] == ["memory://in/p00_1.png", str(here)]
    decisions = run.screen(Detector.load(detector_file, "cpu"), items, None)
    assert [bool(d.reason) for d in decisions] == [False, False, True]
    assert decisions[2].reason.startswith("memory://in/no.png: ")


def test_a_list_may_lie_at_a_url(folder: Path, memory: MemoryFileSystem) -> None:
    """What its rows name is there, too."""
    here = folder / "p00_0.png"
    memory.pipe("/in/list.csv", f"image\nmore/q00_0.png\n{here}\nmemory://in/p00_1.png\n".encode())
    items = gather(["memory://in/list.csv"])
    assert [str(item.path) for item in items] == [
        "memory://in/more/q00_0.png",
        str(here),
        "memory://in/p00_1.png",
    ]
    assert items[0].within == "more/q00_0.png"
    memory.pipe("/in/list.txt", b"p00_0.png 1\n")
    assert [item.name for item in gather(["memory://in/list.txt"])] == ["memory://in/p00_0.png"]
    memory.pipe("/in/wrong.csv", b"image\na.png\na.png\n")
    with pytest.raises(UserError, match=r"^memory://in/wrong\.csv, row 3: "):
        gather(["memory://in/wrong.csv"])


@pytest.mark.parametrize("place", ["nothing", "empty", "in/no.png", "in/no.csv"])
def test_a_url_without_an_image_is_refused(
    memory: MemoryFileSystem, tmp_path: Path, place: str
) -> None:
    memory.makedirs("/empty")
    with pytest.raises(UserError, match=f"^memory://{place}: "):
        gather([f"memory://{place}"])


def test_an_object_that_vanished_is_a_reason(detector_file: Path, memory: MemoryFileSystem) -> None:
    items = gather(["memory://in"])
    memory.rm("/in/p00_2.png")
    detector = Detector.load(detector_file, "cpu")
    decisions = {decision.file: decision for decision in run.screen(detector, items, None)}
    lost = [name for name, decision in decisions.items() if decision.reason]
    assert lost == ["memory://in/p00_2.png", "memory://in/p99_broken.png"]
    assert all(decisions[name].reason.startswith(f"{name}: ") for name in lost)


def test_no_output_holds_a_secret_of_a_url(
    detector_file: Path,
    memory: MemoryFileSystem,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A name is that of its URL's path, whatever signs it."""
    found = []
    for day in range(2):
        urls = [f"vault://me:{SECRET}@host/{n}.png?sig={SECRET}{day}" for n in ("here", "lost")]
        call(detector_file, *urls, f"--output={tmp_path / 'out'}")
        found.append(rows(tmp_path / "out" / "decisions.csv"))
    assert [row["file"] for row in found[0]] == ["vault://host/here.png", "vault://host/lost.png"]
    assert found[0] == found[1]
    assert "TimeoutError" in found[0][1]["reason"]
    printed = capfd.readouterr()
    written = [path.read_bytes() for path in (tmp_path / "out").iterdir()]
    for output in (*written, printed.out.encode(), printed.err.encode()):
        assert SECRET.encode() not in output
    assert SECRET not in repr(gather(urls))
    with pytest.raises(UserError, match=r"^vault://host/here\.png: ") as caught:
        gather([urls[0], urls[0].replace("sig", "other")])
    assert SECRET not in str(caught.value)


def test_an_item_goes_to_another_process(memory: MemoryFileSystem) -> None:
    items = gather(["memory://in/more"])
    there = pickle.loads(pickle.dumps(items))
    assert there == items
    assert len(pickle.dumps(items[0])) < 500
    reader = Reader(ImageOptions(is_grayscale=True), (1, 8, 8))
    assert float(there[0].read(reader).sum()) == float(items[0].read(reader).sum()) > 0


def test_volumes_are_nifti_and_of_dicom_a_disk_is_needed(
    folder: Path, memory: MemoryFileSystem
) -> None:
    values = np.random.default_rng(0).random((8, 8, 8), np.float32)
    path = folder / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, 2, 1, 1.0])), path)
    memory.pipe("/scans/scan.nii.gz", path.read_bytes())
    options = ImageOptions(is_grayscale=True, spatial_dimension=3)
    (item,) = for_model(gather(["memory://scans"]), options)
    reader = Reader(options, (1, 8, 8, 8))
    np.testing.assert_array_equal(item.read(reader), reader.read(path))
    assert volume_map(values, 0.5, item.path, options) == volume_map(values, 0.5, path, options)
    sliced = ImageOptions(is_grayscale=True, slices="axial")
    with pytest.raises(UserError, match=r"^memory://scans/scan\.nii\.gz: "):
        for_model([item], sliced)
    memory.pipe("/scans/IM1", save(folder / "IM1", image(ramps(1, 1)[0])).read_bytes())
    items = gather(["memory://scans"])
    assert len(items) == 2
    with pytest.raises(UserError, match=r"^memory://scans/IM1: "):
        for_model(items, options)


def test_images_of_dicom_have_their_patients(
    folder: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSION_OOD_PATIENT_KEY", "of tests")
    paths = [save(folder / f"D{k}", image(ramps(1, k)[0], PatientID=f"P{k}")) for k in range(2)]
    for path in paths:
        memory.pipe(f"/dicom/{path.name}", path.read_bytes())
    memory.pipe("/dicom/notes", b"x")
    items = gather(["memory://dicom"])
    assert [item.name for item in items] == ["memory://dicom/D0", "memory://dicom/D1"]
    assert [*patients(item.path for item in items)] == [*patients(paths)]
    gone = Remote.of("memory://dicom/gone")
    assert [*patients([gone, items[0].path])] == [None, *patients(paths[:1])]
