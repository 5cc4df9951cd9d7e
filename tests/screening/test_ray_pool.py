"""`diffusion-ood screen --ray` on real clusters of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ramps import ramps, write

from diffusion_ood import Detector
from diffusion_ood.commands import screen
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.imports import set_up_ray

pytest.importorskip("ray")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_two_workers_decide_as_one_process(
    detector_file: Path,
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what they decided is gone on with by one process; nothing but JSON is on stdout."""
    monkeypatch.chdir(folder.parent)
    words = [str(detector_file), folder.name, "--device=cpu", "--report_images=0"]
    screen.main([*words, "--output=one"])
    handler = signal.getsignal(signal.SIGTERM)
    capfd.readouterr()
    words += ["--output=two", "--table=parquet"]
    screen.main([*words, "--json", "--maps=maps", "--ray=auto", "--ray_workers=2"])
    printed = capfd.readouterr().out.splitlines()
    assert signal.getsignal(signal.SIGTERM) is handler
    one, two = pd.read_csv("one/decisions.csv"), pd.read_parquet("two/decisions.parquet")
    assert list(two["file"]) == list(one["file"])
    assert Counter(json.loads(line)["file"] for line in printed) == Counter(one["file"])
    for name in ("score", "p_value"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-5)
    assert list(two["reason"]) == list(one["reason"].fillna(""))
    assert len(list(Path("maps").rglob("*.npy"))) == len(one) - 1
    monkeypatch.setattr(Detector, "measure", None)
    screen.main(words)
    assert pd.read_parquet("two/decisions.parquet").equals(two)


@pytest.mark.slow
def test_no_image_is_lost_with_a_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demonstration, shorter; how long it takes depends on what else the machine does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("PYTHONPATH", "RAY_DEMO_STARTS", "RAY_DEMO_PACE"):
        monkeypatch.setenv(name, "")  # so that they are as before in the end
    import ray_cluster

    ray_cluster.random_detector().save(tmp_path / "random.detector")
    detector = Detector.load(tmp_path / "random.detector", "cpu")
    images = ray_cluster.random_images(tmp_path / "images", 400, detector.image_shape)
    items = ray_cluster.gather([images])
    expected = {d.file: d for d in ray_cluster.screen(detector, items, None)}
    run = ray_cluster.Run(tmp_path / "random.detector", detector, items, tmp_path / "out", 0.1)
    found = run.do(expected)
    assert (found.lost, found.doubled) == (0, 0)
    assert found.difference <= 1e-5
    assert run.killed


@pytest.mark.slow
def test_no_image_is_lost_with_a_machine(detector_file: Path, tmp_path: Path) -> None:
    """That does not come back, so that its worker cannot start again."""
    from ray.cluster_utils import Cluster

    write(tmp_path / "in", [*ramps(3_000, 3)], "p{:02}_{}", 10)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    words = ["screen", str(detector_file), str(tmp_path / "in"), f"--output={tmp_path / 'out'}"]
    words += ["--device=cpu", "--report_images=0", f"--ray={cluster.address}"]
    code = "from diffusion_ood.console import run; run()"
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # as of the `Cluster`
    command = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, env=env
    )
    table = tmp_path / "out" / "decisions.csv"
    while command.poll() is None and (not table.exists() or len(pd.read_csv(table)) < 100):
        time.sleep(0.1)
    assert command.poll() is None
    cluster.remove_node(lost)
    command.communicate()
    cluster.shutdown()
    assert command.returncode == 0
    found = pd.read_csv(table)
    assert len(found) == found["file"].nunique() == 3_000
    assert found["score"].notna().all()


@pytest.mark.parametrize(
    ("resources", "workers", "device", "expected"),
    [
        ({"CPU": 8.0}, None, "auto", (8, "cpu", 1.0, 0.0, 1)),
        ({"CPU": 8.0}, 2, "auto", (2, "cpu", 1.0, 0.0, 4)),
        ({"CPU": 2.0}, 4, "auto", (4, "cpu", 0.5, 0.0, 1)),
        ({"CPU": 64.0, "GPU": 8.0}, None, "auto", (8, "cuda", 1.0, 1.0, 8)),
        ({"CPU": 64.0, "GPU": 8.0}, 16, "cuda", (16, "cuda", 1.0, 0.5, 4)),
        ({"CPU": 64.0, "GPU": 8.0}, None, "cpu", (64, "cpu", 1.0, 0.0, 1)),
    ],
)
def test_workers_share_a_cluster(
    resources: dict[str, float], workers: int | None, device: str, expected: tuple[object, ...]
) -> None:
    from diffusion_ood.screening.ray_driver import Share

    share = Share.of(resources, workers, device)
    found = (share.workers, share.device, share.num_cpus, share.num_gpus, share.threads)
    assert found == expected


def test_a_cluster_without_what_is_asked_for_is_refused(detector_file: Path, folder: Path) -> None:
    from diffusion_ood.screening.ray_driver import Share

    with pytest.raises(UserError, match="`device`"):
        Share.of({"CPU": 8.0}, None, "cuda")
    words = [str(detector_file), str(folder), "--device=cpu", f"--output={folder.parent / 'out'}"]
    with pytest.raises(UserError, match="`ray`"):
        screen.main([*words, "--ray=127.0.0.1:9"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--ray_workers=2"],
        ["--ray=auto", "--device=cuda:1"],
        ["--ray=ray://host:10001"],
        ["--ray=host"],
        ["--ray="],
    ],
)
def test_flags_that_do_not_go_together_are_refused(detector_file: Path, flags: list[str]) -> None:
    with pytest.raises(UserError):
        screen.main([str(detector_file), "x.png", *flags])


@pytest.mark.parametrize("flag", ["--ray=auto", "--table=parquet"])
def test_a_missing_package_is_named_with_its_extra(
    detector_file: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setattr("diffusion_ood.runtime.imports.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"diffusion-ood\[ray\]"):
        screen.main([str(detector_file), "x.png", flag])


def test_the_end_of_a_cluster_ends_its_driver(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from diffusion_ood.screening import ray_driver

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(ray_driver, "WATCH_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watching = threading.Thread(target=ray_driver._watch, args=[address])
        watching.start()
        time.sleep(0.2)
        assert codes == []
        server.close()
        watching.join(10)
    assert codes == [1]
    assert address in capfd.readouterr().err


def test_a_driver_that_ended_has_said_why(tmp_path: Path) -> None:
    from diffusion_ood.screening import ray_pool

    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    (tmp_path / ray_pool.SAID).write_text("much else\nthe cluster has ended\n")
    with pytest.raises(OSError, match="the cluster has ended"):
        ray_pool._received(ours, str(tmp_path))


@pytest.mark.parametrize(("token", "mode"), [(True, "token"), (False, None)])
def test_a_cluster_with_a_token_is_joined_with_it(
    token: bool, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delitem(sys.modules, "ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret")
    set_up_ray()
    assert os.environ.pop("RAY_AUTH_MODE", None) == mode
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
