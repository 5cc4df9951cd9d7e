"""Ask a detector about images: which of them are out of distribution.

    diffusion-ood screen mine.detector /path/to/scans --output screening

Takes images, folders of images, split CSVs and image lists, on a disk or at URLs. Writes
decisions.csv, a row an image as it is decided, and report.html. The same command again goes on
where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from diffusion_ood import cli
from diffusion_ood.errors import UserError
from diffusion_ood.options import ScreenOptions
from diffusion_ood.runtime.failures import Terminated
from diffusion_ood.runtime.imports import require

if TYPE_CHECKING:
    import torch

    from diffusion_ood.detector import Detector
    from diffusion_ood.screening.decisions import Decision, DecisionFile
    from diffusion_ood.screening.inputs import Item
    from diffusion_ood.screening.run import Decide

GROUPS = (ScreenOptions,)
OOD_EXIT_CODE = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments.

    Raises:
        UserError: a wrong flag, split or detector, or no image at all.
    """
    options = cli.parse(__doc__, GROUPS, argv)[ScreenOptions]
    if options.table == "parquet":
        require("ray", "pyarrow")
    if options.ray is not None:
        require("ray", "ray", "pyarrow")

    from diffusion_ood.runtime import distributed
    from diffusion_ood.screening.inputs import gather

    items = gather(options.images, [_folder(options), options.maps])
    # Beside workers this process has nothing to compute, perhaps on a machine without a GPU.
    own = options.device if options.ray is None else "cpu"
    with distributed.process_group(own) as device:
        try:
            found = _screen(options, items, device)
        except (KeyboardInterrupt, Terminated):
            print("stopped; decisions are kept, the same command goes on", file=sys.stderr)
            raise
    if found and options.exit_code:
        sys.exit(OOD_EXIT_CODE)


def _folder(options: ScreenOptions) -> Path | None:
    """Where decisions and the report go, if anywhere."""
    return options.output or (None if options.json else Path("screening"))


def _screen(options: ScreenOptions, items: Sequence[Item], device: torch.device) -> bool:
    """Screen the images, and say whether any is called out of distribution."""
    from diffusion_ood.detector import Detector
    from diffusion_ood.runtime import distributed
    from diffusion_ood.runtime.lock import locked
    from diffusion_ood.screening.decisions import LEFTOVERS, DecisionFile, begin, made
    from diffusion_ood.screening.inputs import for_model

    detector = Detector.load(options.detector, device, compile=options.compile)
    items = for_model(items, detector.content.diffusion.image_options)
    folder = _folder(options)
    _refuse(options, detector, items, folder)
    with contextlib.ExitStack() as held:
        file = None
        if folder is not None:
            held.enter_context(locked(folder, *LEFTOVERS))
            if distributed.is_main():
                begin(folder, detector.digest)
            distributed.barrier()
            file = held.enter_context(DecisionFile(folder, distributed.rank()))
        left = [item for item in items if file is None or item.name not in file.finished]
        cost = detector.cost(len(left))  # in every process, as they share the machine
        if cost and distributed.is_main():
            if options.ray is not None:
                cost += "; the cluster's workers, which take half a minute to start, divide it"
            print(cli.as_flags(cost), file=_said(options), flush=True)
        decisions = _decide(options, detector, distributed.shard(items), file)
        distributed.barrier()
        if not distributed.is_main():
            return False
        if folder is not None:
            known = made(folder)
            decisions = [known[item.name] for item in items]
        return _conclude(options, detector, items, decisions)


def _said(options: ScreenOptions) -> TextIO:
    """Where sentences go."""
    return sys.stderr if options.json else sys.stdout


def _conclude(
    options: ScreenOptions,
    detector: Detector,
    items: Sequence[Item],
    decisions: Sequence[Decision],
) -> bool:
    """Write and say what the decisions are together, and whether any is out of distribution."""
    from diffusion_ood.screening.batch import consider, sentences, watch
    from diffusion_ood.screening.decisions import FILE, PARQUET
    from diffusion_ood.screening.report import write_results

    batch = consider(detector, decisions, items, fdr=options.fdr, group_by=options.group_by)
    batch = dataclasses.replace(batch, doubts=list(map(cli.as_flags, batch.doubts)))
    if options.monitor is not None:
        batch = watch(batch, detector, options.monitor)
    written: list[str] = []
    if (folder := _folder(options)) is not None:
        shown, fdr, name = options.report_images, options.fdr, options.detector.name
        table = {"csv": FILE, "parquet": PARQUET}[options.table]
        written = write_results(
            folder, detector, name, batch, items, num_shown=shown, fdr=fdr, table=table
        )
    if options.json and options.fdr is not None:
        print("\n".join(decision.as_json() for decision in batch.decisions), flush=True)
    for sentence in (*sentences(batch), *(f"warning: {d}" for d in batch.doubts), *written):
        print(sentence, file=_said(options))
    return batch.num_ood > 0


def _decide(
    options: ScreenOptions, detector: Detector, items: Sequence[Item], file: DecisionFile | None
) -> list[Decision]:
    """This process's decisions, which are printed as they are made where they are final."""
    from tqdm import tqdm

    from diffusion_ood.runtime import distributed
    from diffusion_ood.screening.run import screen

    hidden = None if distributed.is_main() else True  # None: where nobody watches, too
    with tqdm(total=len(items), desc="screening", unit="image", disable=hidden) as bar:

        def seen(decisions: Sequence[Decision]) -> None:
            bar.update(len(decisions))
            if hidden is None and (sentence := detector.decision()):
                tqdm.write(sentence, file=sys.stderr)
            if options.json and options.fdr is None:
                print("\n".join(decision.as_json() for decision in decisions), flush=True)

        detector.expect(len(items))
        with _elsewhere(options, detector) as elsewhere:
            maps = options.maps
            return screen(detector, items, file, maps=maps, seen=seen, elsewhere=elsewhere)


@contextlib.contextmanager
def _elsewhere(options: ScreenOptions, detector: Detector) -> Iterator[Decide | None]:
    """Where decisions are made, if not in this process."""
    if options.ray is None:
        yield None
        return
    from diffusion_ood.screening.ray_pool import ray_pool

    share = options.ray_workers, options.device
    content = options.detector, options.compile
    with ray_pool(options.ray, *share, *content, detector.reader) as pool:
        yield pool.decide


def _refuse(
    options: ScreenOptions, detector: Detector, items: Sequence[Item], folder: Path | None
) -> None:
    """Refuse what cannot work before it begins."""
    from diffusion_ood.runtime import distributed
    from diffusion_ood.screening.checks import check_groups, check_maps, check_monitor

    if folder is None and distributed.world_size() > 1:
        raise UserError("`json`: found several processes, expected `output` as well")
    if options.ray is not None and distributed.world_size() > 1:
        raise UserError("`ray`: found several processes, expected one, as Ray starts its own")
    if options.group_by is not None:
        check_groups(detector, items, options.group_by)
    if options.monitor is not None:
        check_monitor(detector, options.monitor)
    if options.maps is not None:
        check_maps(detector, items, options.maps)
