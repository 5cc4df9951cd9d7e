"""Where a run's score tables lie.

    ood/results_<set>.csv           the table of a set by the method `MAIN`, with a sidecar .json
    ood/<method>/results_<set>.csv  that of another method

Imports nothing heavy, so that a command finds missing tables at once.
"""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.data.splits import PATCHED
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions

MAIN = "reconstruction"
"""The method whose tables lie in `ood` itself."""

PARTS = "parts"
"""The folder of what is not yet a table, beside the tables."""

OPTIONS = {"val": "`validation_ids`", "in": "`in_ids`", PATCHED: "`run_patched`"}
"""The option of reconstruct.py that makes the table of a set; `out_ids` or `shifted_ids` that of
any other."""


def table_path(ood_dir: Path, name: str) -> Path:
    """Where the table of a set lies, in a run's folder `ood` or in a method's."""
    return ood_dir / f"results_{name}.csv"


def method_dir(ood_dir: Path, method: str) -> Path:
    """Where the tables of a method lie in a run's folder `ood`."""
    return ood_dir if method == MAIN else ood_dir / method


def method_folders(ood_dir: Path) -> dict[str, Path]:
    """The folders that hold score tables by their methods, `MAIN` first, then by name.

    Where there is none, `MAIN` alone.
    """
    tables = str(table_path(Path(), "*"))
    others = sorted({path.parent for path in ood_dir.glob(f"*/{tables}")} - {ood_dir / PARTS})
    folders = {MAIN: ood_dir, **{path.name: path for path in others}}
    if others and not any(ood_dir.glob(tables)):
        del folders[MAIN]
    return folders


def has_tables(ood_dir: Path) -> bool:
    """Whether there is a score table of any method."""
    return any(any(f.glob(str(table_path(Path(), "*")))) for f in method_folders(ood_dir).values())


def find_tables(folder: Path, options: DetectOptions) -> dict[str, Path]:
    """The tables of "val", "in", perhaps `PATCHED`, and the other sets, if any, in this order.

    Raises:
        UserError: a missing table, and which option makes it; or an OOD set of a reserved name.
    """
    found = sorted(path.stem.removeprefix("results_") for path in folder.glob("results_*.csv"))
    out_names = list(dict.fromkeys(options.out_data)) or [n for n in found if n not in OPTIONS]
    if reserved := OPTIONS.keys() & set(out_names):
        raise UserError(f"`out_data`: found {min(reserved)!r}, expected names of other sets")
    names = ["val", "in", *([PATCHED] if options.level_weights == "patched" else []), *out_names]
    tables = {name: table_path(folder, name) for name in names}
    for name, path in tables.items():
        if name not in found:
            raise UserError(
                f"{path}: no such score table, expected one made by reconstruct.py with "
                f"{OPTIONS.get(name, '`out_ids` or `shifted_ids`')}"
            )
    return tables
