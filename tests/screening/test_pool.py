"""A pool of workers: tasks, answers that come in any order, workers that die; all without Ray."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_detector import FakeDetector
from PIL import Image

from diffusion_ood import Detector
from diffusion_ood.data.remote import Remote
from diffusion_ood.errors import UserError
from diffusion_ood.screening import pool
from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.feed import Feed
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.pool import Answer, Pool, Task, Worker, split
from diffusion_ood.screening.run import screen

READER = FakeDetector().reader


def items(number: int) -> list[Item]:
    return [Item(f"{k:05}.png", Path(f"{k:05}.png"), f"{k:05}.png") for k in range(number)]


def decided(item: Item) -> Decision:
    return Decision(item.name, score=float(item.path.stem), p_value=0.5, is_ood=False)


class Workers:
    """Answers tasks in any order, a few images at a time; a share of the tasks is cut off."""

    def __init__(self, deaths: float = 0.0, deadly: str = "") -> None:
        self.random, self.deaths, self.deadly = random.Random(0), deaths, deadly
        self.passes: list[int] = []
        self.measured = 0

    def run(self, tasks: Sequence[Task]) -> Iterator[Answer]:
        """As of a `Pool`."""
        self.passes.append(len(tasks))
        for found, *_ in self.random.sample(tasks, len(tasks)):
            dies = len(self.passes) < 3 and self.random.random() < self.deaths
            for k in range(0, len(found), 5):
                part = found[k : k + 5]
                if (dies and k >= len(found) // 2) or self.deadly in {i.name for i in part}:
                    break
                self.measured += len(part)
                yield [decided(item) for item in part]


@pytest.mark.parametrize(("number", "workers"), [(1, 4), (40, 4), (3_000, 4), (100_000, 7)])
def test_tasks_hold_each_image_once_and_become_smaller(number: int, workers: int) -> None:
    found = list(split(items(number), workers))
    assert [item for task in found for item in task] == items(number)
    sizes = [len(task) for task in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= pool.MOST
    assert len(found) >= min(number, workers)


def test_a_slow_worker_holds_little_when_the_others_are_done() -> None:
    rates = [1.0, 1.0, 1.0, 0.25]
    tasks = iter([len(task) for task in split(items(3_000), len(rates))])
    free = [0.0] * len(rates)
    held = [[next(tasks), next(tasks)] for _ in rates]
    while any(held):
        first = min(
            (k for k in range(len(rates)) if held[k]),
            key=lambda k: free[k] + held[k][0] / rates[k],
        )
        free[first] += held[first].pop(0) / rates[first]
        held[first] += [size for size in [next(tasks, 0)] if size]
    assert max(free) <= 1.1 * 3_000 / sum(rates)


def test_a_task_that_is_not_done_is_handed_out_once_more() -> None:
    feed = Feed([b"a", b"b", b"c"])
    assert [feed.take() for _ in range(2)] == [(0, b"a"), (1, b"b")]
    feed.done(0)
    assert feed.take() == (2, b"c")
    feed.done(2)
    assert feed.take() == (1, b"b")
    assert feed.take() is None
    feed.done(None)
    feed.done(1)
    feed.done(1)  # by the other one, too
    assert feed.take() is None


@pytest.mark.parametrize("deaths", [0.0, 0.3, 0.9])
def test_each_image_is_answered_once_whoever_dies(deaths: float) -> None:
    workers, asked = Workers(deaths), items(2_000)
    seen: list[str] = []
    found = screen(
        FakeDetector(),  # type: ignore[arg-type] # a stand-in
        asked,
        None,
        seen=lambda decisions: seen.extend(d.file for d in decisions),
        elsewhere=Pool(workers.run, 4, READER).decide,
    )
    assert found == [decided(item) for item in asked]
    assert sorted(seen) == [item.name for item in asked]
    assert workers.measured == len(asked)
    assert (len(workers.passes) > 1) == (deaths > 0)


def test_an_image_at_which_workers_die_is_named_after_all_others_are_done() -> None:
    asked = items(1_000)
    seen: list[str] = []
    pool = Pool(Workers(deadly="00700.png").run, 4, READER)
    with pytest.raises(OSError, match=r"00700\.png"):
        seen.extend(d.file for decisions in pool.decide(asked, {}, None) for d in decisions)
    assert sorted(seen) == [item.name for item in asked if item.name != "00700.png"]


def test_what_a_worker_raises_ends_the_run() -> None:
    def run(tasks: Sequence[Task]) -> Iterator[Answer]:
        yield MemoryError("no more")

    with pytest.raises(MemoryError):
        list(Pool(run, 2, READER).decide(items(40), {}, None))


def test_nothing_to_decide_asks_nobody() -> None:
    workers = Workers()
    assert list(Pool(workers.run, 2, READER).decide([], {}, None)) == []
    assert workers.passes == []


def test_what_another_machine_does_not_see_is_not_taken_for_unreadable(
    tmp_path: Path,
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "here.png")
    there = [Item(name, tmp_path / name, name) for name in ("gone.png", "here.png")]

    def run(tasks: Sequence[Task]) -> Iterator[Answer]:
        for found, *_ in tasks:
            yield [Decision(item.name, reason="no such file") for item in found]

    assert [d.reason for part in Pool(run, 1, READER).decide(there[:1], {}, None) for d in part]
    with pytest.raises(OSError, match="here"):
        list(Pool(run, 1, READER).decide(there, {}, None))


def test_a_worker_decides_as_this_process(
    detector_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any folder, with one detector for all tasks."""
    monkeypatch.chdir(folder)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    asked = [Item(str(name), name, str(name)) for name in names]
    expected = screen(Detector.load(detector_file, "cpu"), asked, None)
    monkeypatch.chdir(tmp_path)
    reads: list[int] = []

    def content() -> bytes:
        reads.append(1)
        return detector_file.read_bytes()

    worker = Worker(content, "cpu", "off", 1, str(folder), period=0.0)
    tasks = [(asked[:20], {}, None), (asked[20:], {}, None)]
    answers = [answer for task in tasks for answer in worker.answers(task)]
    found = [decision for answer in answers for decision in answer]  # type: ignore[union-attr]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.file, ours.reason, ours.content) == (
            theirs.file,
            theirs.reason,
            theirs.content,
        )
        if theirs.score is not None:
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
            assert ours.p_value == pytest.approx(theirs.p_value, abs=1e-5)
    assert len(reads) == 1
    held = Worker(content, "cpu", "off", 1, str(folder), period=1e9)
    assert [len(answer) for answer in held.answers(tasks[0])] == [20]  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [UserError("wrong"), MemoryError(), RuntimeError("defect")])
def test_an_error_in_a_worker_is_its_last_answer(error: Exception) -> None:
    def content() -> bytes:
        raise error

    *_, last = Worker(content, "cpu", "off", 1, ".", 1.0).answers((items(3), {}, None))
    assert type(last) is type(error)
    assert str(error) in str(last)


def test_a_store_that_fails_for_a_moment_gives_a_reason() -> None:
    """An image of a disk that this machine can read and a worker cannot ends the run instead."""

    class Readable(Item):
        def read(self, reader: object) -> object:
            return None

    def run(tasks: Sequence[Task]) -> Iterator[Answer]:
        for found, *_ in tasks:
            yield [Decision(item.name, reason="503") for item in found]

    url = Remote("s3://bucket/a.png", "bucket/a.png", "s3://bucket/a.png")
    asked = Pool(run, 1, READER)
    (answer,) = asked.decide([Readable("a", url, "a")], {}, None)
    assert answer == [Decision("a", reason="503")]
    with pytest.raises(OSError, match="503"):
        list(asked.decide([Readable("b", Path("b.png"), "b")], {}, None))
