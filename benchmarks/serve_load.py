"""Load on the service: many clients, each answer checked, and SIGTERM in the middle of a load.

    python benchmarks/serve_load.py mine.detector

Beside it stands `Detector.score` of the same images, one call after the other. Prints what was
measured as JSON; the ratio of CPU seconds is that of throughputs on a core without other work.
Ends with code 1 where an answer was lost, came twice or differs.
"""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ood.detector import Detector

IMAGES = 64
TOLERANCE = 1e-6  # of float32 arithmetic on batches of other sizes
BOUNDARY = "boundary"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
FILE = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{{}}.npy"\r\n\r\n'


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="of the load that SIGTERM ends")
    arguments = parser.parse_args()
    detector = Detector.load(arguments.detector, "cpu")
    images = _images(detector.image_shape)
    alone, cpu_alone, scores = _one_at_a_time(detector, images)
    with _served(arguments.detector) as (server, port):
        before = _metrics(port)
        load = Load(port, images, scores, range(arguments.requests))
        load.run(arguments.clients)
        metrics = _metrics(port)
        last = Load(port, images, scores, itertools.count())
        threading.Timer(arguments.seconds, server.send_signal, [signal.SIGTERM]).start()
        last.run(arguments.clients)
        said, _ = server.communicate(timeout=120)
    again, cpu_again, _ = _one_at_a_time(detector, images)
    cpu = metrics["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    cpu_served, cpu_alone = cpu / len(load.answered), min(cpu_alone, cpu_again)
    per_s = len(load.answered) / load.seconds
    milliseconds = 1000 * np.array(load.latencies)
    found = {
        "requests": arguments.requests,
        "answered once": len(load.answered),
        "images measured": int(metrics["diffusion_ood_images_total"]),
        "images a batch": metrics["diffusion_ood_batch_size_sum"]
        / metrics["diffusion_ood_batch_size_count"],
        "largest difference": max(load.differences),
        "images/s": per_s,
        "images/s one at a time": max(alone, again),
        "ratio": per_s / max(alone, again),
        "CPU ms an image": 1000 * cpu_served,
        "CPU ms an image one at a time": 1000 * cpu_alone,
        "ratio of CPU": cpu_alone / cpu_served,
        "p50 ms": float(np.median(milliseconds)),
        "p99 ms": float(np.quantile(milliseconds, 0.99)),
        "resident MB": metrics["process_resident_memory_bytes"] / 1e6,
        "answered until SIGTERM": len(last.answered),
        "torn": load.torn + last.torn,
        "said at the end": said.strip(),
        "exit code": server.returncode,
    }
    print(json.dumps(found, indent=1))
    asked = arguments.requests + 2  # two for metrics
    whole = len(load.answered) == found["images measured"] == arguments.requests
    kept = re.findall(r"\d+", said) == [str(asked + len(last.answered))]
    same = max(load.differences + last.differences) <= TOLERANCE
    sys.exit(not (whole and kept and same and not found["torn"] and server.returncode == 0))


def _images(shape: Sequence[int]) -> list[bytes]:
    """NPY files of noise, from a seed."""
    contents = []
    for noise in np.random.default_rng(0).random((IMAGES, *shape), np.float32):
        file = io.BytesIO()
        np.save(file, noise)
        contents.append(file.getvalue())
    return contents


def _one_at_a_time(detector: Detector, images: Sequence[bytes]) -> tuple[float, float, list[float]]:
    """Images a second, CPU seconds an image, and the score of each."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{k}.npy") for k in range(len(images))]
        for path, content in zip(paths, images, strict=True):
            path.write_bytes(content)
        detector.score(paths[:1])
        begin, cpu = time.perf_counter(), time.process_time()
        scores = [float(detector.score([path]).score[0]) for path in paths]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return len(images) / seconds, cpu / len(images), scores


@contextmanager
def _served(detector: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service as a process, and its port."""
    code = "import sys; from diffusion_ood.console import run; sys.argv[0] = 'diffusion-ood'; run()"
    words = [sys.executable, "-c", code, "serve", str(detector), "--port=0", "--device=cpu"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server, int(server.stdout.readline().rsplit(":", 1)[1])
    finally:
        server.kill()
        server.wait()


@dataclass
class Load:
    """Clients that ask one after the other, as many requests as there are or until nobody answers.

    Attributes:
        answered: the numbers of the requests that were answered.
        latencies: seconds of each answer.
        differences: of each score from that of `Detector.score`, relative beyond 1.
        torn: answers that did not come as a whole, or under another's name.
        seconds: of the whole load.
    """

    port: int
    images: Sequence[bytes]
    scores: Sequence[float]
    numbers: Any
    answered: set[int] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    torn: int = 0
    seconds: float = 0.0

    def run(self, clients: int) -> None:
        """Ask until the end."""
        self._left, self._lock = iter(self.numbers), threading.Lock()
        threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.perf_counter() - begin

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while True:
            with self._lock:
                number = next(self._left, None)
            if number is None:
                return
            begin = time.perf_counter()
            content = self.images[number % len(self.images)]
            body = FILE.format(number).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
            try:
                connection.request("POST", "/v1/score", body, HEADERS)
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                return  # nothing of an answer came: the request was not accepted
            try:
                self._check(number, answer.read(), time.perf_counter() - begin)
            except (http.client.HTTPException, ValueError, KeyError):
                with self._lock:
                    self.torn += 1
                return

    def _check(self, number: int, answer: bytes, seconds: float) -> None:
        (found,) = json.loads(answer)["files"]
        if found["name"] != f"{number}.npy" or number in self.answered:
            raise ValueError(found["name"])
        right = self.scores[number % len(self.scores)]
        with self._lock:
            self.answered.add(number)
            self.latencies.append(seconds)
            self.differences.append(abs(found["score"] - right) / max(1.0, abs(right)))


def _metrics(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    lines = [line.split(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


if __name__ == "__main__":
    main()
