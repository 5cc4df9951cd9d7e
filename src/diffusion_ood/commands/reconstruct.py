"""Reconstruct images from many noise levels and score how far each reconstruction is off.

Reads a checkpoint and split CSVs; writes output_dir/model_name/ood/results_{val,in,<set>}.csv.
Run the same command again to continue where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood import cli
from diffusion_ood.console import invocation
from diffusion_ood.errors import UserError
from diffusion_ood.options import (
    DiffusionOptions,
    EvaluationOptions,
    ImageOptions,
    LoadingOptions,
    ReconstructOptions,
    RunOptions,
    TrackOptions,
    groups_of_a_run,
)
from diffusion_ood.options.reconstruction import JOINED, refuse_idle
from diffusion_ood.options.stored import refuse_contradiction
from diffusion_ood.runtime import run_directory
from diffusion_ood.runtime.failures import Terminated
from diffusion_ood.scoring.sets import ScoringSet, left_out, read_sets

if TYPE_CHECKING:
    import torch

    from diffusion_ood.data.splits import Split
    from diffusion_ood.methods.base import Method
    from diffusion_ood.model import Diffusion
    from diffusion_ood.scoring.run import ScoringRun
    from diffusion_ood.scoring.work import OpenSet

GROUPS = groups_of_a_run(ReconstructOptions, DiffusionOptions, EvaluationOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    _refuse_contradictions(line[ReconstructOptions], line.given)
    checkpoint = _checkpoint(line)
    sets = read_sets(line[ReconstructOptions])

    from diffusion_ood.runtime import distributed

    with distributed.process_group(line[EvaluationOptions].device) as device:
        for sentence in left_out(line[ReconstructOptions]):
            distributed.print_once(cli.as_flags(sentence))
        try:
            _score(line, _load(checkpoint, line, sets[0].split), sets, device)
        except (KeyboardInterrupt, Terminated):
            distributed.print_once("stopped; finished images are kept, the same command goes on")
            raise


def _score(
    line: cli.CommandLine, diffusion: Diffusion, sets: Sequence[ScoringSet], device: torch.device
) -> None:
    """Score the sets by the methods asked for, and keep the pictures of them."""
    from diffusion_ood.data.labels import class_numbers
    from diffusion_ood.methods.chosen import chosen_methods, for_model
    from diffusion_ood.methods.pointwise import PointwiseMethod
    from diffusion_ood.runtime import distributed
    from diffusion_ood.runtime.lock import locked
    from diffusion_ood.scoring.run import ScoringRun
    from diffusion_ood.trajectories.evaluator import Evaluator

    options, run_options = for_model(line[ReconstructOptions], diffusion), line[RunOptions]
    methods = chosen_methods(options)
    for method in methods:
        method.check(diffusion)
    if diffusion.image_options.slices:
        sets = read_sets(options, diffusion.image_options)
    reference = _reference(options, methods, diffusion.image_options)
    evaluator = Evaluator.from_options(diffusion, device, line[EvaluationOptions])
    command = line.command(invocation("reconstruct"))
    run = ScoringRun(evaluator, run_options, line[LoadingOptions], options.batch_size, command)
    _announce(run, methods)
    pointwise = [method for method in methods if isinstance(method, PointwiseMethod)]
    groups: list[list[Method]] = [[m] for m in methods if m not in pointwise]
    groups += [[*pointwise]] if pointwise else []
    labels = any(method.needs_classes for method in methods)
    for one in sets if labels else ():
        class_numbers(one.split, diffusion.classes)  # says now what is wrong there
    with locked(run_options.ood_dir, "**/.results_*.tmp"):
        opened = [run.open(one, needs_classes=labels) for one in sets]  # says now what is wrong
        images = None if reference is None else run.images(reference, "reference")
        lessons = [(m, images) for m in methods if m.learns and images is not None]
        to_learn = sum(run.calls_to_learn(*lesson) for lesson in lessons)
        work = [(group, one) for one in opened for group in groups]
        calls = [run.calls_to_score(*part) for part in work]
        all_images = sum(len(one.images) for one in opened)
        _announce_cost(run, options, methods, to_learn, sum(calls), all_images)
        distributed.barrier()  # all have read what there is before any adds to it
        evaluator.expect(to_learn + sum(calls) // distributed.world_size())
        for lesson in lessons:
            run.learn(*lesson)
        for number, part in enumerate(work, start=1):
            run.score(*part, sum(calls[number:]))
        _show(run, methods[0], opened, line)
    distributed.print_once(
        f"tables are in {run_options.ood_dir}; next: {invocation('detect')} "
        f"--output_dir={run_options.output_dir} --model_name={run_options.model_name}"
    )


def _reference(
    options: ReconstructOptions, methods: Sequence[Method], images: ImageOptions
) -> Split | None:
    """The images that methods learn from, where any does."""
    from diffusion_ood.data.slices import sliced
    from diffusion_ood.data.splits import read_split

    learning = [method.name for method in methods if method.learns]
    if not learning:
        return None
    if options.reference_ids is None:
        asked = learning[0] if learning[0] in options.methods else JOINED
        raise UserError(
            f"`methods` {asked}: found no `reference_ids`, expected a split of images to "
            "learn from, best the training split"
        )
    return sliced(read_split(options.reference_ids), images).first(options.first_n_reference)


def _announce(run: ScoringRun, methods: Sequence[Method]) -> None:
    from diffusion_ood.methods.pointwise import shared_calls
    from diffusion_ood.runtime import distributed
    from diffusion_ood.runtime.device import describe
    from diffusion_ood.runtime.words import counted

    diffusion, processes = run.evaluator.diffusion, distributed.world_size()
    for method in methods:
        starts = len({t for t, _ in method.draws(diffusion)})
        distributed.print_once(
            f"{method}: {counted(starts, 'noise level')}, "
            f"{counted(method.calls(diffusion), 'network call')} an image"
        )
    alone = sum(method.calls(diffusion) for method in methods)
    if (together := shared_calls(methods, diffusion)) < alone:
        shared = counted(together, "call")
        distributed.print_once(f"together they take {shared} in place of {alone}")
    rows, images = counted(run.evaluator.max_batch, "row"), counted(run.batch_size, "image")
    distributed.print_once(
        f"a model after epoch {diffusion.epoch}, on {processes} × "
        f"{describe(run.evaluator.device)}, at most {rows} in a call; "
        f"--batch_size is {images} a process, {run.batch_size * processes} in all"
    )


def _announce_cost(
    run: ScoringRun,
    options: ReconstructOptions,
    methods: Sequence[Method],
    to_learn: int,
    to_score: int,
    images: int,
) -> None:
    """Say how long so many network calls take, and what all images would cost by fewer."""
    from diffusion_ood.methods.chosen import chosen_methods
    from diffusion_ood.methods.cost import announcement, cheaper_methods
    from diffusion_ood.methods.pointwise import shared_calls
    from diffusion_ood.runtime import distributed

    diffusion = run.evaluator.diffusion
    cheaper = cheaper_methods(options, chosen_methods, diffusion)
    instead = to_learn + shared_calls(cheaper, diffusion) * images
    said = announcement(run.evaluator, methods, to_learn + to_score, cheaper, instead)
    if said:
        distributed.print_once(cli.as_flags(said))


def _show(run: ScoringRun, method: Method, sets: Sequence[OpenSet], line: cli.CommandLine) -> None:
    """Pictures of the reconstructions, and what TensorBoard or MLflow are to show."""
    from diffusion_ood.methods.reconstruction import Reconstruction
    from diffusion_ood.report.logs import log_set, open_tracker
    from diffusion_ood.runtime import distributed
    from diffusion_ood.scoring.pictures import keep_shown, save_first

    options = line[ReconstructOptions]
    if distributed.is_main():
        if isinstance(method, Reconstruction):
            for one in sets:
                if options.save_images:
                    print(f"{one.name}: {save_first(run, method, one, options.save_images)}")
                if options.report_images and one.role in ("in", "out"):
                    done = keep_shown(run, method, one, options.report_images)
                    print(cli.as_flags(f"{one.name}: {done}"))
        tracker = open_tracker(line[RunOptions], line[TrackOptions], "reconstruct")
        for one in sets:
            log_set(tracker, run.folder(method), one.name, run.fingerprint(method))
        tracker.close()
    distributed.barrier()


def _load(path: Path, line: cli.CommandLine, split: Split) -> Diffusion:
    """The model of the checkpoint; flags that say otherwise of it are refused.

    One of the original code says nothing of its network and images: the flags and the first image
    of the split do.
    """
    from diffusion_ood.data.readers import image_size
    from diffusion_ood.data.slices import sliced
    from diffusion_ood.data.transforms import prepared_size
    from diffusion_ood.model import Diffusion
    from diffusion_ood.runtime import distributed
    from diffusion_ood.runtime.checkpoint import AncestorCheckpoint

    try:
        diffusion = Diffusion.load(path)
        asked = line[ReconstructOptions]
        if path.name == run_directory.LAST and asked.eval_checkpoint == "best":
            run_directory.require_checkpoint(path.with_name(run_directory.BEST))
    except AncestorCheckpoint as found:
        images, options = line[ImageOptions], line[DiffusionOptions]
        sides = prepared_size(image_size(sliced(split, images).image_path(0), images), images)
        diffusion = Diffusion.of_ancestor(found, options, (images.channels, *sides), images)
        distributed.print_once(
            f"{path}: a checkpoint of the original ddpm-ood, taken for {options.model_type} on "
            f"images of {diffusion.image_shape} and {options.beta_schedule} noise, as the flags say"
        )
    distributed.require_same_on_all_ranks(
        diffusion.digest, f"{path}: was replaced while the processes read it; start again"
    )
    _refuse_other_autoencoder(diffusion, line[ReconstructOptions].vqvae_checkpoint, path)
    for stored in (diffusion.image_options, diffusion.options):
        cls = type(stored)
        names = [f.name for f in dataclasses.fields(cls) if f.name in line.given]
        refuse_contradiction(line[cls], stored, names, path)
    return diffusion


def _refuse_other_autoencoder(diffusion: Diffusion, asked: Path | None, path: Path) -> None:
    from diffusion_ood.diffusion.codec import LatentCodec
    from diffusion_ood.runtime.files import sha256

    if asked is None:
        return
    codec = diffusion.codec
    if not isinstance(codec, LatentCodec) or codec.autoencoder.digest != sha256(asked):
        raise UserError(
            f"`vqvae_checkpoint`: found {asked}, with which {path} was not trained; leave it out, "
            "since a model of latents holds its autoencoder"
        )


def _checkpoint(line: cli.CommandLine) -> Path:
    """The checkpoint to score with.

    Raises:
        UserError: it is asked for in two ways, or is not there.
    """
    run_dir, options = line[RunOptions].run_dir, line[ReconstructOptions]
    if options.ddpm_checkpoint_epoch is None:
        path = run_directory.checkpoint_path(run_dir, options.eval_checkpoint)
        last = run_dir / run_directory.LAST
        if options.eval_checkpoint == "best" and not path.exists() and last.exists():
            path = last  # the original code keeps this one alone; `_load` refuses ours
    elif "eval_checkpoint" not in line.given:
        path = run_directory.epoch_checkpoint(run_dir, options.ddpm_checkpoint_epoch)
    else:
        raise UserError(
            "`ddpm_checkpoint_epoch`, `eval_checkpoint`: found both, expected one of them"
        )
    return run_directory.require_checkpoint(path)


def _refuse_contradictions(options: ReconstructOptions, given: frozenset[str]) -> None:
    """Refuse flags that would do nothing beside the others, or name nothing."""
    if "out_ids" in given and not options.out_ids and options.run_out is not False:
        raise UserError(
            "`out_ids`: found none, expected at least one split; leave it out to score without"
        )
    refuse_idle(options.methods, given)
    grid = ("num_inference_steps", "inference_skip_factor")
    beside = [
        (bool(options.levels), "levels", ("budget", "inference_skip_factor")),
        (not options.levels and options.budget is not None, "budget", grid),
        (
            options.budget is not None and options.budget_steps == 1,
            "budget",
            ("sampler", "clip_denoised"),
        ),
    ]
    for applies, name, others in beside:
        for other in others if applies else ():
            if other in given:
                raise UserError(f"`{other}`: has no effect beside `{name}`; leave one of them out")
    if options.budget is None and "budget_steps" in given:
        raise UserError("`budget_steps`: has no effect without `budget`; give it as well")
