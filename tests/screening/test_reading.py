"""Images read ahead: in order, a few batches of them, and no more once nobody asks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.remote import Remote
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.screening import reading
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.reading import AHEAD, FAR_AHEAD, FAR_THREADS, ahead

READER = Reader(ImageOptions(is_grayscale=True), (1, 1, 1))
SIZE = 4
LATE = SIZE * (AHEAD + 1)


@dataclass(frozen=True)
class Counted(Item):
    """An image that notes that it was read; the earlier ones of a batch take longer."""

    number: int = 0
    begun: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def read(self, reader: Reader) -> Tensor:
        """Its number, after a while."""
        self.begun.append(self.number)
        self.threads.add(threading.get_ident())
        time.sleep(0.3 if self.number >= LATE else 0.004 * (SIZE - self.number % SIZE))
        if self.number == 5:
            raise UserError("damaged")
        return torch.full((1, 1, 1), self.number)


def batches(begun: list[int], threads: set[int], count: int) -> list[list[Item]]:
    items = [Counted("x", Path(), "x", None, None, n, begun, threads) for n in range(SIZE * count)]
    return [[*items[k : k + SIZE]] for k in range(0, len(items), SIZE)]


def test_batches_come_in_order_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CPUS", 3)
    threads: set[int] = set()
    found = [
        image for batch in ahead(batches([], threads, AHEAD + 1), READER) for image, _ in batch
    ]
    assert isinstance(found.pop(5), UserError)
    assert [float(x) for x in found if isinstance(x, Tensor)] == [*range(5), *range(6, LATE)]
    assert len(threads) == 3


def test_few_batches_wait_and_none_are_read_after_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CPUS", 2)
    begun: list[int] = []
    images = ahead(batches(begun, set(), 100), READER)
    next(images)
    time.sleep(0.2)
    assert len(begun) == LATE
    next(images)
    images.close()  # type: ignore[attr-defined] # it is a generator
    assert len(begun) < LATE + SIZE


def test_images_at_urls_are_waited_for_by_many_threads() -> None:
    """A tenth of a second each, say: four threads would read 40 a second."""
    file = Remote("s3://bucket/a.png", "bucket/a.png", "s3://bucket/a.png")
    threads: set[int] = set()
    numbers = [LATE - 1] * 16 * FAR_AHEAD

    @dataclass(frozen=True)
    class Slow(Counted):
        def read(self, reader: Reader) -> Tensor:
            self.threads.add(threading.get_ident())
            time.sleep(0.2)
            return torch.zeros(1, 1, 1)

    items = [Slow("x", file, "x", None, None, n, [], threads) for n in numbers]
    assert len([*ahead([items[k : k + 16] for k in range(0, len(items), 16)], READER)]) == 4
    assert FAR_THREADS / 2 < len(threads) <= FAR_THREADS
