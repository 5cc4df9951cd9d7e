"""Networks of the second system: sizes, labels, dropout, and the classifier."""

import pytest
import torch
from torch import nn

from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.networks.unet import add_dropout, build_unet
from diffusion_ood.networks.weights import load_weights
from diffusion_ood.options import ClassifierOptions


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def with_fresh_weights(network):
    """MONAI zeroes the last convolutions: without this every output would be zero."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(
    ("num_labels", "expected"), [(None, 35_746_307), (11, 35_751_939), (101, 35_798_019)]
)
def test_ddim32_has_the_parameters_of_ddim(num_labels, expected):
    with torch.device("meta"):
        assert parameters(build_unet("ddim32", (3, 32, 32), num_labels)) == expected


def test_the_projection_of_ddim32_is_applied():
    network = with_fresh_weights(build_unet("ddim32", (1, 8, 8)))
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([300])
    network(x, t).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    projections = [name for name, _ in network.named_parameters() if "out_proj" in name]
    assert len(projections) == 2 * 6  # two blocks down, one in the middle, three up
    with torch.no_grad():
        before = network(x, t)
        other = build_unet("ddim32", (1, 8, 8))
        load_weights(other, network.state_dict())
        assert torch.equal(other(x, t), before)
        other.get_parameter(projections[0]).mul_(2)
        assert not torch.allclose(other(x, t), before)


@pytest.mark.parametrize("model_type", ["tiny", "ddim32"])
def test_a_label_adds_its_embedding_to_that_of_the_time(model_type):
    network = with_fresh_weights(build_unet(model_type, (1, 8, 8), 4)).eval()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 3])
    with torch.inference_mode():
        one, other = (network(x, t, class_labels=torch.tensor([k, 3])) for k in (0, 1))
        torch.testing.assert_close(one[1], other[1])
        assert (one[0] - other[0]).abs().max() > 1e-3
        network.class_embedding.weight[1] = network.class_embedding.weight[0]
        same = network(x, t, class_labels=torch.tensor([1, 3]))
        torch.testing.assert_close(one, same)


def test_dropout_acts_in_training_alone_and_changes_no_name():
    network = with_fresh_weights(build_unet("tiny", (1, 8, 8)))
    names = list(network.state_dict())
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        plain = network.train()(x, t)
        add_dropout(network, 0.5)
        assert list(network.state_dict()) == names
        assert torch.equal(network.eval()(x, t), plain)
        assert not torch.allclose(network.train()(x, t), network(x, t))


def test_dropout_sets_its_share_of_every_blocks_activations_to_zero():
    network = build_unet("tiny", (1, 8, 8)).train()
    add_dropout(network, 0.25)
    blocks = [module for module in network.modules() if hasattr(module, "time_emb_proj")]
    assert len(blocks) > 8
    for block in blocks:
        (hook,) = block.conv2._forward_pre_hooks.values()
        dropped = hook(block.conv2, (torch.ones(10_000),))
        assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
        assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "channels", "classes", "expected"),
    [
        ("resnet18", 3, 10, 11_173_962),
        ("resnet18", 3, 100, 11_220_132),
        ("narrow", 1, 10, 176_258),
    ],
)
def test_the_classifier_has_the_parameters_of_its_kind(kind, channels, classes, expected):
    with torch.device("meta"):
        assert (
            parameters(Classifier(ClassifierOptions(kind, classes), (channels, 32, 32))) == expected
        )


def test_logits_are_those_of_monais_resnet_on_normalised_images():
    network = Classifier(ClassifierOptions("narrow", 5), (2, 16, 16)).eval()
    network.mean, network.std = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.1])
    images = torch.rand(3, 2, 16, 16)
    with torch.inference_mode():
        logits, features = network(images)
        normalised = torch.stack([(images[:, 0] - 0.2) / 0.5, (images[:, 1] - 0.4) / 0.1], dim=1)
        torch.testing.assert_close(logits, network.resnet(normalised))
        torch.testing.assert_close(logits, network.resnet.fc(features))
        assert features.shape == (3, 64)
        assert features.min() >= 0
