"""Files that were made to do harm: they are refused, and what they would have done is not done."""

from __future__ import annotations

import ast
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import diffusion_ood
from diffusion_ood.commands import reconstruct
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.readers import read_image
from diffusion_ood.data.sources.raw_files import unpack
from diffusion_ood.data.splits import read_split
from diffusion_ood.detection.groups import read_groups
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint

GREY = ImageOptions(is_grayscale=True)
PACKAGE = Path(diffusion_ood.__file__).parent
# Where a pickle is read by an unpickler that admits arrays alone.
BETWEEN_WORKERS = ("screening/ray_driver.py", "pickle.loads")
"""Of no file: what processes of one Ray cluster, who run each other's code, send each other."""
UNPICKLERS = {"networks/alexnet.py"}


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """What does its harm when it is unpickled, as is shown here, and has not done it."""
    harmless = Payload(tmp_path / "shown")
    pickle.loads(pickle.dumps(harmless))
    assert harmless.path.exists()
    return Payload(tmp_path / "harm")


def test_a_checkpoint_runs_no_code(payload: Payload, tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"format": 1, "weights": payload}, path)
    with pytest.raises(UserError, match=r"evil\.pth: "):
        load_checkpoint(path)
    argv = [f"--output_dir={run_dir.parent}", "--model_name=A", f"--eval_checkpoint={path}"]
    split = tmp_path / "a.csv"
    split.write_text("image\na.png\n")
    with pytest.raises(UserError, match=r"evil\.pth: "):
        reconstruct.main([*argv, f"--in_ids={split}", "--run_val=0", "--run_out=0"])
    assert not payload.path.exists()


def test_weights_of_lpips_run_no_code(payload: Payload, tmp_path: Path) -> None:
    torch.save({"features.0.weight": payload}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"`lpips_weights`: .*evil\.pth"):
        find_alexnet_features(tmp_path / "evil.pth")
    assert not payload.path.exists()


def test_arrays_and_packed_images_run_no_code(payload: Payload, tmp_path: Path) -> None:
    evil = np.array([[payload]], dtype=object)
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy: "):
        read_image(tmp_path / "a.npy", GREY)
    np.save(tmp_path / "b.npy", np.zeros((4, 4)))
    (tmp_path / "s.csv").write_text("image\nb.npy\n")
    split = read_split(tmp_path / "s.csv")
    open_images(split, GREY, LoadingOptions(0), progress=False)
    (cached,) = (tmp_path / ".cache").glob("*.npy")
    np.save(cached, evil, allow_pickle=True)
    images = open_images(split, GREY, LoadingOptions(0), progress=False)  # packed again
    assert images.packed
    assert images.batch([0]).shape == (1, 1, 4, 4)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(payload))
    with pytest.raises(UserError, match=r"c\.npy: "):
        read_image(tmp_path / "c.npy", GREY)
    assert not payload.path.exists()


def test_yaml_makes_no_objects(payload: Payload, tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(f"near: !!python/object/apply:os.mkdir ['{payload.path}']\n")
    yaml.unsafe_load(path.read_text().replace("harm", "shown too"))
    assert (tmp_path / "shown too").exists()
    with pytest.raises(UserError, match=r"groups\.yaml: "):
        read_groups(path)
    assert not payload.path.exists()


def evil_tar(path: Path, member: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as tar:
        member.size = 0 if member.type != tarfile.REGTYPE else 4
        tar.addfile(tarfile.TarInfo("top/first.txt"), io.BytesIO(b""))
        tar.addfile(member, io.BytesIO(b"harm"))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../../harm.txt"),
        tarfile.TarInfo("top/../../../harm.txt"),
        link("top/out", "../../../.."),
        link("top/out", "/etc"),
        link("top/out", "../../../harm.txt", tarfile.LNKTYPE),
        device("top/device"),
    ],
    ids=["above", "above from within", "link above", "absolute link", "hard link", "device"],
)
def test_a_tar_file_writes_nothing_outside_its_folder(
    member: tarfile.TarInfo, tmp_path: Path
) -> None:
    archive, target = tmp_path / "evil.tar", tmp_path / "a" / "b"
    evil_tar(archive, member)
    with pytest.raises(UserError, match=r"evil\.tar: "):
        unpack(archive, target, "top")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "evil.tar"]


def test_an_absolute_name_is_unpacked_below_the_folder(tmp_path: Path) -> None:
    archive, target = tmp_path / "evil.tar", tmp_path / "a"
    evil_tar(archive, tarfile.TarInfo(f"/{tmp_path.name}/harm.txt"))
    unpack(archive, target, "top")
    assert [p.name for p in tmp_path.iterdir() if p.name != "a"] == ["evil.tar"]


@pytest.mark.parametrize("name", ["../../harm.txt", "/harm.txt", "top/../../../harm.txt"])
def test_a_zip_file_writes_nothing_outside_its_folder(name: str, tmp_path: Path) -> None:
    archive, target = tmp_path / "evil.zip", tmp_path / "a" / "b"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("top/first.txt", "")
        file.writestr(name, "harm")
    unpack(archive, target, "top")
    outside = [p for p in tmp_path.rglob("*") if not p.is_relative_to(target)]
    assert sorted(p.name for p in outside) == ["a", "evil.zip"]
    assert not Path("/harm.txt").exists()


def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the package: module, name of what is called, and the call."""
    return [
        (str(path.relative_to(PACKAGE)), ast.unparse(node.func), node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_the_sources_have_no_way_to_run_what_they_read() -> None:
    refused = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
    refused |= {"pickle.load", "pickle.loads", "joblib.load", "pd.read_pickle"}
    for module, name, call in calls():
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if (module, name) != BETWEEN_WORKERS:
            assert name not in refused, module
        assert keywords.get("allow_pickle") != "True", module
        assert keywords.get("shell", "False") == "False", module
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", module
        if name == "np.load":
            assert keywords.get("allow_pickle") == "False", module
        if name.endswith("tar.extractall"):
            assert keywords.get("filter") == "'data'", module
    unpicklers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "pickle.Unpickler)" in path.read_text()
    }
    assert unpicklers == UNPICKLERS
