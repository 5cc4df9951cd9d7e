"""Metrics and decisions from the score tables of one run.

    python ood_detection.py --output_dir output --model_name fashionmnist

Reads ood/results_val.csv, ood/results_in.csv and the OOD sets' ood/results_<dataset>.csv in the
run's folder, and those of further methods in ood/<method>/; writes metrics.json, metrics.csv,
decisions_<dataset>.csv and report.html beside them. A higher score is more out of distribution.
Without OOD sets there are decisions and the realised false-positive rate, but no metrics.
With a folder of masks it measures maps of where images are unusual, too, or alone without tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood import cli
from diffusion_ood.console import invocation
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions, RunOptions, TrackOptions
from diffusion_ood.options.reconstruction import JOINED

if TYPE_CHECKING:
    from diffusion_ood.detection.pixel_metrics import PixelResults

GROUPS = (RunOptions, DetectOptions, TrackOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the tables, assess every method by every score, print the results and write them.

    Raises:
        UserError: a wrong flag, a table that is missing or wrong, tables that do not compare, or
            maps and masks that do not go together.
    """
    line = cli.parse(__doc__, GROUPS, argv)
    run, options = line[RunOptions], line[DetectOptions]

    from diffusion_ood.detection.folders import find_tables, has_tables, method_folders

    maps = (options.maps or run.run_dir / "maps").expanduser()
    if options.masks is not None and not maps.is_dir():
        raise UserError(f"{maps}: no such folder, expected one of maps; see `maps`")
    maps_alone = options.masks is not None and not has_tables(run.ood_dir)
    for folder in [] if maps_alone else method_folders(run.ood_dir).values():
        find_tables(folder, options)  # raises for missing ones before the slow imports

    pixels = (
        None if options.masks is None else _measure_maps(maps, options.masks.expanduser(), options)
    )
    if maps_alone:
        from diffusion_ood.detection.result_files import write_results

        for path in write_results(run, options, [], pixels):
            print(f"written: {path}")
        return
    _assess_tables(line, pixels)


def _measure_maps(maps: Path, masks: Path, options: DetectOptions) -> PixelResults:
    """Measure maps by masks, and print the result."""
    from diffusion_ood.detection.pixel_files import assess_pixels
    from diffusion_ood.report.text import pixel_paragraph

    results = assess_pixels(maps, masks, n_bootstrap=options.n_bootstrap, seed=options.seed)
    print(pixel_paragraph(results))
    return results


def _assess_tables(line: cli.CommandLine, pixels: PixelResults | None) -> None:
    """Assess the score tables, print the results and write them, with those of maps."""
    run, options = line[RunOptions], line[DetectOptions]

    from diffusion_ood.detection.group_results import assess_groups
    from diffusion_ood.detection.joined import assess_run
    from diffusion_ood.detection.result_files import write_results
    from diffusion_ood.report.logs import log_results, open_tracker
    from diffusion_ood.report.page import write_report
    from diffusion_ood.report.provenance import trace
    from diffusion_ood.report.text import group_paragraph, paragraphs

    methods = [
        dataclasses.replace(results, warnings=list(map(cli.as_flags, results.warnings)))
        for results in assess_run(run.ood_dir, options)
    ]
    tracker = open_tracker(run, line[TrackOptions], "detect")
    for text in paragraphs(run.model_name, methods, options):
        print(cli.as_flags(text))
    groups = list(assess_groups(methods[0], options))
    for of_groups in groups:
        print(cli.as_flags(group_paragraph(of_groups)))
    folders: dict[Path, list[str]] = {}
    for path in write_results(run, options, methods, pixels, groups):
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        for text in [", ".join(names)] if len(folders) > 1 else names:  # a line for each method
            print(f"written: {folder / text}")
    provenance = trace(run.run_dir, methods[0], line.command(invocation("detect")))
    log_results(tracker, methods[0], provenance)
    tracker.close()
    path = methods[0].folder / "report.html"
    write_report(path, run.model_name, methods[0], options.target_fpr, provenance, groups)
    print(f"report: {path}")
    stale = run.ood_dir / JOINED / path.name
    if stale.exists() and not any(results.method == JOINED for results in methods):
        print(f"warning: {stale.parent} is of an earlier run; nothing could be joined in this one")
