"""Inception's weights, drawn at random."""

from pathlib import Path

import pytest
import torch
from pytorch_fid import inception as fid
from torch import nn

from diffusion_ood.networks.features import INCEPTION_FILE


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of pytorch-fid's weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / INCEPTION_FILE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_: None)
        torch.save(fid.fid_inception_v3().state_dict(), path)
    return path
