"""One network from two packages: names of the weights, sizes, and outputs."""

from types import SimpleNamespace

import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.networks import backend, layers
from diffusion_ood.networks.unet import build_unet
from diffusion_ood.networks.weights import load_weights


@pytest.mark.parametrize(("model_type", "parameters"), [("tiny", 1_096_161), ("small", 17_446_785)])
def test_number_of_parameters(model_type, parameters):
    network = build_unet(model_type, (1, 28, 28))
    assert sum(p.numel() for p in network.parameters()) == parameters


def core_names(state_dict):
    """The names that MONAI core gives weights of monai-generative."""
    renamed = {}
    for name, weight in state_dict.items():
        head, _, tail = name.rpartition(".to_")
        name = f"{head.removesuffix('.attn')}.attn.to_{tail}" if head else name
        renamed[name.replace(".upsampler.conv.", ".upsampler.postconv.")] = weight
    return renamed


def outputs(network):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 1, 16, 16, generator=generator)
    with torch.inference_mode():
        return network.eval()(x, torch.tensor([3, 700]))


def with_fresh_weights(network):
    """MONAI zeroes the last convolutions: without this every output would be zero."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def test_weights_saved_under_either_package_load_and_give_equal_outputs():
    network = with_fresh_weights(build_unet("tiny", (1, 16, 16)))
    expected = outputs(network)
    assert expected.abs().max() > 1e-3
    for weights in (network.state_dict(), core_names(network.state_dict())):
        other = build_unet("tiny", (1, 16, 16))
        load_weights(other, weights)
        assert torch.equal(outputs(other), expected)


def test_monai_core_gives_equal_outputs_from_equal_weights():
    """Where monai-generative is installed beside MONAI core, both are here to be compared."""
    if backend.BACKEND != "monai-generative":
        pytest.skip("monai-generative is not installed: there is one package alone")
    from monai.networks.nets import DiffusionModelUNet

    network = with_fresh_weights(build_unet("tiny", (1, 16, 16)))
    core = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(32, 64, 64),
        num_res_blocks=1,
        attention_levels=(False, False, True),
        num_head_channels=64,
        include_fc=False,
    )
    core.load_state_dict(core_names(network.state_dict()))
    torch.testing.assert_close(outputs(core), outputs(network), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", ["tiny", "ddim32"])  # by monai-generative, by MONAI core
def test_attention_as_one_kernel_gives_equal_outputs(size, monkeypatch):
    network = with_fresh_weights(build_unet(size, (1, 16, 16)))
    expected, calls = outputs(network), []

    def is_fused(query):
        calls.append(tuple(query.shape))
        return True

    monkeypatch.setattr(layers, "is_fused", is_fused)
    torch.testing.assert_close(outputs(network), expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == {"tiny": 4, "ddim32": 6}[size]


def test_attention_is_one_kernel_on_cuda_alone_without_gradients():
    on_cuda, on_cpu = (SimpleNamespace(is_cuda=is_cuda) for is_cuda in (True, False))
    assert not layers.is_fused(on_cuda)
    with torch.no_grad():
        assert layers.is_fused(on_cuda)
        assert not layers.is_fused(on_cpu)


def test_weights_of_the_projection_that_is_never_applied_are_left_out():
    network = with_fresh_weights(build_unet("tiny", (1, 16, 16)))
    weights = dict(network.state_dict())
    weights["middle_block.attention.proj_attn.weight"] = torch.ones(64, 64)
    weights["middle_block.attention.attn.out_proj.bias"] = torch.ones(64)
    other = build_unet("tiny", (1, 16, 16))
    load_weights(other, weights)
    assert torch.equal(outputs(other), outputs(network))


def test_every_weight_has_a_gradient():
    network = with_fresh_weights(build_unet("tiny", (1, 16, 16)))
    network(torch.randn(2, 1, 16, 16), torch.tensor([3, 700])).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(UserError, match="multiples of 4"):
        build_unet("tiny", (1, 30, 28))


def test_a_volume_has_a_network_of_three_dimensions():
    network = build_unet("tiny", (1, 8, 8, 8))
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 8, 8, 8), torch.tensor([5])).shape == (1, 1, 8, 8, 8)
