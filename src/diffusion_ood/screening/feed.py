"""Which task is whose; a process that holds nothing else starts at once, without torch."""

from __future__ import annotations

from collections.abc import Sequence


class Feed:
    """Hands out tasks, each once; when there is no other, once more those that are not done.

    Args:
        tasks: in any form.
    """

    def __init__(self, tasks: Sequence[bytes]) -> None:
        self._tasks, self._new = tasks, iter(range(len(tasks)))
        self._held: dict[int, int] = {}  # how often each was taken

    def take(self) -> tuple[int, bytes] | None:
        """The number of a task, and the task; None if there is nothing to do."""
        number = next(self._new, None)
        if number is None:
            number = next((k for k, times in self._held.items() if times == 1), None)
        if number is None:
            return None
        self._held[number] = self._held.get(number, 0) + 1
        return number, self._tasks[number]

    def done(self, number: int | None) -> None:
        """Note that a task is done, by whomever; None is no task."""
        if number is not None:
            self._held.pop(number, None)
