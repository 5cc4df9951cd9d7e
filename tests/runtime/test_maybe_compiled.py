"""When a network is compiled, and that its labels are padded with its images."""

from contextlib import nullcontext

import pytest
import torch
from recorder import Recorder

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import compiling
from diffusion_ood.runtime.compiling import CompiledForFullBatches, MaybeCompiled

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
    monkeypatch.setattr(compiling, "compiler_is_there", lambda device: True)
    return sizes


def network(x, t, class_labels=None):
    row = (-1, *[1] * (x.ndim - 1))
    labelled = 0 if class_labels is None else 100 * class_labels.reshape(row)
    return x + t.reshape(row) + labelled


X, T, LABELS = torch.rand(5, 1, 2, 2), torch.arange(5), torch.tensor([3, 0, 1, 2, 0])


@pytest.mark.parametrize(("num", "expected"), [(5, [8]), (2, [8]), (1, [])])
def test_labels_are_padded_with_their_images(compiled, num, expected):
    found = CompiledForFullBatches(network, 8)(X[:num], T[:num], class_labels=LABELS[:num])
    assert torch.equal(found, network(X, T, LABELS)[:num])
    assert compiled == expected


@pytest.fixture
def clock(monkeypatch):
    """A clock on which every network call takes a second and a quarter: 0.25 s a row of five."""
    now = iter(k * 1.25 for k in range(1000))
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: next(now))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("mode", "rows", "sizes", "words"),
    [
        ("on", 0, [5] * 4, [None] * 4),
        ("off", 10**6, [], [None] * 4),
        ("auto", 2400 + 15, [], [None, None, "10 min", None]),
        ("auto", 2401 + 15, [5], [None, None, "10 min", None]),
    ],
)
def test_a_network_is_compiled_where_it_repays(compiled, mode, rows, sizes, words):
    """Compiling repays from 600 s on, and the third call decides: 2,400 rows take 600 s."""
    maybe = MaybeCompiled(network, 5, mode, CPU, "fp32")
    maybe.expect(rows)
    for word in words:
        assert torch.equal(maybe(X, T), network(X, T))
        said = maybe.decision()
        assert (said is None) if word is None else word in said
    assert compiled == sizes


def test_where_nothing_compiles_on_is_refused_and_auto_is_off(compiled, monkeypatch):
    monkeypatch.setattr(compiling, "compiler_is_there", lambda device: False)
    with pytest.raises(UserError, match=r"`compile`.*cpu"):
        MaybeCompiled(network, 5, "on", CPU, "fp32")
    maybe = MaybeCompiled(network, 5, "auto", CPU, "fp32")
    maybe.expect(10**9)
    for _ in range(5):
        maybe(X, T)
    assert maybe.decision() is None
    assert compiled == []


class Clock:
    """A clock on which a call takes a second, and a repeated recording what the test says."""

    def __init__(self, recorder, seconds):
        self.now, self.recorder, self.seconds = 0.0, recorder, seconds

    def __call__(self):
        """The time in seconds."""
        return self.now + self.seconds * len(self.recorder.repeated)

    def network(self, x, t, class_labels=None):
        """The network, which takes a second."""
        if not self.recorder.repeating:
            self.now += 1
        return network(x, t, class_labels)


@pytest.mark.parametrize(
    ("rows", "again", "sizes", "repeated", "said"),
    [
        (10**2, 0.1, [], 0, "compile off"),  # 20 calls more are not worth a recording
        (10**3, 0.1, [], 7 + 2, "0.1 s a call"),
        (10**3, 1.5, [], 2, "1.5 s a call"),  # slower than the network as it is
        (10**3, 1.0, [], 2, "1 s a call"),
        (10**5, 0.1, [], 7 + 2, "compile off"),  # 2,000 s
        (10**6, 0.1, [5] * 8, 5 + 2, "compile on"),  # 20,000 s
    ],
)
def test_a_network_is_recorded_and_compiled_where_it_repays(
    compiled, monkeypatch, rows, again, sizes, repeated, said
):
    recorder = Recorder()
    clock = Clock(recorder, again)
    monkeypatch.setattr(compiling.time, "perf_counter", clock)
    monkeypatch.setattr(compiling, "synchronize", lambda device: None)
    monkeypatch.setattr(compiling, "autocast", lambda device, precision: nullcontext())
    maybe = MaybeCompiled(clock.network, 5, "auto", torch.device("cuda"), "fp32", recorder)
    maybe.expect(rows)
    for _ in range(3 + 7):
        assert torch.equal(maybe(X, T), network(X, T))
    assert said in maybe.decision()
    assert maybe.decision() is None
    assert len(recorder.repeated) == repeated
    assert compiled == sizes


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("device", "batch", "mode", "sizes"),
    [
        ("cpu", 8, "on", [8] * 6),
        ("cpu", 8, "auto", [8] * 3),
        ("cpu", 256, "on", []),
        ("cpu", 256, "auto", [4] * 2),  # for the rows of the call that decides
        ("cuda", 256, "on", [4] * 4),  # five rows are more than the first call had
        ("cuda", 256, "auto", [3] * 2),
    ],
)
def test_it_is_compiled_for_as_many_rows_as_calls_have(
    compiled, monkeypatch, device, batch, mode, sizes
):
    monkeypatch.setattr(compiling, "synchronize", lambda device: None)
    monkeypatch.setattr(compiling, "autocast", lambda device, precision: nullcontext())
    maybe = MaybeCompiled(network, batch, mode, torch.device(device), "fp32")
    maybe.expect(10**6)
    for num in (4, 5, 4, 3, 5, 3):
        assert torch.equal(maybe(X[:num], T[:num]), network(X[:num], T[:num]))
    assert compiled == sizes


def test_a_recording_is_filled_up_where_that_takes_no_longer(compiled, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(compiling.time, "perf_counter", Clock(recorder, 0.6))
    monkeypatch.setattr(compiling, "synchronize", lambda device: None)
    monkeypatch.setattr(compiling, "autocast", lambda device, precision: nullcontext())
    clock = compiling.time.perf_counter
    maybe = MaybeCompiled(clock.network, 5, "auto", torch.device("cuda"), "fp32", recorder)
    maybe.expect(10**3)
    for num in (5, 5, 5, 4, 3):
        assert torch.equal(maybe(X[:num], T[:num]), network(X[:num], T[:num]))
    assert recorder.repeated == [5, 5, 5]  # twice to time it; 4 of 5 rows, but not 3


@pytest.mark.parametrize(
    ("mode", "recorded", "sizes"), [("off", [], 0), ("graph", [5], 0), ("on", [5], 7)]
)
def test_what_is_asked_for_is_recorded_without_a_clock(compiled, mode, recorded, sizes):
    recorder = Recorder()
    maybe = MaybeCompiled(network, 5, mode, CPU, "fp32", recorder)
    for num in (5, 5, 5, 5, 3, 5):
        assert torch.equal(maybe(X[:num], T[:num]), network(X[:num], T[:num]))
    assert recorder.recorded == recorded
    assert len(compiled) == sizes
    assert maybe.decision() is None


@pytest.mark.parametrize("mode", ["graph", "auto"])
def test_a_recording_that_fails_is_told_of_once(compiled, mode):
    maybe = MaybeCompiled(network, 5, mode, CPU, "fp32", Recorder("no memory"))
    maybe.expect(10**7)  # some seconds
    for _ in range(4):
        assert torch.equal(maybe(X, T), network(X, T))
    assert "no memory" in maybe.decision()
    assert maybe.decision() is None


@pytest.mark.slow
def test_a_really_compiled_network_answers_as_the_plain_one():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(1, 4, 3, padding=1).eval().requires_grad_(False)

    def plain(x, t):
        return convolution(x) + t.reshape(-1, 1, 1, 1)

    compiled = CompiledForFullBatches(plain, 8)
    x, t = torch.randn(7, 1, 8, 8), torch.arange(7)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x, t), plain(x, t), rtol=1e-5, atol=1e-6)
