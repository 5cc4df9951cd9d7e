"""The convolutions for the matrix unit of a CPU are torch's own within the rounding of bf16."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks import amx
from diffusion_ood.networks.unet import build_unet

needs_unit = pytest.mark.skipif(not amx.is_there(), reason="needs a CPU with AMX and a compiler")

# Images, input and output channels, height, width: in one band of rows and in several, with pixels
# that fill the last tile or do not, and with fewer than there are in a tile.
SHAPES = [
    (1, 32, 32, 1, 1),
    (2, 64, 32, 1, 7),
    (3, 32, 64, 5, 9),
    (5, 96, 32, 28, 28),
    (2, 512, 64, 14, 13),
    (1, 128, 32, 70, 64),
    (7, 256, 64, 7, 7),
]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(outputs: int, inputs: int) -> Tensor:
    """Weights that keep the size of what they are multiplied with, as bf16 has them."""
    return (normal(outputs, inputs, 3, 3, seed=2) / (9 * inputs) ** 0.5).bfloat16().float()


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def given(images: int, inputs: int, outputs: int, height: int, width: int) -> dict[str, Tensor]:
    return {
        "x": normal(images, inputs, height, width, seed=1).bfloat16(),
        "scale": normal(images, inputs, seed=3).exp(),
        "shift": normal(images, inputs, seed=4),
        "weight": weights(outputs, inputs),
        "bias": normal(images, outputs, seed=5),
        "residual": normal(images, outputs, height, width, seed=6).bfloat16(),
    }


def in_fp32(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, residual: Tensor
) -> Tensor:
    activated = functional.silu(x * scale[..., None, None] + shift[..., None, None])
    return functional.conv2d(activated, weight, padding=1) + bias[..., None, None] + residual


@needs_unit
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalised_activated_and_convolved(shape: tuple[int, ...]) -> None:
    arguments = given(*shape)
    found = amx.silu_convolution(**arguments)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(found, in_fp32(**arguments)) < 2.5e-3


@needs_unit
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_enlarged_and_convolved(shape: tuple[int, ...]) -> None:
    x, weight, bias = (given(*shape)[name] for name in ("x", "weight", "bias"))
    found = amx.enlarged_convolution(x, weight, bias[0])
    enlarged = functional.interpolate(x.float(), scale_factor=2)
    expected = functional.conv2d(enlarged, weight, bias[0], padding=1)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 2.5e-3


def test_sums_of_weights_see_repeated_pixels_as_the_kernel_does() -> None:
    x, weight = normal(2, 3, 4, 5, seed=1).double(), normal(6, 3, 3, 3, seed=2).double()
    expected = functional.conv2d(functional.interpolate(x, scale_factor=2), weight, padding=1)
    bordered = functional.pad(x, (1, 1, 1, 1))
    for phase, kernel in enumerate(amx.phases(weight)):
        row, column = divmod(phase, 2)
        seen = bordered[:, :, row : row + 5, column : column + 6]
        found = functional.conv2d(seen, kernel.unflatten(-1, (2, 2)))
        torch.testing.assert_close(found, expected[:, :, row::2, column::2])


def test_sums_of_weights_are_not_rounded_before_they_are_added_up() -> None:
    weight = weights(32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(amx.phases(weight)[3, ..., 3], weight[..., 2, 2])
        found = amx.phases(weight)[0, ..., 3]
    torch.testing.assert_close(found, weight[..., 1:, 1:].sum((-1, -2)), rtol=1e-6, atol=1e-8)


@needs_unit
def test_silu_is_right_where_the_exponential_overflows() -> None:
    x = torch.tensor([-1e30, -200.0, -5.0, 0.0, 5.0, 200.0, 1e30]).bfloat16()
    images = x.repeat(1, 32, 1).view(1, 32, 1, 7)
    middle = torch.zeros(32, 32, 3, 3)
    middle[:, :, 1, 1] = torch.eye(32)
    found = amx.silu_convolution(
        images, torch.ones(1, 32), torch.zeros(1, 32), middle, torch.zeros(1, 32)
    )
    expected = functional.silu(x.float()).bfloat16()
    torch.testing.assert_close(found[0, 0, 0], expected, rtol=4e-3, atol=1e-37)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_unit
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(5, 96, 64, 28, 28), (7, 256, 64, 7, 7), (2, 128, 32, 70, 64)])
def test_the_same_numbers_for_any_number_of_threads_and_images(shape: tuple[int, ...]) -> None:
    arguments = given(*shape)
    results = []
    for count in (1, 2, 3, 64):
        torch.set_num_threads(count)
        results.append(amx.silu_convolution(**arguments))
    assert all(torch.equal(results[0], result) for result in results[1:])
    second = {name: value if name == "weight" else value[1:2] for name, value in arguments.items()}
    assert torch.equal(amx.silu_convolution(**second), results[0][1:2])


@needs_unit
def test_a_library_that_uses_the_unit_is_not_disturbed() -> None:
    a, b = normal(64, 96, seed=1).bfloat16(), normal(96, 80, seed=2).bfloat16()
    before = a @ b
    for shape in SHAPES:
        amx.silu_convolution(**given(*shape))
        assert torch.equal(a @ b, before)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(32, 64, 3, padding=1), True),
        (nn.Conv2d(32, 64, 3, padding=1, stride=2), False),
        (nn.Conv2d(32, 64, 3, padding=1, bias=False), False),
        (nn.Conv2d(32, 64, 3), False),
        (nn.Conv2d(32, 64, 1), False),
        (nn.Conv2d(32, 64, 3, padding=1, groups=2), False),
        (nn.Conv2d(32, 48, 3, padding=1), False),
        (nn.Conv2d(1, 32, 3, padding=1), False),
        (nn.Conv3d(32, 64, 3, padding=1), False),
    ],
)
def test_what_it_convolves(layer: nn.Module, expected: bool) -> None:
    assert amx.fits(layer) is expected


class CountedCalls:
    """How often the convolution is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiled, self.count = amx._compiled(), 0

        def call(*arguments: object) -> int:
            self.count += 1
            return int(compiled(*arguments))

        monkeypatch.setattr(amx, "_compiled", lambda: call)


def predict(network: nn.Module, *, precision: torch.dtype, gradient: bool = False) -> Tensor:
    """What a small U-Net says, compiled without the minutes of a C++ compiler, and in one graph."""
    torch._dynamo.reset()
    x, t = normal(2, 1, 8, 8, seed=1), torch.tensor([10.0, 900.0])
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with torch.set_grad_enabled(gradient), autocast:
        found: Tensor = compiled(x, t)
    return found.detach().float()


def unet(model_type: str = "tiny") -> nn.Module:
    """A U-Net of which every layer does something; MONAI's fresh ones give zero."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = build_unet(model_type, (1, 8, 8)).eval()
        for weight in network.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=(2 / weight[0].numel()) ** 0.5)
    return network


@needs_unit
@pytest.mark.parametrize(
    ("model_type", "count"),
    [
        ("tiny", 24),  # eleven residual blocks of two, two enlargements
        pytest.param("ddim32", 47, marks=pytest.mark.slow),  # MONAI core's; 22 and three
    ],
)
def test_a_compiled_unet_uses_it_in_bf16_without_gradient(
    model_type: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, network = CountedCalls(monkeypatch), unet(model_type)
    expected = predict(network, precision=torch.float32)
    predict(network, precision=torch.bfloat16, gradient=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        eager = network(normal(2, 1, 8, 8, seed=1), torch.tensor([10.0, 900.0])).float()
    assert calls.count == 0
    found = predict(network, precision=torch.bfloat16)
    assert calls.count == count
    assert relative_error(found, expected) < 1.2 * relative_error(eager, expected) < 0.05


@needs_unit
def test_without_the_unit_monais_own_layers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, network = CountedCalls(monkeypatch), unet()
    expected = predict(network, precision=torch.float32)
    monkeypatch.setattr(amx, "_found", lambda: False)
    found = predict(network, precision=torch.bfloat16)
    assert calls.count == 0
    assert relative_error(found, expected) < 0.03


@needs_unit
@pytest.mark.parametrize("name", ["_init_amx", "_is_amx_tile_supported"])
def test_a_torch_without_its_private_parts_has_no_unit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, name)
    assert amx._found.__wrapped__() is False


@needs_unit
@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_without_a_compiler_there_is_no_unit(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error("no compiler")

    monkeypatch.setattr(amx, "_compiled", fail)
    assert amx._found.__wrapped__() is False


@needs_unit
def test_memory_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "_compiled", lambda: lambda *arguments: 0)
    with pytest.raises(MemoryError, match=r"no memory to convolve \(2, 1, 7, 64\)"):
        amx.silu_convolution(**given(2, 64, 32, 1, 7))
