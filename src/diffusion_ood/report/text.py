"""What the command prints of its results: paragraphs of aligned columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.metrics import TITLES, Interval
from diffusion_ood.options import DetectOptions


def paragraphs(
    model_name: str, methods: Sequence[Assessment], options: DetectOptions
) -> Iterator[str]:
    """The results of the first method, a table of all methods and heads, and the warnings.

    Args:
        model_name: of the run.
        methods: what each method's tables say.
        options: how they were assessed.
    """
    results = methods[0]
    t, images, weights = results.start_points, _counts(results), options.level_weights
    yield (
        f"{model_name}: {images['val']} validation and {images['in']} in-distribution test "
        f"images; {len(t)} start points from t = {t[0]} to {t[-1]}"
        f"{'' if weights == 'equal' else f', weighted: {weights}'}\n"
        "In percent, with 95 % intervals; out of distribution (OOD) is the positive class.\n"
    )
    for target, sets in results.metrics.items():
        title = f"{target} (headline)" if target == results.primary else target
        rows = [[title, "images", *TITLES.values()]]
        for name, found in sets.items():
            rows.append(
                [name, images.get(name, ""), *(_percent(found[metric]) for metric in TITLES)]
            )
        yield _columns(rows) + "\n"
    aim = f"the false-positive rate, expected {100 * options.target_fpr:g}"
    rows = [
        [name, _percent(share), aim if name == "in" else ""]
        for name, share in results.called_ood.items()
    ]
    yield f"Called OOD by {results.primary}\n{_columns(rows)}\n"
    if len(methods) > 1 or options.heads:
        yield "AUROC of every method\n" + _columns(_methods(methods, options.heads)) + "\n"
    for results in methods:
        of_method = f"{results.method}: " if len(methods) > 1 else ""
        yield from (f"warning: {of_method}{warning}" for warning in results.warnings)


def _methods(methods: Sequence[Assessment], heads: Sequence[str]) -> list[list[str]]:
    """A row for each method's primary score and each further head, under a row of titles."""
    sets = list(dict.fromkeys(n for found in methods for n in found.num_images))[2:]
    rows = [["method", "score", "calls/image", *sets, "mean"]]
    for results in methods:
        calls = "" if results.calls_per_image is None else str(results.calls_per_image)
        for target in dict.fromkeys([results.primary, *heads]):
            found = {name: results.metrics[target].get(name) for name in sets}
            values = [of_set["auroc"].value for of_set in found.values() if of_set]
            aurocs = [_percent(of_set["auroc"]) if of_set else "" for of_set in found.values()]
            mean = f"{100 * sum(values) / len(values):.1f}"
            rows.append([results.method, target, calls, *aurocs, mean])
    return rows


def _percent(interval: Interval) -> str:
    """Show 0.979 as "97.9 [96.8, 98.8]", or "97.9" without bounds."""
    value = f"{100 * interval.value:.1f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _counts(results: Assessment) -> dict[str, str]:
    """The images of each set, as "98" or "98 (2 skipped)"."""
    skipped = {name: f" ({count} skipped)" for name, count in results.num_skipped.items() if count}
    return {name: f"{count}{skipped.get(name, '')}" for name, count in results.num_images.items()}
