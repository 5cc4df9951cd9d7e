"""Who may ask, and how much the service holds at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_ood.errors import UserError

SHORTEST_TOKEN = 16
HELD_REQUESTS = 8  # bodies of the largest size that are held at once


def read_token(path: Path | None) -> bytes | None:
    """The secret in a file, without white space around it; None without a file.

    Raises:
        UserError: it is short or has other characters than a header can carry.
    """
    if path is None:
        return None
    token = path.read_bytes().strip()
    if len(token) < SHORTEST_TOKEN or not all(33 <= byte <= 126 for byte in token):
        raise UserError(
            f"`token_file`: {path}: found {len(token)} characters, expected at least "
            f"{SHORTEST_TOKEN} of ASCII without spaces, on one line"
        )
    return token


class Overload(Exception):
    """There is no room for a request now.

    Attributes:
        retry_after_s: when there may be.
    """

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class Room:
    """Counts the images and bytes that are held, all in the event loop's thread.

    Attributes:
        images: that wait for their answer.
        num_bytes: of requests that are read or wait.
        image_s: seconds that the last images took, each.
    """

    def __init__(self, max_images: int, max_request_bytes: int) -> None:
        self.max_images, self.max_bytes = max_images, HELD_REQUESTS * max_request_bytes
        self.images = self.num_bytes = 0
        self.image_s = 0.0

    @contextmanager
    def of_bytes(self) -> Iterator[Callable[[int], None]]:
        """A function that holds more bytes, until the end of a `with`.

        It raises `Overload` where there would be too many.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if self.num_bytes + count > self.max_bytes:
                raise self._overload(f"{self.num_bytes} bytes of requests")
            self.num_bytes += count
            held += count

        try:
            yield hold
        finally:
            self.num_bytes -= held

    @contextmanager
    def of_images(self, count: int) -> Iterator[None]:
        """Hold images until the end of a `with`.

        Raises:
            Overload: there would be too many.
        """
        if self.images + count > self.max_images:
            raise self._overload(f"{self.images} images")
        self.images += count
        try:
            yield
        finally:
            self.images -= count

    def _overload(self, held: str) -> Overload:
        seconds = max(1, math.ceil(self.images * self.image_s))
        return Overload(f"{held} wait already, come again in {seconds} s", seconds)
