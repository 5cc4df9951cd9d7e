"""Classes: the same number for the same text in every split."""

from pathlib import Path

import pytest

from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError


def split(*labels):
    return Split("s", Path("s.csv"), tuple(f"{k}.png" for k in range(len(labels))), labels or None)


def test_whole_numbers_are_the_classes_own_numbers():
    names = class_names(split("2", "0", "02"), 4)
    assert names == ("0", "1", "2", "3")
    assert class_numbers(split("2", "0", "02", "3"), names).tolist() == [2, 0, 2, 3]


def test_texts_are_numbered_in_sorted_order_of_the_training_split():
    names = class_names(split("hand", "chest", "hand", "10"), 3)
    assert names == ("10", "chest", "hand")
    # a split without some of the classes has the same numbers
    assert class_numbers(split("hand", "hand"), names).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("labels", "num_classes", "sentence"),
    [
        ((), 3, r"s\.csv: .*labels"),
        (("0", "3"), 3, r"s\.csv, row 3: .*'3'.* 0, 1, 2"),
        (("a", "b"), 3, r"s\.csv: .* 2 .*`num_classes` 3"),
        (("-1", "0"), 3, r"s\.csv: .* 2 "),
    ],
)
def test_wrong_labels_are_refused(labels, num_classes, sentence):
    with pytest.raises(UserError, match=sentence):
        class_names(split(*labels), num_classes)


def test_an_unknown_text_is_refused_by_its_row():
    with pytest.raises(UserError, match=r"row 3: .*'c'.* a, b"):
        class_numbers(split("a", "c"), ("a", "b"))
