"""The tables that `reconstruct.py` is asked for, and the start points."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_ood import cli
from diffusion_ood.data.splits import Split, read_split
from diffusion_ood.detection.table import PATCHED
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.errors import UserError
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.grid import BudgetGrid, Grid, LevelGrid, TimeGrid


@dataclass(frozen=True)
class Task:
    """One table to be made."""

    name: str  # of the table, results_<name>.csv
    type: str  # val, in or out
    split: Split


def read_tasks(options: ReconstructOptions) -> list[Task]:
    """The tables asked for, every split read before any work begins."""
    tasks = []
    for kind, path, wanted in (
        ("val", options.validation_ids, options.run_val),
        ("in", options.in_ids, options.run_in),
    ):
        if wanted:
            if path is None:
                flag = "validation_ids" if kind == "val" else "in_ids"
                raise UserError(f"--{flag}: missing; give it, or --run_{kind}=0")
            tasks.append(Task(kind, kind, read_split(path)))
    if options.run_patched:
        if options.validation_ids is None:
            raise UserError("--validation_ids: missing; give it, or --run_patched=0")
        patched = dataclasses.replace(read_split(options.validation_ids), flip="patched")
        tasks.append(Task(PATCHED, "val", patched))
    if options.run_out:
        if not options.out_ids:
            raise UserError("--out_ids: missing; give it, or --run_out=0")
        tasks += [Task(s.name, "out", s) for s in map(read_split, options.out_ids)]
    names = ["val", "in", PATCHED, *(task.name for task in tasks if task.type == "out")]
    for task in tasks:
        if task.type == "out" and names.count(task.name) > 1:
            raise UserError(
                f"--out_ids: {task.split.path}: found a second set of the name {task.name}, "
                f"expected file names that tell the sets apart, beside val, in and {PATCHED}"
            )
    tasks = [_shortened(task, options) for task in tasks]
    _refuse_overlap(tasks)
    return tasks


def _refuse_overlap(tasks: Sequence[Task]) -> None:
    """Refuse an image of the validation or in-distribution set in another set, by any name.

    OOD sets may share images, and a flipped set those of the set that it flips.
    """
    seen: dict[tuple[object, ...], tuple[Task, int]] = {}
    for task in tasks:
        for i in range(len(task.split)):
            try:
                status = os.stat(task.split.image_path(i))
            except (OSError, ValueError):  # opening the image will say so
                continue
            key = (status.st_dev, status.st_ino, task.split.flip)
            other, j = seen.get(key, (task, i))
            if other is not task:
                raise UserError(
                    f"{task.split.where(i)}: found {task.split.images[i]}, which is the image of "
                    f"{other.split.where(j)}, expected different images in {other.name} and "
                    f"{task.name}"
                )
            if task.type != "out":
                seen[key] = task, i


def _shortened(task: Task, options: ReconstructOptions) -> Task:
    """The task on --first_n images, in whole batches with --drop_last."""
    n = options.first_n_val if task.type == "val" else options.first_n
    split = task.split.first(n) if n is not None else task.split
    if options.drop_last:
        split = split.first(len(split) // options.batch_size * options.batch_size)
        if not len(split):
            raise UserError(
                f"{split.path}: found fewer than --batch_size {options.batch_size} images, "
                "of which --drop_last leaves none"
            )
    return dataclasses.replace(task, split=split)


def choose_grid(line: cli.CommandLine, schedule: NoiseSchedule) -> Grid:
    """The start points asked for, and the way down from them."""
    options = line[ReconstructOptions]
    steps, skip = options.num_inference_steps, options.inference_skip_factor
    if options.levels:
        _refuse_beside("levels", ("budget", "inference_skip_factor"), line)
        return LevelGrid(schedule.num_timesteps, steps, options.levels)
    if options.budget is None:
        _refuse_without("budget", ("budget_steps",), line)
        return TimeGrid(schedule.num_timesteps, steps, skip)
    _refuse_beside("budget", ("num_inference_steps", "inference_skip_factor"), line)
    if options.budget_steps == 1:
        _refuse_beside("budget with one step", ("sampler",), line)
    calls_a_level = options.budget_steps * options.repeats * options.rows_per_call
    return BudgetGrid(schedule, options.budget // calls_a_level, options.budget_steps)


def _refuse_beside(flag: str, others: Sequence[str], line: cli.CommandLine) -> None:
    for name in others:
        if name in line.given:
            raise UserError(f"--{name}: means nothing beside --{flag}; leave one of them out")


def _refuse_without(flag: str, others: Sequence[str], line: cli.CommandLine) -> None:
    for name in others:
        if name in line.given:
            raise UserError(f"--{name}: means nothing without --{flag}; give it as well")
