"""The history of the work on a run's tables."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.detection.history import FILE, add_work, read_work


def test_only_work_on_this_set_with_this_fingerprint_counts(tmp_path: Path) -> None:
    assert read_work(tmp_path, "in", {"seed": 2}) == []
    for name, seed, seconds in (("in", 2, 1.5), ("in", 3, 9.0), ("val", 2, 9.0), ("in", 2, 2.5)):
        add_work(tmp_path, {"set": name, "fingerprint": {"seed": seed}, "seconds": seconds})
    assert [work["seconds"] for work in read_work(tmp_path, "in", {"seed": 2})] == [1.5, 2.5]


def test_a_line_that_a_killed_process_left_is_passed_over(tmp_path: Path) -> None:
    add_work(tmp_path, {"set": "in", "fingerprint": {}, "seconds": 1.0})
    with open(tmp_path / FILE, "a") as file:
        file.write('{"set": "in", "fing')
    assert len(read_work(tmp_path, "in", {})) == 1
