"""Processes: nothing happens in a single one, and two share the work without loss."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_ood.runtime import distributed, launch


@pytest.fixture(autouse=True)
def outside_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests themselves are a single process, wherever they run."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_a_single_process_is_the_first_of_one() -> None:
    with distributed.process_group("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.is_main()
        assert distributed.gather("x") == ["x"]
        assert distributed.shard("abc") == ["a", "b", "c"]
        assert distributed.sum_over_processes(torch.tensor([2.0])).item() == 2
        network = nn.Linear(1, 1)
        assert distributed.replicated(network) is network
        distributed.barrier()


@pytest.mark.parametrize(
    ("device", "processes", "devices", "backend"),
    [
        ("cpu", 2, 0, "gloo"),
        ("cuda", 2, 2, "cpu:gloo,cuda:nccl"),
        ("auto", 2, 8, "cpu:gloo,cuda:nccl"),
        ("cuda", 2, 1, "gloo"),
        ("cuda:1", 2, 8, "gloo"),
        ("cuda:1", 1, 8, "cpu:gloo,cuda:nccl"),
    ],
)
def test_nccl_is_for_processes_with_a_device_each(
    device: str, processes: int, devices: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    chosen = torch.device("cpu" if device == "cpu" else "cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    for name, value in zip(launch.NEEDED, ("1", "1", "16", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(distributed, "pick_device", lambda name, rank: chosen)
    monkeypatch.setattr(distributed, "_join", joined.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with distributed.process_group(device) as found:
        assert found == chosen
    assert joined == [backend]


@pytest.mark.parametrize(("num", "processes"), [(0, 3), (2, 3), (3, 3), (10, 3), (10, 1)])
def test_every_item_belongs_to_exactly_one_process(
    num: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.shard(range(num)))
    assert sorted(item for share in shares for item in share) == list(range(num))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_only_the_first_process_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        distributed.print_once("process", rank)
    assert capsys.readouterr().out == "process 0\n"


def test_two_processes_know_and_hear_each_other(launch: Callable[..., Any], tmp_path: Path) -> None:
    for done in launch(__file__, str(tmp_path), processes=2):
        assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "world_size": 2,
            "sum": [3.0, 30.0],
            "gathered": ["of 0", "of 1"],
            "gradient": 1.5,  # the mean of 1 and 2
            "left": False,
        }


def note_what_a_process_sees(folder: Path) -> None:
    """The body of each of the two processes."""
    with distributed.process_group("cpu"):
        rank = distributed.rank()
        network = distributed.replicated(nn.Linear(1, 1, bias=False))
        network(torch.tensor([[1.0 + rank]])).sum().backward()
        (weight,) = network.parameters()
        assert weight.grad is not None
        seen = {
            "world_size": distributed.world_size(),
            "sum": distributed.sum_over_processes(torch.tensor([1.0, 10.0]) * (rank + 1)).tolist(),
            "gathered": distributed.gather(f"of {rank}"),
            "gradient": weight.grad.item(),
        }
        distributed.barrier()
    seen["left"] = torch.distributed.is_initialized()
    (folder / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    note_what_a_process_sees(Path(sys.argv[1]))
