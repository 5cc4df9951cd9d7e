"""What the command prints of its results: paragraphs of aligned columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.group_results import GroupResults
from diffusion_ood.detection.image_scores import asked_heads
from diffusion_ood.detection.metrics import TITLES, Interval
from diffusion_ood.detection.pixel_metrics import PIXEL_TITLES, PixelResults
from diffusion_ood.options import DetectOptions
from diffusion_ood.runtime.words import counted

_POSITIVE = "out of distribution (OOD) is the positive class"
_NO_SETS = "no set of out-of-distribution (OOD) images was given, so that there is no AUROC"


def paragraphs(
    model_name: str, methods: Sequence[Assessment], options: DetectOptions
) -> Iterator[str]:
    """The results of the first method, a table of all methods and heads, and the warnings."""
    results = methods[0]
    t, weights = results.start_points, options.level_weights
    images = {name: str(count) for name, count in results.num_images.items()}
    for name, count in results.num_skipped.items():
        images[name] += f" ({count} skipped)" if count else ""
    yield (
        f"{model_name}: {images['val']} validation and {images['in']} in-distribution test "
        f"images; {counted(len(t), 'start point')} from t = {t[0]} to {t[-1]}"
        f"{'' if weights == 'equal' else f', weighted: {weights}'}\n"
        f"In percent, with 95 % intervals; {_POSITIVE if results.ood_sets else _NO_SETS}.\n"
    )
    for target, sets in results.metrics.items() if results.ood_sets else ():
        title = f"{target} (headline)" if target == results.primary else target
        rows = [[title, "images", *TITLES.values()]]
        for name, found in sets.items():
            rows.append([name, images.get(name, ""), *(_shown(found[key]) for key in TITLES)])
        yield _columns(rows) + "\n"
    aim = f"the false-positive rate, expected {100 * options.target_fpr:g}"
    notes = {"in": aim, **dict.fromkeys(results.shifted, "false alarms under covariate shift")}
    rows = [
        [name, _shown(share), notes.get(name, "")] for name, share in results.called_ood.items()
    ]
    limit = results.threshold(options.target_fpr)
    above = "" if limit is None else f", above {limit:.4g}"
    yield f"Called OOD by {results.primary}{above}\n{_columns(rows)}\n"
    if any(found.ood_sets for found in methods) and (len(methods) > 1 or options.heads):
        yield "AUROC of every method\n" + _columns(_methods(methods, options.heads)) + "\n"
    elif len(methods) > 1:
        yield "False-positive rate of every method\n" + _columns(_false_alarms(methods)) + "\n"
    said: set[str] = set()
    for results in methods:
        of_method = f"{results.method}: " if len(methods) > 1 else ""
        new = [warning for warning in results.warnings if warning not in said]
        yield from (f"warning: {of_method}{warning}" for warning in new)
        said.update(new)


def group_paragraph(results: GroupResults) -> str:
    """How well groups are told apart, and how many are called OOD."""
    rows = [[results.level, "number", *TITLES.values(), "called OOD"]]
    for name, decided in results.decisions.items():
        found = results.metrics.get(name, {})
        cells = [_shown(found[key]) if found else "" for key in TITLES]
        rows.append([name, str(len(decided)), *cells, _shown(results.called_ood[name])])
    warnings = "".join(f"\nwarning: {results.level}: {doubt}" for doubt in results.warnings)
    return f"{_columns(rows)}{warnings}\n"


def pixel_paragraph(results: PixelResults) -> str:
    """How well maps show lesions."""
    rows = [list(PIXEL_TITLES.values()), [_shown(results.metrics[key]) for key in PIXEL_TITLES]]
    return (
        f"Maps: {results.num_lesions} lesions in {results.num_with_lesions} of "
        f"{results.num_images} images; in percent, with 95 % intervals\n{_columns(rows)}\n"
    )


def percent(value: float) -> str:
    """Show 0.979 as "97.9"."""
    return f"{100 * value:.1f}"


def bounds(found: Interval) -> str:
    """Show the bounds behind their value, as " [96.8, 98.8]"; empty without any."""
    if found.low is None or found.high is None:
        return ""
    return f" [{percent(found.low)}, {percent(found.high)}]"


def _shown(found: Interval) -> str:
    return percent(found.value) + bounds(found)


def _methods(methods: Sequence[Assessment], heads: Sequence[str]) -> list[list[str]]:
    """A row for each method's primary score and each further head, under a row of titles."""
    sets = list(dict.fromkeys(n for found in methods for n in found.ood_sets))
    rows = [["method", "score", "calls/image", *sets, "mean"]]
    for results in methods:
        calls = "" if results.calls_per_image is None else str(results.calls_per_image)
        columns = [str(column) for column, _ in results.features["val"].columns]
        asked = [name for name in asked_heads(heads, columns) if name in results.metrics]
        for target in dict.fromkeys([results.primary, *asked]):
            aurocs = {n: found["auroc"] for n, found in results.metrics[target].items()}
            values = [aurocs[name].value for name in sets if name in aurocs]
            cells = [_shown(aurocs[name]) if name in aurocs else "" for name in sets]
            mean = percent(sum(values) / len(values)) if values else ""
            rows.append([results.method, target, calls, *cells, mean])
    return rows


def _false_alarms(methods: Sequence[Assessment]) -> list[list[str]]:
    """A row for each method's primary score, with the share of "in" that is called OOD."""
    rows = [["method", "score", "calls/image", "in"]]
    for results in methods:
        calls = "" if results.calls_per_image is None else str(results.calls_per_image)
        rows.append([results.method, results.primary, calls, _shown(results.called_ood["in"])])
    return rows


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
