"""Splits: what a CSV file must look like, and what its name means."""

from pathlib import Path

import pytest

from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_reads_images_and_labels_in_order(tmp_path: Path) -> None:
    split = read_split(written(tmp_path / "A_test.csv", "image,label\nb.png,1\n/x/a.png,0\n"))
    assert split.images == ("b.png", "/x/a.png")
    assert split.labels == ("1", "0")
    assert (split.name, split.edit, len(split)) == ("A", None, 2)
    assert split.image_path(0) == tmp_path / "b.png"
    assert split.image_path(1) == Path("/x/a.png")


def test_labels_are_optional(tmp_path: Path) -> None:
    assert read_split(written(tmp_path / "a.csv", "image\nb.png\n")).labels is None


@pytest.mark.parametrize(
    "content",
    [b'\xef\xbb\xbfimage,label\r\n"a,1.png",x\r\n', b'image,label\n"a,1.png",x\n\n\n'],
    ids=["byte order mark and CRLF", "blank lines at the end"],
)
def test_reads_what_spreadsheets_write(tmp_path: Path, content: str | bytes) -> None:
    split = read_split(written(tmp_path / "a.csv", content))
    assert (split.images, split.labels) == (("a,1.png",), ("x",))


def test_reads_one_row_of_paths(tmp_path: Path) -> None:
    split = read_split(written(tmp_path / "a.csv", "/d/b.png,/d/a.png\n"))
    assert split.images == ("/d/b.png", "/d/a.png")
    assert split.labels is None


def test_first_keeps_the_first_images_and_labels(tmp_path: Path) -> None:
    split = read_split(written(tmp_path / "a.csv", "image,label\nb,1\nc,2\nd,3\n")).first(2)
    assert (split.images, split.labels) == (("b", "c"), ("1", "2"))


@pytest.mark.parametrize(
    ("asked", "name", "flip"),
    [
        ("F_vflip_test.csv", "F_vflip", "vflip"),
        ("F_test_hflip.csv", "F_hflip", "hflip"),
        ("F_test.csv", "F", None),
    ],
)
def test_a_flipped_name_means_the_flipped_split(
    tmp_path: Path, asked: str, name: str, flip: str | None
) -> None:
    source = written(tmp_path / "F_test.csv", "image\na.png\n")
    split = read_split(tmp_path / asked)
    assert (split.name, split.edit, split.path) == (name, flip, source)


def test_a_file_of_a_flipped_name_is_used_as_it_is(tmp_path: Path) -> None:
    written(tmp_path / "F_test.csv", "image\na.png\n")
    split = read_split(written(tmp_path / "F_vflip_test.csv", "image\nturned.png\n"))
    assert (split.images, split.edit, split.name) == (("turned.png",), None, "F_vflip")


def test_flips_can_be_excluded(tmp_path: Path) -> None:
    written(tmp_path / "F_test.csv", "image\na.png\n")
    with pytest.raises(UserError, match=r"F_vflip_test\.csv: "):
        read_split(tmp_path / "F_vflip_test.csv", flips=False)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"a\.csv: .*empty"),
        ("image,label\n", r"a\.csv: .*header"),
        ("image;label\na.png;1\n", "row 1: .*'image;label'"),
        ("file,label\na.png,1\n", "row 1: .*'file,label'"),
        ("filename,label\n", "row 1: .*'filename,label'"),
        ("image,label\na,1\nb\n", "row 3: .*1 .*2"),
        ("image\na,1\n", "row 2: .*2 .*1"),
        ("image,label\na,1\n,2\n", "row 3: .*empty"),
        ("image\na\nb\na\n", "row 4: .* a .*row 2"),
        ("/a.png,,/b.png\n", "row 1: cell 2 "),
        ("/a.png,/b.png,/a.png\n", r"cell 3: .*/a\.png .*cell 1"),
        (b"image\na\n\xff\n", "row 3: .* ff.*UTF-8"),
        ('image\n"a\n', "row 2: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_split(written(tmp_path / "a.csv", content))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.csv: "):
        read_split(tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"F_vflip\.csv: .* F\.csv"):
        read_split(tmp_path / "F_vflip.csv")
    with pytest.raises(UserError, match="folder"):
        read_split(tmp_path)


@pytest.mark.parametrize("labels", [None, ["x", "y, z"]])
def test_what_is_written_is_read_back(tmp_path: Path, labels: list[str] | None) -> None:
    path = tmp_path / "A_val.csv"
    write_split(path, ['b "1".png', "a,2.png"], labels)
    split = read_split(path)
    assert split.images == ('b "1".png', "a,2.png")
    assert split.labels == (labels and tuple(labels))


OPENOOD = "tin/val/a b.JPEG 3\n\nnew/c.png -1\n"


def test_an_image_list_of_openood_is_a_split(tmp_path: Path) -> None:
    split = read_split(written(tmp_path / "test_tin.txt", OPENOOD))
    assert split.images == ("tin/val/a b.JPEG", "new/c.png")
    assert split.labels == ("3", "-1")
    assert split.name == "tin"
    assert split.image_path(1) == tmp_path / "new/c.png"


@pytest.mark.parametrize("images", ["images_classic", "images_largescale", "midog", "oasis", ""])
def test_openoods_images_lie_beside_its_lists(tmp_path: Path, images: str) -> None:
    (tmp_path / "benchmark_imglist" / "cifar10").mkdir(parents=True)
    (tmp_path / images / "tin" / "val").mkdir(parents=True)
    (tmp_path / images / "tin" / "val" / "a b.JPEG").touch()
    path = written(tmp_path / "benchmark_imglist" / "cifar10" / "test_tin.txt", OPENOOD)
    assert read_split(path).image_path(1) == tmp_path / images / "new" / "c.png"
    flipped = read_split(path.with_name("test_tin_hflip.txt"))
    assert (flipped.name, flipped.edit) == ("tin_hflip", "hflip")
    assert flipped.first(1).image_path(0) == tmp_path / images / "tin/val/a b.JPEG"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a.png 1\nb.png\n", r"test_x\.txt, row 2: .*'b\.png'"),
        ("a.png 1\na.png 2\n", r"test_x\.txt, image 2: .*a\.png .*image 1"),
        ("\n \n", r"test_x\.txt: .*empty"),
    ],
)
def test_mistakes_in_an_image_list_are_named(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_split(written(tmp_path / "test_x.txt", content))
