"""A full disk, a limit, a read-only folder: a sentence, nothing lost, and going on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from diffusion_ood import cli
from diffusion_ood.commands import ood_detection, reconstruct, train_ddpm
from diffusion_ood.runtime.checkpoint import load_checkpoint

Command = Callable[..., Path]

MOUNTS = os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refusal(main, argv)` is the one line on stderr of a run that ends with 1."""

    def run(main: Callable[..., None], argv: list[str]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.run(lambda: main(argv))
        error = capsys.readouterr().err
        assert left.value.code == cli.MACHINE_ERROR_EXIT_CODE, error
        (line,) = [text for text in error.splitlines() if text.startswith("error: ")]
        assert "Traceback" not in error
        return line

    return run


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 150 megabytes with a folder of runs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)]
    if not MOUNTS or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, but: int = 0) -> Path:
    """A file that leaves `but` bytes of a disk."""
    path = disk / "filler"
    with open(path, "wb") as file:
        state = os.statvfs(disk)
        file.truncate(0)
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - but)
    return path


def flags(run_dir: Path, data: Path) -> list[str]:
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--validation_ids={data / 'A_val.csv'}",
        f"--in_ids={data / 'A_test.csv'}",
        f"--out_ids={data / 'B_test.csv'}",
        *("--num_inference_steps=4", "--scores=mse", "--batch_size=2"),
        *("--device=cpu", "--compile=off", "--num_workers=0"),
    ]


def tables(run_dir: Path) -> dict[str, pd.DataFrame]:
    return {path.name: pd.read_csv(path) for path in (run_dir / "ood").glob("results_*.csv")}


def assert_same_tables(run_dir: Path, expected: Path) -> None:
    found = tables(run_dir)
    assert len(found) == 3
    for name, table in tables(expected).items():
        pd.testing.assert_frame_equal(found[name], table, rtol=1e-5)


def test_a_full_disk_stops_scoring_and_the_same_command_goes_on(
    disk: Path, run_dir: Path, splits: Path, refusal: Callable[..., str]
) -> None:
    reconstruct.main(flags(run_dir, splits))
    full = disk / "runs" / "A"
    full.mkdir(parents=True)
    shutil.copy(run_dir / "checkpoint_best.pth", full)
    reconstruct.main([*flags(full, splits), "--run_out=0", "--run_in=0"])
    earlier = (full / "ood" / "results_val.csv").read_bytes()
    filler = fill(disk)
    line = refusal(reconstruct.main, flags(full, splits))
    assert "No space left on device; what was finished is kept, and the same command" in line
    assert str(full / "ood") in line
    assert (full / "ood" / "results_val.csv").read_bytes() == earlier
    filler.unlink()
    reconstruct.main(flags(full, splits))
    assert_same_tables(full, run_dir)
    assert not list(full.rglob("*.tmp"))

    filler = fill(disk)
    line = refusal(ood_detection.main, flags(full, splits)[:2])
    assert "No space left on device" in line
    filler.unlink()
    ood_detection.main(flags(full, splits)[:2])
    assert (full / "ood" / "metrics.json").exists()


def test_a_full_disk_leaves_the_last_checkpoint_and_training_goes_on(
    disk: Path,
    train: Command,
    train_flags: Callable[[Path, Path], list[str]],
    splits: Path,
    tmp_path: Path,
    refusal: Callable[..., str],
) -> None:
    whole = train(tmp_path / "runs" / "A", "--n_epochs=3")
    full = train(disk / "runs" / "A", "--n_epochs=1")
    before = load_checkpoint(full / "checkpoint.pth")["epoch"]
    filler = fill(disk, but=1 << 20)  # less than a checkpoint
    line = refusal(train_ddpm.main, [*train_flags(full, splits), "--n_epochs=3"])
    assert "No space left on device" in line
    assert load_checkpoint(full / "checkpoint.pth")["epoch"] == before
    filler.unlink()
    train(full, "--n_epochs=3")
    found, expected = (load_checkpoint(d / "checkpoint.pth") for d in (full, whole))
    for name, weight in expected["weights"].items():
        assert (found["weights"][name] == weight).all()


def test_where_nothing_can_be_packed_the_images_are_read_as_they_are(
    disk: Path, own_splits: Path, run_dir: Path, splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reconstruct.main(flags(run_dir, splits))
    data = Path(shutil.copytree(own_splits, disk / "data"))
    other = run_dir.parent / "B"
    other.mkdir()
    os.link(run_dir / "checkpoint_best.pth", other / "checkpoint_best.pth")
    (data / ".cache").mkdir()
    fill(disk)
    capsys.readouterr()
    reconstruct.main(flags(other, data))
    printed = capsys.readouterr().out
    assert printed.count("cannot be written (No space left on device); the images are not") == 3
    assert_same_tables(other, run_dir)
    assert not list((data / ".cache").iterdir())


def test_a_read_only_disk(
    disk: Path, run_dir: Path, splits: Path, refusal: Callable[..., str]
) -> None:
    there = disk / "runs" / "A"
    there.mkdir(parents=True)
    shutil.copy(run_dir / "checkpoint_best.pth", there)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = refusal(reconstruct.main, flags(there, splits))
    assert "Read-only file system" in line
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    reconstruct.main(flags(there, splits))
    assert len(tables(there)) == 3


@pytest.mark.parametrize("limit", [0, 5_000])
def test_a_limit_on_the_size_of_files(
    limit: int, run_dir: Path, splits: Path, refusal: Callable[..., str]
) -> None:
    """`ulimit -f`: nothing can be written, or only files that are smaller than the table."""
    whole = run_dir.parent / "whole"
    whole.mkdir()
    os.link(run_dir / "checkpoint_best.pth", whole / "checkpoint_best.pth")
    many = [word for word in flags(run_dir, splits) if not word.startswith("--num_inference")]
    many += ["--num_inference_steps=50", "--sampler=ddim", "--run_in=0", "--run_out=0"]
    reconstruct.main([*many, "--model_name=whole"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        line = refusal(reconstruct.main, many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large; what was finished is kept" in line
    assert not (run_dir / "ood" / "results_val.csv").exists()
    reconstruct.main(many)
    pd.testing.assert_frame_equal(
        tables(run_dir)["results_val.csv"], tables(whole)["results_val.csv"], rtol=1e-5
    )


def as_nobody(work: Callable[[], None]) -> int:
    """The exit code of a fork that does some work as a user without rights."""
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            work()
        except SystemExit as left:
            os._exit(int(left.code or 0))
        except BaseException:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else(tmp_path_factory: pytest.TempPathFactory, run_dir: Path) -> None:
    shared = Path(os.path.realpath("/tmp")) / f"diffusion_ood_test_{os.getpid()}"
    shared.mkdir(mode=0o755)
    try:
        shutil.copy(run_dir / "checkpoint_best.pth", shared)
        said = shared / "said"
        said.touch()
        said.chmod(0o666)

        def detect() -> None:
            with open(said, "w") as sys.stderr:
                argv = [f"--output_dir={shared}", "--model_name=A"]
                cli.run(lambda: train_in(argv))

        def train_in(argv: list[str]) -> None:
            from diffusion_ood.runtime.files import write_json

            write_json(shared / "A" / "config.json", argv)

        assert as_nobody(detect) == cli.MACHINE_ERROR_EXIT_CODE
        assert said.read_text().startswith(f"error: {shared}/A: Permission denied; what was")
    finally:
        shutil.rmtree(shared)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
