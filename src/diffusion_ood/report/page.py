"""`ood/report.html`: the results of a run in one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.group_results import GroupResults
from diffusion_ood.detection.metrics import TITLES
from diffusion_ood.report.figures import Plotter
from diffusion_ood.report.gallery import galleries
from diffusion_ood.report.provenance import Provenance
from diffusion_ood.report.text import bounds, percent
from diffusion_ood.runtime.files import as_text, atomic_write

MAX_DRAWN = 16  # OOD sets with figures and images, the hardest to tell from "in"

Figure = tuple[str, str, str, Markup]
"""Title, what it means, its numbers in words, and the drawing."""


def write_report(
    path: Path,
    model_name: str,
    results: Assessment,
    target_fpr: float,
    provenance: Provenance,
    groups: Sequence[GroupResults] = (),
) -> None:
    """Write the report, atomically; it has at most 5 MB, whatever the number of images and sets.

    `path` lies in the folder of the score tables, `target_fpr` is the share of in-distribution
    images that may be called OOD.
    """
    limit = results.threshold(target_fpr)
    plotter = Plotter(results, limit)
    primary = results.metrics[results.primary]
    names = results.ood_sets
    hardest_first = sorted(names, key=lambda name: primary[name]["auroc"].value)
    drawn = [name for name in names if name in hardest_first[:MAX_DRAWN]]
    page = template("report.html.j2").render(
        model_name=model_name,
        written=now(),
        results=results,
        groups=groups,
        names=names,
        anchors={name: f"set-{number}" for number, name in enumerate(drawn, start=1)},
        hardest=next(iter(hardest_first), None),
        easiest=max(names, key=lambda name: primary[name]["auroc"].value, default=None),
        titles=TITLES,
        target_fpr=target_fpr,
        threshold=limit,
        alarms=int(results.decisions["in"]["is_ood"].sum()),
        overview=_overview(plotter, names[: 2 * MAX_DRAWN]) if len(names) > 1 else None,
        figures={name: _figures(plotter, name) for name in drawn},
        validation=None if names else _validation(plotter),
        galleries=galleries(results, ["in", *drawn]),
        provenance=provenance,
    )
    with atomic_write(path) as file:
        file.write(as_text(page))  # names of files may hold what is none


def _figures(plotter: Plotter, name: str) -> list[Figure]:
    """The figures of one OOD set."""
    called = plotter.results.called_ood
    auroc = plotter.results.metrics[plotter.results.primary][name]["auroc"]
    shares = (
        f"{percent(called['in'].value)} % of the in-distribution images and "
        f"{percent(called[name].value)} % of {name} are called OOD"
    )
    texts = {
        "roc": (
            "ROC curve",
            "How many images of the set are found (up) for how many false alarms (right). The "
            "dotted diagonal is guessing.",
            f"AUROC {percent(auroc.value)} %. At the threshold {shares}.",
        ),
        "histogram": (
            "Scores",
            "How the scores of the set lie beside those of in-distribution images. What lies "
            "beyond the axis is counted in the last bar.",
            f"Right of the threshold lie {shares}.",
        ),
        "levels": (
            "Noise levels",
            "How unusual the reconstructions from each noise level are: mean (line) and middle "
            "half (band) of the images. Where the lines are apart, the level tells the sets apart.",
            "Mean and quartiles of the z-score at each noise level t, in and out of distribution.",
        ),
        "scatter": (
            "The two distances",
            "Each image by its pixel-wise (MSE) and its perceptual distance (LPIPS) to its "
            "reconstructions, z-scored. The primary score is their sum.",
            "Z-scores of MSE against those of LPIPS; a sample where there are many images.",
        ),
    }
    return [(*texts[kind], Markup(svg)) for kind, svg in plotter.figures(name).items()]


def _validation(plotter: Plotter) -> Figure:
    """The figure of a run without OOD sets."""
    share = percent(plotter.results.called_ood["in"].value)
    return (
        "Scores",
        "How the scores of the in-distribution test images lie beside those of the validation "
        "images, which set the threshold. What lies beyond the axis is counted in the last bar.",
        f"Right of the threshold lie {share} % of the in-distribution test images.",
        Markup(plotter.validation()),
    )


def _overview(plotter: Plotter, names: Sequence[str]) -> Figure:
    primary = plotter.results.metrics[plotter.results.primary]
    words = ", ".join(f"{name} {percent(primary[name]['auroc'].value)}" for name in names)
    return (
        "AUROC of each set",
        "How well the primary score tells each set from the in-distribution images, with 95 % "
        "intervals; 50 is guessing, 100 is perfect.",
        f"AUROC in percent: {words}.",
        Markup(plotter.overview(names)),
    )


def template(name: str) -> Any:  # noqa: ANN401 - a Jinja template, whose types are looser than ours
    """A page's template, with the style and the script that all pages have."""
    environment = Environment(
        loader=PackageLoader("diffusion_ood.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": bounds, "count": "{:,}".format}
    environment.filters |= {"breakable": breakable, "number": "{:g}".format}
    environment.filters |= {"score": "{:.2f}".format, "p_value": "{:.3g}".format}
    page = resources.files("diffusion_ood.report") / "page"
    script = (page / "report.js").read_text(encoding="utf-8")
    environment.globals |= {
        "style": Markup((page / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template(name)


def breakable(path: str) -> Markup:
    """A path that may be broken into lines after a slash."""
    return Markup("/<wbr>").join(path.split("/"))


def now() -> str:
    """The time in UTC, or that of SOURCE_DATE_EPOCH, which makes the file reproducible."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.now() if fixed is None else datetime.fromtimestamp(int(fixed))
    return now.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
