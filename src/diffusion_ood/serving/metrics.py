"""What the service counts, in the words of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service; no label has a value that a client chooses."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        name = "diffusion_ood_{}".format
        self.requests = Counter(name("requests"), "Answers by status", ["code"], registry=registry)
        self.images = Counter(name("images"), "Images that were scored", registry=registry)
        self.ood = Counter(name("ood"), "Images that were called OOD", registry=registry)
        self.unreadable = Counter(
            name("unreadable"), "Files that could not be read", registry=registry
        )
        self.latency = Histogram(
            name("score_seconds"),
            "Seconds of a request for scores",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            name("batch_size"), "Images that shared calls", buckets=SIZES, registry=registry
        )
        Gauge(
            name("queue_length"), "Images that wait for the network", registry=registry
        ).set_function(waiting)
        ProcessCollector(registry=registry)

    @property
    def answers(self) -> int:
        """How many requests were answered, whatever the answer."""
        (family,) = self.requests.collect()
        return int(sum(one.value for one in family.samples if one.name.endswith("_total")))

    def text(self) -> bytes:
        """All of them, in Prometheus's format."""
        return generate_latest(self._registry)
