"""When a network is compiled, and that its labels are padded with its images."""

import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import batching
from diffusion_ood.runtime.batching import CompiledForFullBatches, MaybeCompiled

CPU = torch.device("cpu")


@pytest.fixture
def compiled(monkeypatch):
    """The sizes of the batches that reach the compiled network."""
    sizes = []

    def compile(network, dynamic):
        assert dynamic is False

        def run(x, t, **labels):
            assert {len(t), *map(len, labels.values())} == {len(x)}
            sizes.append(len(x))
            return network(x, t, **labels)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(batching, "compiler_is_there", lambda device: True)
    return sizes


def network(x, t, class_labels=None):
    row = (-1, *[1] * (x.ndim - 1))
    labelled = 0 if class_labels is None else 100 * class_labels.reshape(row)
    return x + t.reshape(row) + labelled


X, T, LABELS = torch.rand(5, 1, 2, 2), torch.arange(5), torch.tensor([3, 0, 1, 2, 0])


@pytest.mark.parametrize(("num", "expected"), [(5, [8]), (3, [])])
def test_labels_are_padded_with_their_images(compiled, num, expected):
    found = CompiledForFullBatches(network, 8)(X[:num], T[:num], class_labels=LABELS[:num])
    assert torch.equal(found, network(X, T, LABELS)[:num])
    assert compiled == expected


@pytest.mark.parametrize(
    ("mode", "remaining_s", "sizes", "word"),
    [
        ("on", 0, [5], None),
        ("off", 1e6, [], None),
        ("auto", 1, [], "compile off: "),
        ("auto", 1e6, [5], "compile on: "),
    ],
)
def test_a_network_is_compiled_where_it_repays(compiled, mode, remaining_s, sizes, word):
    maybe = MaybeCompiled(network, 5, mode, CPU)
    said = maybe.consider(remaining_s)
    assert (said is None) if word is None else said.startswith(word)
    assert maybe.consider(1e9) is None  # it is decided once
    assert torch.equal(maybe(X, T), network(X, T))
    assert compiled == sizes


def test_where_nothing_compiles_on_is_refused_and_auto_is_off(compiled, monkeypatch):
    monkeypatch.setattr(batching, "compiler_is_there", lambda device: False)
    with pytest.raises(UserError, match="--compile on: found no compiler for cpu"):
        MaybeCompiled(network, 5, "on", CPU)
    assert MaybeCompiled(network, 5, "auto", CPU).consider(1e9) is None
    assert compiled == []
