"""What threads make ahead is what is made in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from diffusion_ood.runtime.ahead import made_ahead, threads_for


def square(number: int) -> int:
    if number == 13:
        raise ValueError(number)
    return number * number


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("number", [0, 1, 7, 12])
def test_every_item_comes_in_order_with_what_is_made_of_it(
    threads: int, chunk: int, number: int
) -> None:
    found = list(made_ahead(range(number), square, 5, threads, chunk))
    assert found == [(k, k * k) for k in range(number)]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_where_its_item_is_asked_for(threads: int) -> None:
    found = made_ahead(range(20), square, 8, threads)
    assert [next(found)[0] for _ in range(13)] == list(range(13))
    with pytest.raises(ValueError, match="13"):
        next(found)


@pytest.mark.parametrize(("threads", "chunk", "taken"), [(0, 1, 1), (2, 1, 5), (2, 3, 9)])
def test_as_many_items_are_taken_as_are_made_ahead(threads: int, chunk: int, taken: int) -> None:
    asked: list[int] = []
    before = threading.active_count()

    def items() -> Iterator[int]:
        for k in range(100):
            asked.append(k)
            yield k

    found = made_ahead(items(), abs, 4, threads, chunk)
    next(found)
    assert len(asked) == taken
    found.close()  # type: ignore[attr-defined] # it is a generator
    assert threading.active_count() == before


def test_a_cpu_has_no_threads_to_spare() -> None:
    assert threads_for(torch.device("cpu")) == 0
    assert threads_for(torch.device("cuda")) > 1
