"""get_datasets: what the command line does, to the exit code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.commands.get_datasets import main
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom diffusion_ood.commands.get_datasets import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--source_dir" in run.stdout


def test_a_set_that_cannot_be_had_does_not_lose_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        main(
            [
                f"--data_root={tmp_path / 'root'}",
                "--datasets=MNIST,PhotoPatches,CelebA",
                f"--source_dir={tmp_path / 'empty'}",
            ]
        )
    first, second = str(caught.value).splitlines()
    assert first.startswith("MNIST: not all of its files are in")
    assert second.startswith("CelebA: not all of its files are in")
    split = read_split(tmp_path / "root" / "data_splits" / "PhotoPatches_test.csv")
    assert len(split) == 660
    assert np.asarray(Image.open(split.image_path(0))).shape == (28, 28)
    assert "PhotoPatches_test.csv: 660 images" in capsys.readouterr().out


def test_celeba_is_expected_in_its_raw_folder_without_a_download(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(
        UserError, match=f"not all of its files are in {root}/CelebA/raw; put img_al"
    ):
        main([f"--data_root={root}", "--datasets=CelebA", "--download_celeba=False"])


def test_an_image_folder_becomes_splits_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    for i in range(10):
        Image.new("L", (2, 2), i).save(tmp_path / "scans" / f"{i}.png")
    main([f"--data_root={tmp_path}", f"--image_folder={tmp_path / 'scans'}", "--name=Scans"])
    sizes = {
        part: len(read_split(tmp_path / "data_splits" / f"Scans_{part}.csv"))
        for part in ("train", "val", "test")
    }
    assert sizes == {"train": 6, "val": 1, "test": 3}
    printed = capsys.readouterr().out
    assert f"--training_ids={tmp_path}/data_splits/Scans_train.csv" in printed


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--datasets=MNIST,Foo"], "--datasets.*'Foo'"),
        (["--datasets="], "`datasets`"),
        (["--image_folder=."], "`image_folder`, `name`"),
        (["--image_folder=.", "--name=a/b"], "`name`.* 'a/b'"),
        (["--image_folder=.", "--name=in"], "`name`.* 'in'"),
        (["--image_folder=.", "--name=a_vflip"], "`name`.* 'a_vflip'"),
        (["--image_folder=.", "--name=a", "--datasets=MNIST"], "`datasets`, `image_folder`"),
        (["--image_folder=.", "--name=a", "--test_fraction=1.5"], "`test_fraction`.* 1.5"),
        (["--image_folder=missing", "--name=a"], "`image_folder`.* missing"),
        (["--image_lists=a.txt"], "`image_lists`.*`source_dir`"),
        (
            ["--image_lists=a.txt", "--source_dir=.", "--datasets=MNIST"],
            "`datasets`, `image_lists`",
        ),
        (["--image_lists=a.csv", "--source_dir=."], r"a\.csv.*\.txt"),
        (["--image_lists=a.txt", "--source_dir=."], r"a\.txt"),
        (["--group_by=x"], "`group_by`.* `image_folder`"),
        (["--num_workers=-1"], "`num_workers`.* -1"),
        (["--corrupt=box"], "`corrupt`.* `of`"),
        (["--corrupt=box,foo", "--of=."], "--corrupt.*'foo'"),
        (["--of=."], "`of`.* `corrupt`"),
        (["--severity=2"], "`severity`.* `corrupt`"),
        (["--first_n=2"], "`first_n`.* `corrupt`"),
        (["--corrupt=foreign_patch"], "`corrupt`.* `of`"),
        (["--corrupt=box", "--of=missing.csv"], "`of`.* missing"),
        (["--corrupt=box", "--of=own_vflip_test.csv"], "`of`: own_vflip_test.csv: .* flipped"),
        (["--corrupt=box", "--of=.", "--severity=6"], "`severity`.* 6"),
        (["--corrupt=box", "--of=.", "--severity=0"], "`severity`.* 0"),
        (["--corrupt=box", "--of=.", "--first_n=0"], "`first_n`.* 0"),
        (["--corrupt=box", "--of=.", "--datasets=MNIST"], "`corrupt`, `datasets`"),
        (["--corrupt=box", "--of=.", "--image_folder=.", "--name=a"], "`corrupt`, `image_folder`"),
        (["--corrupt=box", "--of=.", "--test_fraction=0.5"], "`corrupt`, `test_fraction`"),
    ],
)
def test_wrong_flags_are_named(tmp_path: Path, flags: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        main([f"--data_root={tmp_path}", *flags])


def test_faults_of_a_split_become_sets_and_the_flag_that_scores_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        Image.linear_gradient("L").resize((28, 30)).rotate(90 * i).save(tmp_path / f"{i}.png")
    write_split(tmp_path / "own_test.csv", [f"{i}.png" for i in range(3)], ["a", "b", "a"])
    command = [
        f"--data_root={tmp_path / 'root'}",
        f"--of={tmp_path / 'own_test.csv'}",
        "--corrupt=box,ghosting,box",
        "--severity=4",
        "--first_n=2",
    ]
    main(command)
    splits = tmp_path / "root" / "data_splits"
    names = [str(splits / f"own_test_{name}4.csv") for name in ("box", "ghosting")]
    assert sorted(map(str, splits.iterdir())) == names
    assert capsys.readouterr().out.splitlines()[-1] == f"--out_ids={','.join(names)}"
    for name in names:
        split = read_split(Path(name))
        assert split.labels == ("a", "b")
        assert all(Image.open(split.image_path(i)).size == (28, 30) for i in range(2))
    main(command)
    assert "nothing to do" in capsys.readouterr().out


def test_image_lists_become_splits_of_images_in_another_folder(tmp_path: Path) -> None:
    names = ["csid/1b/a b.png", "oasis/sub-1_T2w.nii.gz", "x.jpg"]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    lines = "".join(f"{name} {label}\n" for name, label in zip(names, (2, 0, -1), strict=True))
    for name in ("valid_midog_1b", "train_midog"):
        (tmp_path / f"{name}.txt").write_text(lines)
    lists = f"{tmp_path}/valid_midog_1b.txt,{tmp_path}/train_midog.txt"
    flags = [f"--data_root={tmp_path}", f"--source_dir={tmp_path / 'images'}"]
    main([*flags, f"--image_lists={lists}"])
    for name in ("midog_1b_val", "midog_train"):
        split = read_split(tmp_path / "data_splits" / f"{name}.csv")
        assert split.name == name.rpartition("_")[0]
        assert split.labels == ("2", "0", "-1")
        assert split.images == tuple(f"../images/{image}" for image in names)
    (tmp_path / "images" / "x.jpg").unlink()
    with pytest.raises(UserError, match=r"train_midog\.txt, row 3: .*x\.jpg"):
        main([*flags, f"--image_lists={tmp_path / 'train_midog.txt'}"])
