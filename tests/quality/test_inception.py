"""Inception's features against pytorch-fid's own network, on weights drawn at random."""

from pathlib import Path

import pytest
import torch
from pytorch_fid import inception as fid

from diffusion_ood.errors import UserError
from diffusion_ood.networks.features import INCEPTION_FILE, InceptionFeatures


def test_features_are_those_of_pytorch_fid(
    inception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(inception_weights, weights_only=True)
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *args, **kwargs: state)
    theirs = fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    ours = InceptionFeatures(inception_weights)
    colour = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = ours(colour)
        torch.testing.assert_close(found, theirs(colour)[0].flatten(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours(colour[:1, :1]), ours(colour[:1, :1].repeat(1, 3, 1, 1)))
    assert found.shape == (2, 2048)
    assert found.std() > 0


def test_weights_are_looked_for_in_torchs_cache(
    inception_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=INCEPTION_FILE):
        InceptionFeatures()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / INCEPTION_FILE).symlink_to(inception_weights)
    assert InceptionFeatures().digest == InceptionFeatures(inception_weights).digest
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"`inception_weights`.*other\.pth"):
        InceptionFeatures(tmp_path / "other.pth")
