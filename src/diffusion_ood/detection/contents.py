"""Which content the images of a table had when they were scored.

    ood/contents_<set>.json   the digest of each image's file, by its name in the table

An image whose file has another digest is scored again. The digests are written before the images
are scored, and after rows of changed images are gone: whenever a process is killed, every row that
is there was scored with the content that is written there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table_writer import forget
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import write_json


def contents_path(ood_dir: Path, name: str) -> Path:
    """Where the digests of a set lie, in a run's folder `ood` or in a method's."""
    return ood_dir / f"contents_{name}.json"


def read_contents(ood_dir: Path, name: str) -> dict[str, str]:
    """The digest of each image of a set; empty where none were written, by earlier versions.

    Raises:
        UserError: what is written there is damaged, so that no row can be trusted.
    """
    path = contents_path(ood_dir, name)
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UserError(
            f"{path}: found no digests, expected one for each image; remove it and "
            f"{table_path(ood_dir, name).name} to score the images again"
        )
    return found


def forget_changed(table: Path, name: str, contents: Mapping[str, str]) -> list[str]:
    """Take the rows of changed images out of a table and its parts, and write what they are now.

    Images without a digest of before count as unchanged. One process calls this, before any opens a
    writer.

    Args:
        table: of the set.
        name: of the set.
        contents: the digest of each image that is to be scored, by its name in the table.

    Returns:
        The names of the changed images.
    """
    known = read_contents(table.parent, name)
    changed = [image for image, digest in contents.items() if known.get(image, digest) != digest]
    if changed:
        forget(table, changed)
    if known != (found := {**known, **contents}):
        write_json(contents_path(table.parent, name), found)
    return changed
