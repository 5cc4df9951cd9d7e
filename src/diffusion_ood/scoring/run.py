"""Scoring: methods applied to one set of images after the other, a table each."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.data.splits import Split
from diffusion_ood.detection.contents import forget_changed
from diffusion_ood.detection.folders import MAIN, method_dir, table_path
from diffusion_ood.detection.history import add_work
from diffusion_ood.detection.table_writer import (
    TableWriter,
    finished_images,
    merge_parts,
    note_table,
)
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.measure import table
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.model import versions
from diffusion_ood.options import LoadingOptions, RunOptions
from diffusion_ood.options.reconstruction import JOINED_METHODS
from diffusion_ood.report.pictures import pictures_path
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.background import Background
from diffusion_ood.runtime.device import describe
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.runtime.words import counted
from diffusion_ood.scoring.opening import count_trained_on, open_for
from diffusion_ood.scoring.sets import ScoringSet
from diffusion_ood.scoring.work import OpenSet, Work
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass
class ScoringRun:
    """A model on its device, and what it takes to score sets into a run's folder.

    A process reads and saves `batch_size` images at a time; `command` is the line that does this,
    for the history.
    """

    evaluator: Evaluator
    run: RunOptions
    loading: LoadingOptions
    batch_size: int
    command: str

    def folder(self, method: Method) -> Path:
        """Where a method's tables lie."""
        return method_dir(self.run.ood_dir, method.name)

    def fingerprint(self, method: Method) -> dict[str, Any]:
        """What a method's numbers depend on."""
        diffusion = self.evaluator.diffusion
        return {
            "checkpoint": diffusion.digest,
            "precision": self.evaluator.precision,
            **method.settings(diffusion),
            **({"learned": method.learned} if method.learns else {}),
        }

    def open(self, one: ScoringSet, *, needs_classes: bool) -> OpenSet:
        """Open the images of a set, perhaps with their true classes; every process calls this.

        Raises:
            UserError: images that cannot be read, are not of the model's shape, or were all
                trained on; or labels that are missing or none of the model's classes.
        """
        diffusion = self.evaluator.diffusion
        images = self.images(one.split, one.name)
        classes = class_numbers(images.split, diffusion.classes) if needs_classes else None
        purpose = "calibrate on" if one.role == "val" else "test"
        trained_on = count_trained_on(diffusion, images, purpose)
        return OpenSet(one.name, one.role, images, classes, trained_on)

    def images(self, split: Split, name: str) -> ImageSet:
        """Open the images of a split; UserError as `open`."""
        return open_for(self.evaluator.diffusion, split, name, self.loading, self.run.run_dir)

    def calls_to_learn(self, method: Method, images: ImageSet) -> int:
        """Network calls until a method has learned from reference images."""
        known = self._learned(method, images).exists()
        return 0 if known else method.calls(self.evaluator.diffusion) * len(images)

    def calls_to_score(self, methods: Sequence[Method], one: OpenSet) -> int:
        """Network calls that a set still takes of all processes, without those of earlier runs."""
        diffusion, missing = self.evaluator.diffusion, set[str]()
        for method in methods:
            path, rows = table_path(self.folder(method), one.name), len(method.draws(diffusion))
            missing |= {*one.keys} - finished_images(path, rows)
        return len(missing) * shared_calls(methods, diffusion)

    def _learned(self, method: Method, images: ImageSet) -> Path:
        """Where lies what the method learns from these images, after it is told which they are."""
        diffusion = self.evaluator.diffusion
        depends = (images.contents, diffusion.digest, self.evaluator.precision)
        content = repr((depends, method.settings(diffusion)))
        for form in ("", method.form):  # what was learned in an older form stays in use
            method.learned = hashlib.sha256((content + form).encode()).hexdigest()
            path = self.folder(method) / f"reference_{method.learned[:12]}.npz"
            if path.exists():
                break
        return path

    def learn(self, method: Method, images: ImageSet) -> None:
        """Let a method learn from reference images, once; every process has to call this.

        What it learned lies beside its tables, which depend on it.
        """
        path = self._learned(method, images)
        if distributed.is_main() and not path.exists():
            numbers = [part.tolist() for part in torch.arange(len(images)).split(self.batch_size)]
            loaded = image_batches(images, numbers, self.loading.num_workers)
            one = OpenSet("reference", "reference", images, None, 0)
            pairs = zip(numbers, loaded, strict=True)
            shown = tqdm(pairs, f"{method.name} learns", len(numbers), unit="batch", disable=None)
            batches = (one.batch(part, pixels, self.evaluator.device) for part, pixels in shown)
            method.learn(batches, self.evaluator)
            with atomic_write(path, "wb") as file:
                np.savez(file, allow_pickle=False, **method.state_dict())
            number = counted(len(images), "image")
            print(f"{method.name}: learned from {number} of {images.split.path}")
        distributed.barrier()
        with np.load(path, allow_pickle=False) as state:
            method.load_state_dict(dict(state))

    def score(self, methods: Sequence[Method], one: OpenSet, rows_after: int) -> None:
        """Make each method's table of one set, or what is missing; every process has to call this.

        Several methods share their network calls. By the calls that come after these, `rows_after`,
        compiling is decided.
        """
        diffusion = self.evaluator.diffusion
        for method in methods:
            self._forget_changed(method, one)
        with contextlib.ExitStack() as writers:
            together = shared_calls([m for m in methods if m.name in JOINED_METHODS], diffusion)
            opened = {m: writers.enter_context(self._writer(m, one, together)) for m in methods}
            distributed.barrier()  # all see what was finished before any adds to it
            work = Work.of(one, opened)
            for method in methods:
                if done := len(one.images) - len(work.missing[method]):
                    sentence = f"{done} of {len(one.images)} images were done"
                    distributed.print_once(f"{_title(method, one)}: {sentence}")
            shard = distributed.shard(sorted(set().union(*work.missing.values())))
            calls = len(shard) * shared_calls(methods, diffusion)
            self.evaluator.expect(calls + rows_after // distributed.world_size())
            self._score(work, shard)
        distributed.barrier()
        if distributed.is_main():
            for method in methods:
                path = table_path(self.folder(method), one.name)
                leftover = merge_parts(path, one.keys, len(method.draws(diffusion)))
                note_table(path)
                if leftover:
                    kept = f"{counted(leftover, 'more image')} of earlier runs, kept for later"
                    print(f"{_title(method, one)}: {kept}")
        distributed.barrier()

    def _writer(self, method: Method, one: OpenSet, together: int) -> TableWriter:
        diffusion, split = self.evaluator.diffusion, one.images.split
        return TableWriter(
            table_path(self.folder(method), one.name),
            fingerprint=self.fingerprint(method),
            rows_per_image=len(method.draws(diffusion)),
            facts={
                "split": str(split.path),
                "flip": split.edit,
                "skipped": len(one.images.skipped),
                "native_size": [list(size) for size in one.images.native_sizes],
                "intensity": one.images.intensity.as_json(),
                "training_intensity": diffusion.training.get("intensity"),
                "trained_on": one.trained_on,
                "calls_per_image": method.calls(diffusion),
                "calls_together": together,  # of those whose evidence is joined
                "directed": method.directed,
            },
            rank=distributed.rank(),
        )

    def _forget_changed(self, method: Method, one: OpenSet) -> None:
        """Let images be scored again whose content is not what was scored under their names."""
        if distributed.is_main():
            folder = self.folder(method)
            changed = forget_changed(table_path(folder, one.name), one.name, one.contents)
            if changed:
                pictures_path(folder, one.name).unlink(missing_ok=True)
                print(
                    f"{_title(method, one)}: {counted(len(changed), 'changed image')} to score "
                    f"again, the first is {changed[0]}"
                )
        distributed.barrier()

    def _score(self, work: Work, indices: list[int]) -> None:
        """Score the images of these indices, each on disk some seconds after it is finished."""
        begin, done = time.perf_counter(), dict.fromkeys(work.writers, 0)
        calls = shared_calls([*work.writers], self.evaluator.diffusion)
        hidden = None if distributed.is_main() else True  # None: where nobody watches, too
        try:
            with (
                tqdm(total=len(indices), desc=work.one.name, unit="image", disable=hidden) as bar,
                Background() as writing,
            ):
                for method, rows, images in self._tables(work, indices):
                    writing.do(partial(work.writers[method].append, rows))
                    done[method] += images
                    bar.update(max(done.values()) - bar.n)
                    if sentence := self.evaluator.decision():
                        distributed.print_once(sentence)
        finally:  # what an interrupted run has done counts too
            for method, images in done.items():
                if images:
                    seconds = time.perf_counter() - begin
                    self._remember(method, work.one, images, seconds, calls)

    def _tables(self, work: Work, indices: list[int]) -> Iterable[tuple[Method, pd.DataFrame, int]]:
        """The rows of finished images of each method, and how many images these are."""
        size, diffusion, one = self.batch_size, self.evaluator.diffusion, work.one
        batches = [indices[k : k + size] for k in range(0, len(indices), size)]
        loaded = image_batches(one.images, batches, self.loading.num_workers)
        for numbers, pixels in zip(batches, loaded, strict=True):
            batch = one.batch(numbers, pixels, self.evaluator.device)
            for method, found in work.measure(batch, numbers, self.evaluator):
                keys = [one.keys[numbers[image]] for image in found.images]
                yield method, table(method, diffusion, keys, found.measured, one.role), len(keys)

    def _remember(
        self, method: Method, one: OpenSet, done: int, seconds: float, calls: int
    ) -> None:
        """Say what was done, and add it to the history."""
        speed = f"{counted(done, 'image')}, {done / seconds:.2f} images/s"
        distributed.print_once(f"{_title(method, one)}: {speed}")
        if distributed.is_main():
            entry = {
                "set": one.name,
                "fingerprint": self.fingerprint(method),
                "images": done,
                "seconds": round(seconds, 3),
                "calls_per_image": calls,  # of all methods that were measured in these seconds
                "processes": distributed.world_size(),
                "device": describe(self.evaluator.device),
                "command": self.command,
                "versions": versions(),
            }
            add_work(self.folder(method), entry)


def _title(method: Method, one: OpenSet) -> str:
    """A set in a sentence; its method is named where it is another than the main one."""
    return one.name if method.name == MAIN else f"{one.name}, {method.name}"
