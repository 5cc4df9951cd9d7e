"""The table of `benchmarks/gpu.py`, and its aims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

AIMS = (
    ("screening_over_plain", ">=", 3.0),
    ("training_over_plain", ">=", 3.0),
    ("share_of_convolution", ">=", 0.35),
    ("screening_repaid_s", "<=", 120.0),
    ("training_repaid_s", "<=", 120.0),
    ("auroc_points", "<=", 0.2),
)
"""A figure of `figures`, whether more or less is better, and what is aimed at."""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line each."""
    line = "{:<24}{:<44}{:>24}{:>8}{:>9}{:>8}{:>7}{:>7}{:>6}{:>7}  {}".format
    yield line(
        *("work", "how", "images/s (lowest, highest)", "ratio", "one-off", "TFLOP/s"),
        *("conv %", "copy %", "busy", "GiB", "limit"),
    )
    for row in rows:
        what = f"{row['work']} {row['model']} {'×'.join(map(str, row['sides']))}"
        how = f"{row['side']} {row['precision']} {row['mode']}"
        how += f", {row['rows']} rows" if row["rows"] else ""
        if "error" in row:
            yield f"{what:<24}{how:<44}   {row['error']}"
            continue
        part = "" if row["share_of_work_run"] == 1 else " †"
        yield line(
            what,
            how,
            f"{row['images_per_s']:.4g} ({row['lowest']:.4g}, {row['highest']:.4g}){part}",
            f"{row['over_plain_bf16']:.2f}" if "over_plain_bf16" in row else "",
            f"{row['one_off_s']:.1f} s",
            f"{row['tflops']:.3g}",
            f"{100 * row['share_of_best_convolution']:.0f}",
            f"{100 * row['share_of_copy_rate']:.0f}",
            "" if row["busy"] is None else f"{row['busy']:.2f}",
            f"{row['peak_mib'] / 1024:.2f}",
            f"{row['limit']}, ran {row['ran']}",
        )
    if any(row.get("share_of_work_run", 1) != 1 for row in rows):
        yield "† scaled from a part of the grid, by its network calls"


def others(results: Mapping[str, Any]) -> Iterator[str]:
    """What was measured beside the rows, a line each."""
    machine, peaks = results["machine"], results["peaks"]
    yield ", ".join(f"{name} {value}" for name, value in machine.items())
    yield (
        f"best bf16 matrix product {peaks['matrix_tflops']:.3g} TFLOP/s, convolution "
        f"{peaks['convolution_tflops']:.3g}; copy {peaks['copy_tb_s']:.3g} TB/s, read and written; "
        f"LPIPS {'measured on both sides' if results['lpips'] else 'left out on both sides'}"
    )
    for name in ("agreement", "cold_start"):
        if name in results:
            yield f"{name.replace('_', ' ')}: {results[name]}"
    if results["left_out"]:
        yield f"left out for lack of time: {', '.join(results['left_out'])}"


def figures(results: Mapping[str, Any]) -> dict[str, tuple[float, str] | None]:
    """What is aimed at, and the mode that reached it; None where it was not measured."""
    rows = results["rows"]
    found: dict[str, tuple[float, str] | None] = dict.fromkeys(name for name, _, _ in AIMS)
    for work in ("screening", "training"):
        ours = of_ours(rows, work, "small", (32, 32))
        if best := max(ours, key=lambda row: row["over_plain_bf16"], default=None):
            found[f"{work}_over_plain"] = best["over_plain_bf16"], best["mode"]
            eager = next((row for row in ours if row["mode"] == "eager"), None)
            if eager:
                found[f"{work}_repaid_s"] = repaid(eager, best), best["mode"]
    of_big = of_ours(rows, "screening", "big", (64, 64))
    if best := max(of_big, key=lambda row: row["share_of_best_convolution"], default=None):
        found["share_of_convolution"] = best["share_of_best_convolution"], best["mode"]
    points = results.get("agreement", {}).get("largest_points")
    if points is not None:
        found["auroc_points"] = points, "the worst of all"
    return found


def of_ours(rows: Sequence[Row], work: str, model: str, sides: Sequence[int]) -> list[Row]:
    """What was measured whole of ours, beside the plain loop, of a case."""
    return [
        row
        for row in rows
        if (row["work"], row["model"], tuple(row["sides"])) == (work, model, tuple(sides))
        if row["side"] == "ours" and "error" not in row and "over_plain_bf16" in row
    ]


def repaid(eager: Row, other: Row) -> float:
    """Seconds of eager work from which on the one-off cost is less than what it saves."""
    extra = max(0.0, other["one_off_s"] - eager["one_off_s"])
    saved = 1 - eager["images_per_s"] / other["images_per_s"]
    if extra == 0:
        return 0.0
    return extra / saved if saved > 0 else float("inf")


def aims(found: Mapping[str, tuple[float, str] | None]) -> Iterator[str]:
    """Every aim, and whether it is met."""
    yield f"{'figure':<24}{'measured':>10}   aim"
    for name, better, aim in AIMS:
        wanted = f"{better} {aim:g}"
        measured = found[name]
        if measured is None:
            yield f"{name:<24}{'':>10}   {wanted:<8}not measured"
            continue
        value, mode = measured
        met = value >= aim if better == ">=" else value <= aim
        yield f"{name:<24}{value:>10.3g}   {wanted:<8}{'met' if met else 'missed'}, {mode}"
