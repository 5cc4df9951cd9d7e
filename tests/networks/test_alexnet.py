"""AlexNet's weights: where they are looked for, and what is refused."""

import io
import pickle

import numpy as np
import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.networks import alexnet


def tensors():
    return {
        f"features.{layer}.{part}": torch.full((2, 2), float(layer))
        for layer in alexnet.LAYERS
        for part in ("weight", "bias")
    }


@pytest.fixture
def known(monkeypatch):
    """A machine on which these tensors are the expected ones."""
    monkeypatch.setattr(alexnet, "DIGEST", alexnet.digest(tensors()))


def unreachable():
    raise OSError("no network")


def test_the_digest_tells_names_and_values_apart():
    plain, other = tensors(), tensors()
    other["features.0.bias"] = other["features.0.bias"] + 1
    assert alexnet.digest(plain) == alexnet.digest(tensors())
    assert alexnet.digest(plain) != alexnet.digest(other)


@pytest.mark.usefixtures("known")
def test_a_given_file_is_read_and_its_other_tensors_are_left(tmp_path):
    torch.save({**tensors(), "classifier.1.bias": torch.zeros(3)}, tmp_path / "a.pth")
    found = alexnet.find_alexnet_features(tmp_path / "a.pth")
    assert found is not None
    assert found.keys() == tensors().keys()


def test_other_values_are_refused(tmp_path):
    torch.save(tensors(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="digest"):
        alexnet.find_alexnet_features(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match="lpips_weights") as error:
        alexnet.find_alexnet_features(tmp_path / "a.pth")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth"):
        alexnet.find_alexnet_features(tmp_path / "nowhere.pth")


@pytest.mark.usefixtures("known")
def test_the_sources_are_tried_in_turn(monkeypatch, capsys):
    sources = {"first": unreachable, "second": tensors, "third": unreachable}
    monkeypatch.setattr(alexnet, "_SOURCES", sources)
    assert alexnet.find_alexnet_features() is not None
    assert "from second" in capsys.readouterr().out


def test_no_source_is_no_weights_and_a_reason(monkeypatch, capsys):
    monkeypatch.setattr(alexnet, "_SOURCES", {"first": unreachable, "second": tensors})
    assert alexnet.find_alexnet_features() is None
    message = capsys.readouterr().err
    assert "first: no network" in message
    assert "second: found tensors of digest" in message


@pytest.mark.usefixtures("known")
def test_torchs_cache_is_looked_in(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError):
        alexnet._from_cache()
    torch.save(tensors(), tmp_path / "checkpoints" / "lpips_alexnet_features.pth")
    assert alexnet.digest(alexnet._from_cache()) == alexnet.DIGEST


def test_pickled_arrays_are_read():
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    found = alexnet._ArrayUnpickler(io.BytesIO(pickle.dumps(tree, protocol=3))).load()
    np.testing.assert_array_equal(found["a"], tree["a"])


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    target = tmp_path / "made by the payload"

    class Payload:
        def __reduce__(self):
            return open, (str(target), "w")

    with pytest.raises(ValueError, match="expected NumPy arrays alone"):
        alexnet._ArrayUnpickler(io.BytesIO(pickle.dumps(Payload()))).load()
    assert not target.exists()


def test_kernels_change_from_flax_to_torch_layout():
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)  # H, W, in, out
    tree = {
        "AlexNet_0": {
            f"Conv_{k}": {"kernel": kernel, "bias": np.zeros(5, np.float32)} for k in range(5)
        }
    }
    weight = alexnet._torch_layout(tree)["features.3.weight"]
    assert weight.shape == (5, 4, 2, 3)
    assert weight[4, 3, 1, 2] == kernel[1, 2, 3, 4]
