"""Inception's features against pytorch-fid's own network, on weights drawn at random."""

from pathlib import Path

import pytest
import torch
from pytorch_fid import inception as fid
from torch import nn

from diffusion_ood.commands import sample, sample_quality
from diffusion_ood.errors import UserError
from diffusion_ood.networks import inception
from diffusion_ood.networks.inception import InceptionFeatures, find_inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of pytorch-fid's weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / inception.FID_FILE
    torch.save(inception._network(inception.FID_CLASSES).state_dict(), path)
    return path


def test_features_are_those_of_pytorch_fid(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *args, **kwargs: state)
    theirs = fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    ours = InceptionFeatures(weights)
    colour = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = ours(colour)
        torch.testing.assert_close(found, theirs(colour)[0].flatten(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours(colour[:1, :1]), ours(colour[:1, :1].repeat(1, 3, 1, 1)))
    assert found.shape == (2, 2048)
    assert found.std() > 0
    assert isinstance(ours.network.fc, nn.Identity)


def test_only_the_papers_own_weights_give_the_fid(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = InceptionFeatures(weights)
    assert plain.name.startswith("Fréchet distance of the Inception features of pt_inception")
    monkeypatch.setattr(inception, "FID_DIGEST", plain.digest[:8])
    assert InceptionFeatures(weights).name == "FID"


def test_torchvisions_weights_are_read_too(tmp_path: Path) -> None:
    state = inception._network(1000).state_dict()
    state["AuxLogits.fc.weight"] = torch.zeros(1)  # which is not used for features
    torch.save(state, tmp_path / inception.TORCHVISION_FILE)
    found = InceptionFeatures(tmp_path / inception.TORCHVISION_FILE)
    assert found.name.endswith(inception.TORCHVISION_FILE)
    assert type(found.network.Mixed_7c).__module__.startswith("torchvision")


def test_weights_are_looked_for_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=f"neither {inception.FID_FILE} of pytorch-fid nor"):
        find_inception()
    (tmp_path / "checkpoints").mkdir()
    for name in (inception.TORCHVISION_FILE, inception.FID_FILE):
        (tmp_path / "checkpoints" / name).touch()
        assert find_inception().name == name
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        find_inception(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: expected weights of Inception v3"):
        InceptionFeatures(find_inception(tmp_path / "other.pth"))


def test_samples_are_reported_on_by_their_fid(
    weights: Path,
    trained: Path,
    splits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digest = InceptionFeatures(weights).digest[:8]
    compared = []

    def distance(*sets: sample_quality.Moments) -> float:
        compared.extend((moments.count, len(moments.total)) for moments in sets)
        return 1.5

    monkeypatch.setattr(sample_quality, "frechet_distance", distance)
    run = [f"--output_dir={tmp_path}", "--model_name=A", f"--image_path={tmp_path / 'samples'}"]
    model = [f"--eval_checkpoint={trained / 'checkpoint_best.pth'}", "--num_samples=3"]
    features = ["--features=inception", f"--inception_weights={weights}"]
    rest = [f"--reference_ids={splits / 'B_test.csv'}", "--num_inference_steps=2"]
    machine = ["--device=cpu", "--compile=off", "--num_workers=0"]
    monkeypatch.setattr(inception, "FID_DIGEST", digest)
    sample.main([*run, *model, *features, *rest, *machine])
    assert "\nFID, 3 samples against 5 images: 1.5000\n" in capsys.readouterr().out
    assert compared == [(3, 2048), (5, 2048)]
