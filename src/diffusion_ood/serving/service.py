"""From the files of a request to its answers: decoded by one thread, measured by another."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from numpy.typing import NDArray
from torch import Tensor

from diffusion_ood.calibration.conformal import threshold
from diffusion_ood.errors import UserError
from diffusion_ood.options import ServeOptions
from diffusion_ood.report.pictures import png
from diffusion_ood.screening.maps import overlay
from diffusion_ood.serving.answers import About, FileScore, FileScores, Histogram
from diffusion_ood.serving.batches import Batches
from diffusion_ood.serving.limits import Room
from diffusion_ood.serving.metrics import Metrics
from diffusion_ood.serving.uploads import Upload, read_uploads

if TYPE_CHECKING:
    from diffusion_ood.detector import Detector

BINS = 40
Result = TypeVar("Result")


class Service:
    """A detector, and what it takes to answer many clients.

    Its coroutines never wait for a computation: images are decoded in one thread and measured in
    another.

    Attributes:
        metrics: what was counted.
        batches: the images that wait for the network.
    """

    def __init__(self, detector: Detector, options: ServeOptions) -> None:
        self._options = options
        self._most_pixels = options.max_pixels
        self._max_bytes = int(options.max_mb * 1e6)
        self._room = Room(options.max_queue, self._max_bytes)
        self._reader, self._map_limit = detector.reader, detector.map_limit
        # One thread alone: reading TIFF collects what is logged meanwhile.
        self._thread = ThreadPoolExecutor(1, "decoding")
        self.batches = Batches(
            lambda pixels, maps: detector.measure(pixels, maps=maps),
            options.shared_images,
            options.gather_ms / 1000,
            self._measured,
        )
        self.metrics = Metrics(lambda: self.batches.waiting)
        self.about = _about(detector, options)

    def close(self) -> None:
        """End the threads, once they have done what they were given."""
        self._thread.shutdown()
        self.batches.close()

    async def answer(self, request: Request, maps: bool) -> FileScores:
        """The scores of a request's files.

        Raises:
            HTTPException: the request is wrong, too late, or none of its files can be read.
            Overload: there is no room for it.
        """
        begin = time.perf_counter()
        with self._room.of_bytes() as hold:
            reading = read_uploads(request, self._max_bytes, self._options.max_files, hold)
            uploads = await self._in_time(reading, 408, "arrive")
            with self._room.of_images(len(uploads)), self.metrics.latency.time():
                scoring = asyncio.gather(*(self._score(upload, maps, begin) for upload in uploads))
                files = await self._in_time(scoring, 504, "be answered")
        self._count(files)
        return FileScores(files=list(files))

    async def _in_time(self, work: Awaitable[Result], status: int, verb: str) -> Result:
        try:
            return await asyncio.wait_for(work, self._options.timeout_s)
        except asyncio.TimeoutError:
            sentence = f"the request did not {verb} within {self._options.timeout_s:g} s"
            raise HTTPException(status, sentence) from None

    async def _score(self, upload: Upload, maps: bool, begin: float) -> FileScore:
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(
                self._thread, self._reader.content, upload.data, upload.name, self._most_pixels
            )
        except UserError as error:
            return FileScore(name=upload.name, error=str(error))
        limit = self._map_limit if maps else None  # None, too, of a detector that has no maps
        verdict = await asyncio.wrap_future(self.batches.submit(pixels, limit is not None))
        picture = None
        if limit is not None and verdict.map is not None:
            picture = await loop.run_in_executor(self._thread, _picture, pixels, verdict.map, limit)
        return FileScore(
            name=upload.name,
            score=verdict.score,
            p_value=verdict.p_value,
            is_ood=verdict.is_ood,
            loudest=verdict.loudest,
            milliseconds=round(1000 * (time.perf_counter() - begin), 3),
            map=picture,
        )

    def _count(self, files: Sequence[FileScore]) -> None:
        """Count a request's files; where none of them can be read, that is the client's mistake."""
        errors = [file.error for file in files if file.error is not None]
        self.metrics.unreadable.inc(len(errors))
        self.metrics.images.inc(len(files) - len(errors))
        self.metrics.ood.inc(sum(bool(file.is_ood) for file in files))
        if len(errors) == len(files):
            several = f"none of {len(files)} files can be read, the first: " * (len(files) > 1)
            raise HTTPException(422, several + errors[0])

    def _measured(self, images: int, seconds: float) -> None:
        self.metrics.batch.observe(images)
        self._room.image_s = seconds / images


def _picture(pixels: Tensor, of_image: NDArray[np.float32], limit: float) -> str:
    """The map over its image, a PNG in base64."""
    return base64.b64encode(png(overlay(pixels, of_image, limit))).decode()


def _about(detector: Detector, options: ServeOptions) -> About:
    counts, edges = np.histogram(detector.val_scores, BINS)
    return About(
        image_shape=list(detector.image_shape),
        target_fpr=detector.target_fpr,
        threshold=threshold(detector.val_scores, detector.target_fpr),
        validation=Histogram(edges=edges.tolist(), counts=counts.tolist()),
        summary={k: v for k, v in detector.summary().items() if k != "val_scores"},
        max_files=options.max_files,
        max_mb=options.max_mb,
    )
