"""What `make dist` builds can be installed and started, away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from diffusion_ood import __version__
from diffusion_ood.console import COMMANDS

ROOT = Path(__file__).parents[1]

WITHOUT_US = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the sdist, and of the wheel that was built from the sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", f"--outdir={folder}", str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel; it borrows this one's dependencies."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (wheel,) = dist.glob("*.whl")
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel]
    subprocess.run(pip, check=True, env=WITHOUT_US)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment / "bin"


def said(installed: Path, cwd: Path, *argv: str) -> str:
    """What a program of the fresh environment prints, run in a folder that holds nothing of us."""
    command = [installed / argv[0], *argv[1:]]
    return subprocess.run(
        command, cwd=cwd, env=WITHOUT_US, capture_output=True, text=True, check=True
    ).stdout


def test_wheel_and_sdist_hold_what_the_package_reads(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    package = ROOT / "src" / "diffusion_ood"
    files = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "diffusion_ood/config/32_cifar10_cond.yml" in files
    assert files <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {f"src/{name}" for name in files} | {"LICENSE", "README.md"} <= names


def test_the_installed_command_says_its_version_and_commands(
    installed: Path, tmp_path: Path
) -> None:
    assert said(installed, tmp_path, "diffusion-ood", "--version") == (
        f"diffusion-ood {__version__}\n"
    )
    text = said(installed, tmp_path, "diffusion-ood", "--help")
    assert [name for name in COMMANDS if name not in text] == []
    assert "--target_fpr" in said(installed, tmp_path, "diffusion-ood", "detect", "--help")


def test_the_installed_package_is_not_the_repository_and_finds_its_configurations(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path; from diffusion_ood.commands.diffood.config import read_config; "
        "import diffusion_ood; print(diffusion_ood.__file__); "
        "print(read_config(Path('32_cifar10_cond.yml'))['Dataset.name'])"
    )
    place, name = said(installed, tmp_path, "python", "-c", code).splitlines()
    assert Path(place).is_relative_to(installed.parent)
    assert name == "CIFAR10"
