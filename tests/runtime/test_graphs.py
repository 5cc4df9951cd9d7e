"""Recorded networks against the same as they are, with a recorder that needs no GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from recorder import Recorder
from torch import Tensor

from diffusion_ood.runtime.graphs import MOST_GRAPHS, RECURS, Recorded, capture, recorder_for

X, T = torch.rand(200, 1, 2, 2), torch.arange(200)


def network(x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
    row = (-1, *[1] * (x.ndim - 1))
    labelled = 0 if class_labels is None else 1000 * class_labels.reshape(row)
    return 2 * x + t.reshape(row) + labelled


def ask(recorded: Recorded, rows: int, times: int = 1) -> None:
    """Calls of so many rows, other ones each time, and what the network says of them."""
    for k in range(times):
        x, t = X[k : k + rows], T[k : k + rows]
        assert torch.equal(recorded(x, t), network(x, t))


def test_only_cuda_records() -> None:
    assert recorder_for(torch.device("cpu")) is None
    assert recorder_for(torch.device("cuda")) is not None


def test_a_size_that_recurs_is_recorded_and_the_rest_goes_through() -> None:
    recorder = Recorder()
    recorded = Recorded(network, recorder)
    ask(recorded, 8, RECURS - 1)
    assert recorder.recorded == []
    ask(recorded, 8)
    assert (recorder.recorded, recorder.repeated) == ([8], [8])
    ask(recorded, 8, 4)
    assert recorder.repeated == [8] * 5


def test_fewer_rows_are_padded_and_those_of_a_quarter_are_not() -> None:
    recorder = Recorder()
    recorded = Recorded(network, recorder)
    ask(recorded, 8, RECURS)
    for rows in (7, 3, 2, 1, 8):
        ask(recorded, rows)
    assert recorder.repeated == [8] * 4
    ask(recorded, 2, RECURS)  # one of which there was before
    assert recorder.recorded == [8, 2]
    ask(recorded, 2)
    ask(recorded, 8)  # each writes into memory of the other
    assert recorder.repeated[-2:] == [2, 8]


def test_an_output_stays_when_others_follow() -> None:
    recorded = Recorded(network, Recorder())
    ask(recorded, 8, RECURS)
    first = recorded(X[:8], T[:8])
    recorded(X[8:16], T[8:16])
    assert torch.equal(first, network(X[:8], T[:8]))


def test_labels_and_other_shapes_have_recordings_of_their_own() -> None:
    recorder = Recorder()
    recorded = Recorded(network, recorder)
    labels = torch.arange(5)
    others = torch.rand(5, 3, 4, 4, 4)
    for _ in range(RECURS + 1):
        for rows in (5, 4):
            x, t, classes = X[:rows], T[:rows], labels[:rows]
            assert torch.equal(recorded(x, t, class_labels=classes), network(x, t, classes))
            assert torch.equal(recorded(x, t), network(x, t))
            assert torch.equal(recorded(others[:rows], t), network(others[:rows], t))
    assert recorder.recorded == [5, 5, 5]


def test_there_is_an_end_to_recordings() -> None:
    recorder = Recorder()
    recorded = Recorded(network, recorder)
    for rows in range(1, MOST_GRAPHS + 5):  # each larger than all before
        ask(recorded, 10 * rows, RECURS + 1)
    assert len(recorder.recorded) == MOST_GRAPHS


class BrokenCapture:
    """As `torch.cuda.graph` where work breaks a capture: it fails again, and its stream stays."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> None:
        torch.cuda.set_stream(OWN)

    def __exit__(self, *_: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


OWN, CURRENT = (SimpleNamespace(device=torch.device("cuda")) for _ in range(2))


def test_a_capture_that_fails_says_the_first_reason_and_gives_its_stream_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams: list[object] = [CURRENT]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: streams[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    monkeypatch.setattr(torch.cuda, "graph", BrokenCapture)

    def work() -> Tensor:
        raise RuntimeError("a number was asked for")

    with pytest.raises(RuntimeError, match="a number was asked for"):
        capture(None, work, OWN)  # type: ignore[arg-type] # stand-ins
    with pytest.raises(RuntimeError, match="operation failed"):
        capture(None, lambda: X, OWN)  # type: ignore[arg-type] # stand-ins
    assert streams == [CURRENT, OWN, CURRENT, OWN, CURRENT]


def test_where_recording_fails_the_network_goes_on() -> None:
    recorder = Recorder("CUDA out of memory\nand more")
    recorded = Recorded(network, recorder)
    ask(recorded, 8, 10)
    assert recorded.failure == "CUDA out of memory"
