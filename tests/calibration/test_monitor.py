"""The martingale by hand, its bound over streams, its delay, and its file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from diffusion_ood.calibration.monitor import Monitor
from diffusion_ood.errors import UserError

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1)


def keys(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def composite_jumper(p_values: list[float]) -> list[float]:
    """The algorithm as the paper writes it, with plain capitals."""
    path = []
    capital = {(rate, bet): 1 / 3 for rate in RATES for bet in (-1, 0, 1)}
    for p in p_values:
        for rate in RATES:
            total = sum(capital[rate, bet] for bet in (-1, 0, 1))
            for bet in (-1, 0, 1):
                mixed = (1 - rate) * capital[rate, bet] + rate * total / 3
                capital[rate, bet] = mixed * (1 + bet * (p - 0.5))
        path.append(sum(capital.values()) / len(RATES))
    return path


def stream(seed: int, before: int, after: int, shift: float) -> Monitor:
    """Of `before` scores like the 200 of validation, and then `after` with their mean shifted."""
    rng = np.random.default_rng(seed)
    monitor = Monitor(rng.normal(size=200))
    scores = rng.normal(size=before + after)
    scores[before:] += shift
    monitor.update(scores, keys(before + after, f"{seed}/"))
    return monitor


def test_the_path_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    monitor, p_values = Monitor([0.0]), rng.random(400) ** 1.5
    for p in p_values:
        monitor._bet(p)
    expected = np.log10(composite_jumper(list(p_values)))
    np.testing.assert_allclose(monitor.values, expected, rtol=1e-9, atol=1e-9)


def test_p_values_are_smoothed_among_validation_and_earlier_scores() -> None:
    monitor = Monitor([1, 2, 2, 3])
    assert monitor._p_value(2, 0.5) == (1 + 0.5 * 3) / 5
    assert monitor._p_value(4, 0.25) == 0.25 / 6
    assert monitor._p_value(0, 0.0) == 6 / 7
    assert monitor._p_value(4, 1.0) == 2 / 8  # the earlier 4 is one of those that tie


@pytest.mark.parametrize("decimals", [0, 9])
def test_p_values_of_a_stream_are_uniform_and_independent(
    decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    monkeypatch.setattr(Monitor, "_bet", lambda self, p: (found.append(p), self.values.append(0)))
    rng = np.random.default_rng(1)
    monitor = Monitor(rng.normal(size=20).round(decimals))  # few, so that all share them
    monitor.update(rng.normal(size=4000).round(decimals), keys(4000))
    assert kstest(found, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 3 / math.sqrt(4000)


def test_streams_without_drift_alarm_no_more_often_than_the_level_says() -> None:
    streams = [stream(seed, 500, 0, 0.0) for seed in range(200)]
    assert sum(monitor.alarm(level=20) for monitor in streams) <= 10
    assert min(min(monitor.values) for monitor in streams) >= math.log10(1 / 5) - 1e-9


def test_many_streams_on_the_same_few_validation_images_keep_the_level() -> None:
    # Against these alone, p-values of a long stream would drift from uniform.
    rng = np.random.default_rng(2)
    alarms = 0
    for seed in range(200):
        monitor = Monitor(rng.normal(size=10))
        monitor.update(rng.normal(size=400), keys(400, f"{seed}/"))
        alarms += monitor.alarm()
    assert alarms <= 10


@pytest.mark.parametrize(("shift", "delay"), [(2.1, 30), (0.954, 60)])  # AUROC 93 and 75
def test_streams_that_turn_half_way_alarm(shift: float, delay: int) -> None:
    at = [stream(seed, 250, 250, shift).alarm_at() for seed in range(100)]
    delays = [found - 249 for found in at if found is not None and found >= 250]
    assert len(delays) >= 90
    assert sum(found is not None for found in at) >= 95
    assert np.median(delays) <= delay


def test_a_long_quiet_past_delays_the_alarm_little() -> None:
    found = stream(5, 10_000, 200, 2.1).alarm_at()
    assert found is not None
    assert 10_000 <= found <= 10_050


def test_nothing_overflows_in_a_long_drift() -> None:
    monitor = Monitor(np.zeros(1000))
    monitor.update(np.arange(1, 20_001), keys(20_000))
    assert np.isfinite(monitor.values).all()
    assert monitor.log10_value > 308


def test_an_image_counts_once() -> None:
    scores = np.random.default_rng(4).normal(size=30)
    once, twice = Monitor(range(50)), Monitor(range(50))
    path = once.update(scores, keys(30))
    twice.update(scores[:20], keys(20), "2026-01-01")
    again = twice.update(scores, keys(30), "2026-01-02")
    assert again[19:].tolist() == path[19:].tolist()
    assert set(again[:20]) == {path[19]}
    assert twice.values == once.values == path.tolist()
    assert [(entry["date"], entry["num_images"]) for entry in twice.history] == [
        ("2026-01-01", 20),
        ("2026-01-02", 10),
    ]
    twice.update(scores, keys(30), "2026-01-03")
    assert len(twice.history) == 2
    assert twice.update([], []).shape == (0,)


def test_an_alarm_stays_and_names_its_image() -> None:
    monitor = Monitor(np.random.default_rng(5).normal(size=100))
    assert monitor.alarm_at() is None
    monitor.update(np.full(50, 9.0) + np.arange(50), keys(50))
    first = monitor.alarm_at()
    assert first is not None
    assert monitor.values[first] >= math.log10(20) > monitor.values[first - 1]
    assert not monitor.alarm(level=1e50)
    with pytest.raises(ValueError, match="1"):
        monitor.alarm(level=1)


@pytest.mark.parametrize("scores", [[1.0], [1.0, np.nan], [1.0, 2.0, 3.0]])
def test_a_wrong_update_changes_nothing(scores: list[float]) -> None:
    monitor = Monitor(range(9))
    before = monitor.state()
    with pytest.raises(ValueError, match=r"."):
        monitor.update(scores, keys(2))
    assert monitor.state() == before


def test_a_stored_monitor_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    scores = np.random.default_rng(6).normal(size=300).round(1)
    whole, parts = Monitor(range(9), "d"), Monitor(range(9), "d")
    whole.update(scores, keys(300))
    parts.update(scores[:111], keys(111), "Monday")
    parts.save(tmp_path / "m.json")
    parts = Monitor.load(tmp_path / "m.json", "d")
    assert parts.history[0]["date"] == "Monday"
    parts.update(scores, keys(300), "Tuesday")
    assert parts.values == whole.values
    assert parts.state()["shares"] == whole.state()["shares"]


def test_a_file_that_cannot_be_trusted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    monitor = Monitor(range(9), "one")
    monitor.update([1.0, 5.0], keys(2))
    monitor.save(path)
    text = path.read_text()
    with pytest.raises(UserError, match=r"m\.json.*one.*other"):
        Monitor.load(path, "other")
    state = json.loads(text)
    damaged = [
        text[:-9],
        "",
        "[]",
        "[" * 10_000,
        "\xff",
        json.dumps({**state, "shares": [1]}),
        json.dumps({**state, "values": [math.nan, 0]}),
        json.dumps({**state, "scores": {}}),
        json.dumps({**state, "val_scores": []}),
        json.dumps({**state, "history": [1]}),
        json.dumps({**state, "values": [10**400, 0]}),
        json.dumps({name: value for name, value in state.items() if name != "values"}),
        json.dumps({**state, "format": 2, "scores": None}),
    ]
    for wrong in damaged:
        path.write_text(wrong, encoding="latin-1")
        with pytest.raises(UserError, match=r"m\.json"):
            Monitor.load(path, "one")
    path.write_text(damaged[-1])
    with pytest.raises(UserError, match="format 2"):
        Monitor.load(path, "one")
    path.write_text(text)
    assert Monitor.load(path, "one").state() == monitor.state()
