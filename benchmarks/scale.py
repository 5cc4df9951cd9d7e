"""What a million and a billion images cost, and where the bottleneck sits, by simulation.

    python benchmarks/scale.py                    # the table, from benchmarks/scale_rates.json
    python benchmarks/scale.py --measure          # measure this machine's rates again, before
    python benchmarks/scale.py --validate 2000    # screen so many images, and compare

Workers take blocks of images from one queue. What a worker does at the same time overlaps: the
longest of its lanes counts. The store and the driver serve one block after the other, for all. In
one job the listing comes before, and the report after; of shards, whose lists are there, each has a
report of its own.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

RATES = Path(__file__).with_name("scale_rates.json")
IMAGES, MODELS, SOURCES = (10**6, 10**9), ("tiny", "small"), ("store", "disk")
WORKERS = {"core": (1, 8, 64, 512), "GPU": (1, 8, 64)}
WAYS = ("one job", "shards")
CALLS, MOST_EVENTS = 10, 50_000
SHARDS_A_WORKER, SHARD = 20, (1_000, 100_000)
TASKS_A_WORKER, TASK = 16, (16, 1_024)  # of --ray
OWN, SHARED = ("core", "device", "reading", "table"), ("store", "driver")
HOUR = 3600.0

Rates = Mapping[str, float]


class Stage(NamedTuple):
    """A part of the work on an image: who does it, and its seconds."""

    name: str
    lane: str
    seconds: float


@dataclass(frozen=True)
class Faults:
    """What goes wrong: one worker is so many times as slow, and each is lost so often."""

    slow: float = 1.0
    hours_between_losses: float = float("inf")


@dataclass(frozen=True)
class Row:
    """What one size of the work costs on some workers."""

    images: int
    model: str
    source: str
    kind: str
    workers: int
    way: str
    hours: float
    worker_hours: float
    bottleneck: str
    memory_gb: float
    price: float | None = None


def stages(rates: Rates, model: str, source: str, kind: str) -> list[Stage]:
    """What is done for an image of 28 × 28 pixels, by ten calls of a model."""
    gpu = kind == "GPU"
    readers = rates["readers"] if gpu else 1  # no more than cores
    per_call = rates["images_a_call"]
    network = CALLS * rates[f"network_{model}_28_fp32"]
    python = rates["beside_network"] - (1 + CALLS / 2) * rates["lpips_28"]
    computing = [
        Stage("network calls", "device", rates[f"h100_call_{model}"] / per_call),
        Stage("noise and Python", "core", python),
        Stage("decoding", "reading", rates["read_png_28"] / readers),
    ]
    if not gpu:
        computing = [
            Stage("network calls", "core", network),
            Stage("LPIPS, noise and Python", "core", rates["beside_network"]),
            Stage("decoding", "core", rates["read_png_28"]),
        ]
    reading = [Stage("listing", "main", rates["list_folder"])]
    if source == "store":
        reading = [
            Stage("fsspec", "reading" if gpu else "core", rates["fsspec"] / readers),
            Stage("store's latency", "reading", rates["store_latency"] / rates["store_readers"]),
            Stage("store's requests", "store", 1 / (rates["store_requests"] * rates["prefixes"])),
            Stage("listing", "main", rates["list_url"]),
        ]
    return [
        *computing,
        *reading,
        Stage("table", "table", rates["append_16"] / 16),
        Stage("driver", "driver", rates["driver"]),
        Stage("report", "main", rates["join"]),
    ]


def simulate(
    work: Sequence[Stage],
    rates: Rates,
    images: int,
    workers: int,
    way: str,
    faults: Faults = Faults(),
    seed: int = 0,
) -> float:
    """Hours until every image has its decision, and the report is there.

    Args:
        work: the stages of an image.
        rates: of the machine, for starting and losing a worker.
        images: how many.
        workers: how many.
        way: `one job` of blocks that a driver hands out, `shards`, each a job of its own, or
            `parts`, of which each worker has one from the start as under torchrun.
        faults: what goes wrong.
        seed: of the losses.
    """
    rng = np.random.default_rng(seed)
    lanes = _lanes(work)
    start = rates["start"]
    own = max(lanes[lane] for lane in OWN)
    sharded = way == "shards"
    head = 0.0 if sharded else start + images * _of(work, "listing")
    each = start if sharded else 0.0
    a_image = own + (rates["list_csv"] + _of(work, "report") if sharded else 0.0)
    # Under torchrun one loss ends them all, and the command goes on.
    losses_a_second = (workers if way == "parts" else 1) / (HOUR * faults.hours_between_losses)
    pace = [faults.slow if worker == 0 and workers > 1 else 1.0 for worker in range(workers)]
    free = [(head, worker) for worker in range(workers)]
    left = [images // workers + (worker < images % workers) for worker in range(workers)]
    left = left if way == "parts" else [images]
    store = driver = head
    done = [0] * workers
    while free:
        now, worker = heapq.heappop(free)
        driver = max(driver, now) + (0.0 if sharded else done[worker] * lanes["driver"])
        part = worker if way == "parts" else 0
        count = done[worker] = min(block(way, images, left[part], workers), left[part])
        if not count:
            continue
        left[part] -= count
        store = max(store, now) + count * lanes["store"]
        seconds = pace[worker] * (each + count * a_image)
        again = count / 2 if way == "one job" else 8  # a loss costs; `screen` keeps every 16 images
        losses = rng.poisson(seconds * losses_a_second)
        seconds += losses * (start + pace[worker] * again * own)
        heapq.heappush(free, (max(store, now + seconds), worker))
    return (driver + (0.0 if sharded else images * _of(work, "report"))) / HOUR


def block(way: str, images: int, left: int, workers: int) -> int:
    """How many images a worker takes at a time, of so many that are left."""
    if way == "shards":
        return int(np.clip(images // (SHARDS_A_WORKER * workers), *SHARD))
    guided = int(np.clip(left // (TASKS_A_WORKER * workers), *TASK))  # smaller and smaller
    return max(guided, images // MOST_EVENTS)


def bottleneck(work: Sequence[Stage], rates: Rates, images: int, workers: int, way: str) -> str:
    """The stage that takes longest of the lane that is busy for the longest time."""
    sharded, lanes = way == "shards", _lanes(work)
    busy = {lane: lanes[lane] / workers for lane in OWN} | {"store": lanes["store"]}
    if not sharded:
        busy |= {"main": lanes["main"], "driver": lanes["driver"]}
    starts = rates["start"] / (workers * block(way, images, images, workers) if sharded else images)
    lane = max(busy, key=lambda name: busy[name])
    if starts > busy[lane]:
        return "starting"
    return max((stage for stage in work if stage.lane == lane), key=lambda s: s.seconds).name


def table(rates: Rates, prices: Mapping[str, float | None]) -> Iterator[Row]:
    """Every row of the table."""
    usual = Faults(hours_between_losses=rates["hours_between_losses"])
    for images, model, source, kind in itertools.product(IMAGES, MODELS, SOURCES, WORKERS):
        work = stages(rates, model, source, kind)
        for workers, way in itertools.product(WORKERS[kind], WAYS):
            hours = simulate(work, rates, images, workers, way, usual)
            held = block(way, images, images, workers) if way == "shards" else images
            price, total = prices[kind], hours * workers
            yield Row(
                *(images, model, source, kind, workers, way),
                hours=float(f"{hours:.4g}"),
                worker_hours=float(f"{total:.4g}"),
                bottleneck=bottleneck(work, rates, images, workers, way),
                memory_gb=float(f"{held * rates['memory'] / 1e9:.3g}"),
                price=None if price is None else round(price * total, 2),
            )


def faulty(rates: Rates, images: int = 10**6, workers: int = 64) -> dict[str, dict[str, float]]:
    """Hours of a million images on 64 cores, where nothing, a slow worker or losses happen."""
    work = stages(rates, "tiny", "disk", "core")
    cases = {
        "nothing": Faults(),
        "one worker four times as slow": Faults(slow=4),
        "each worker lost once in 2 hours": Faults(hours_between_losses=2),
    }
    ways = ("parts", *WAYS)
    return {
        name: {way: round(simulate(work, rates, images, workers, way, f), 3) for way in ways}
        for name, f in cases.items()
    }


def _lanes(work: Sequence[Stage]) -> dict[str, float]:
    found = dict.fromkeys((*OWN, *SHARED, "main"), 0.0)
    for stage in work:
        found[stage.lane] += stage.seconds
    return found


def _of(work: Sequence[Stage], name: str) -> float:
    return sum(stage.seconds for stage in work if stage.name == name)


def markdown(rows: Sequence[Row]) -> str:
    """The table as docs/scale.md has it: a million in one job, a billion in shards."""
    cases = list(itertools.product(MODELS, SOURCES))
    lines = [f"| images | workers | {' | '.join(f'`{m}`, {source}' for m, source in cases)} |"]
    lines.append("|---" * (2 + len(cases)) + "|")
    named = {(r.images, r.kind, r.workers, r.way, r.model, r.source): r for r in rows}
    for (images, way), kind in itertools.product(zip(IMAGES, WAYS, strict=True), WORKERS):
        for workers in WORKERS[kind]:
            found = [named[images, kind, workers, way, m, source] for m, source in cases]
            cells = [f"{images:,}", f"{workers} {kind}{'s' if workers > 1 else ''}"]
            cells += [f"{float(f'{row.hours:.3g}'):,g} ({row.bottleneck})" for row in found]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown_of_faults(found: Mapping[str, Mapping[str, float]]) -> str:
    """Hours by what goes wrong and the way."""
    ways = list(next(iter(found.values())))
    lines = [f"| hours | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    lines += [
        f"| {name} | {' | '.join(f'{row[w]:.2f}' for w in ways)} |" for name, row in found.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure where it is asked for, simulate, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure this machine's rates")
    parser.add_argument("--validate", type=int, metavar="N", help="screen N images, and compare")
    parser.add_argument(
        "--rate", action="append", default=[], metavar="NAME=VALUE", help="in place of the file's"
    )
    parser.add_argument("--price_a_gpu_hour", type=float, help="in any currency")
    parser.add_argument("--price_a_core_hour", type=float, help="in the same")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    if arguments.measure:
        from scale_measure import remeasure

        remeasure(RATES)
    entries = json.loads(RATES.read_text())
    rates = {name: entry["value"] for name, entry in entries.items()}
    for name, value in (given.split("=") for given in arguments.rate):
        if name not in rates:
            parser.error(f"--rate: found {name}, expected one of {', '.join(rates)}")
        rates[name] = float(value)
    if arguments.validate:
        from scale_validation import validate

        print(json.dumps(validate(rates, arguments.validate), indent=1))
        return
    prices = {"GPU": arguments.price_a_gpu_hour, "core": arguments.price_a_core_hour}
    rows = list(table(rates, prices))
    faults = faulty(rates)
    print("hours (bottleneck)", markdown(rows), markdown_of_faults(faults), sep="\n\n")
    found = {"rows": [asdict(row) for row in rows], "faults": faults}
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
