"""Means over groups of OOD sets."""

from pathlib import Path

import pytest

from diffusion_ood.detection.groups import means, read_groups
from diffusion_ood.detection.metrics import METRICS, Interval
from diffusion_ood.errors import UserError
from diffusion_ood.options import MainOptions

CONFIG = Path(__file__).parents[2] / "config" / "ood_groups.yml"


def found(**values):
    """Metrics that are all of one value."""
    return {name: dict.fromkeys(METRICS, Interval(v, 0.0, 1.0)) for name, v in values.items()}


def test_a_group_is_the_mean_of_its_sets_that_are_there():
    groups = {"near": ["A", "B", "missing"], "far": ["C"], "none": ["missing"]}
    result = means(found(A=0.2, B=0.6, C=0.7), groups)
    assert list(result) == ["(near mean)", "(far mean)", "(mean)"]
    values = [result[name]["auroc"].value for name in result]
    assert values == pytest.approx([0.4, 0.7, 0.5])
    assert result["(near mean)"]["fpr95"].low is None


def test_one_set_without_groups_has_no_mean():
    assert means(found(A=0.2), {}) == {}


def test_the_committed_groups_are_those_of_openood():
    found = read_groups(CONFIG)
    assert list(found) == ["near", "far"]
    assert found["near"][:3] == ["CIFAR10", "CIFAR100", "TinyImageNet"]
    assert found["far"][:3] == ["SVHN", "Textures", "Places365"]
    assert {name for names in found.values() for name in names if name.islower()} == {
        *MainOptions.__dataclass_fields__["ood_names"].default  # OpenOOD's own names
    }


@pytest.mark.parametrize("text", ["near: A", "[A, B]", "near: [1, 2]", ""])
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "groups.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"groups\.yml: "):
        read_groups(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"`groups`: .*none\.yml: "):
        read_groups(tmp_path / "none.yml")
