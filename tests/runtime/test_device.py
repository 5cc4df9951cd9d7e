"""Devices: names, precision and memory layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import device as device_module
from diffusion_ood.runtime.device import (
    LEAST_ROWS,
    MOST_CUDA_ROWS,
    MOST_ROWS,
    autocast,
    best_rows,
    compiler_is_there,
    describe,
    inductor_settings,
    pick_device,
    prepare,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["banana", "cuda:4711", "cpu:x", ""])
def test_a_device_that_is_not_there_is_a_mistake(name: str) -> None:
    with pytest.raises(UserError, match=f"`device`.*'{name}'"):
        pick_device(name)


def test_the_cpu_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == CPU
    for threads, words in ((1, "cpu (1 thread)"), (2, "cpu (2 threads)")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert describe(CPU) == words


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [(False, False, "cpu"), (False, True, "mps"), (True, True, "cuda")],
)
def test_auto_prefers_cuda_then_mps(
    has_cuda: bool, has_mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    monkeypatch.setattr(torch, "zeros", lambda *_, device: None)  # whether it works is not asked
    assert pick_device("auto").type == expected


@pytest.mark.parametrize(("local_rank", "index"), [(0, 0), (3, 3), (5, 1)])
def test_processes_spread_over_the_cuda_devices(
    local_rank: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch, "zeros", lambda *_, device: None)
    assert pick_device("cuda", local_rank) == torch.device("cuda", index)
    assert pick_device("cuda:2", local_rank) == torch.device("cuda:2")


def test_on_cuda_fp32_is_fp32_and_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # put back by monkeypatch
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.deterministic
    monkeypatch.setattr(torch, "zeros", lambda *_, device: None)
    pick_device("cuda:0")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast_computes_in_the_precision_asked_for(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_convolutions_get_their_fastest_layout_and_keep_their_values() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3))
    weight = network[0].weight.detach().clone()
    prepared = prepare(network, CPU)
    assert prepared is network
    assert prepared[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(prepared[0].weight, weight)


def test_networks_for_volumes_are_left_as_they_are() -> None:
    network = prepare(nn.Sequential(nn.Conv3d(2, 3, 3)), CPU)
    assert network[0].weight.is_contiguous()


def test_the_cpu_needs_a_compiler_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not compiler_is_there(CPU)
    (tmp_path / "clang++").touch(0o755)
    assert compiler_is_there(CPU)


@pytest.mark.parametrize(
    ("compiler", "headers", "possible"),
    [("gcc", True, True), ("clang", True, True), ("gcc", False, False), (None, True, False)],
)
def test_cuda_needs_a_compiler_of_c_and_the_headers_of_python(
    compiler: str | None,
    headers: bool,
    possible: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(device_module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(device_module.sysconfig, "get_path", lambda name: str(tmp_path))
    if compiler:
        (tmp_path / compiler).touch(0o755)
    if headers:
        (tmp_path / "Python.h").touch()
    assert compiler_is_there(torch.device("cuda")) == possible
    monkeypatch.setenv("CC", "/opt/cc")
    assert compiler_is_there(torch.device("cuda")) == headers


def test_a_full_device_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(torch.OutOfMemoryError):
        pick_device("cpu")


def test_mps_is_never_compiled_for() -> None:
    assert not compiler_is_there(torch.device("mps"))


@pytest.mark.parametrize(
    ("values", "precision", "threads", "rows"),
    [
        (32 * 28 * 28, "bf16", 2, 83),  # tiny, and in all others small
        (128 * 28 * 28, "bf16", 2, 20),
        (128 * 28 * 28, "bf16", 1, 10),
        (128 * 28 * 28, "fp32", 2, 10),
        (128 * 28 * 28, "bf16", 64, MOST_ROWS),
        (128 * 64**3, "fp32", 1, LEAST_ROWS),  # a volume
    ],
)
def test_a_cpu_takes_as_many_rows_as_its_caches_hold(
    values: int, precision: str, threads: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert best_rows(values, CPU, precision) == rows
    assert best_rows(values, torch.device("mps"), precision) == MOST_ROWS


@pytest.mark.parametrize(
    ("values", "gigabytes", "rows"),
    [
        (32 * 28 * 28, 80, MOST_CUDA_ROWS),  # tiny
        (256 * 64**2, 80, 256),  # big
        (256 * 64**2, 8, 32),
        (16 * 128**3, 80, 8),  # volumes
        (128 * 256**3, 8, LEAST_ROWS),
    ],
)
def test_a_gpu_takes_as_many_rows_as_leave_most_of_its_memory_free(
    values: int, gigabytes: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "total_memory", lambda _: gigabytes * 2**30)
    found = best_rows(values, torch.device("cuda"), "bf16")
    assert found == rows
    assert found == LEAST_ROWS or 32 * values * found <= gigabytes * 2**30 / 8


def test_the_compilers_settings_are_those_of_the_device_and_hold_inside_alone() -> None:
    before = inductor.freezing, inductor.cpp_wrapper
    assert before == (False, False)
    with inductor_settings(CPU):
        assert inductor.freezing
        assert inductor.cpp.enable_floating_point_contract_flag == "fast"
    with inductor_settings(torch.device("cuda")):
        assert (inductor.freezing, inductor.cpp_wrapper) == (True, False)
        assert inductor.cpp.enable_floating_point_contract_flag == "off"
    assert (inductor.freezing, inductor.cpp_wrapper) == before
