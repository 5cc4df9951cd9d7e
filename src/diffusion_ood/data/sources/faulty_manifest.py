"""What the images of a set with faults were made from, and what was written: `SET/manifest.json`.

    {"format", "fault", "severity", "seed"   what they all depend on
     "of"                                    their split, as seen from the folder of all data sets
     "images": {name: digest}                of the content that each was made from
     "written": {name: digest}}              of each file, once it was written

What an image is made from is noted before it is written, so that no run takes it for another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffusion_ood.data.contents import DIGITS
from diffusion_ood.data.native_files import open_native
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import sha256, write_json


def refuse_other_split(folder: Path, of: str) -> None:
    """Raise a `UserError` where a set of this name is there that was made of another split."""
    found = _read(folder).get("of", of)  # the first version did not say
    if found != of:
        raise UserError(
            f"{folder}: found images made from {found}, expected {of}, as sets are named by the "
            "split's file; remove the folder, rename the split, or use another `data_root`"
        )


class Manifest:
    """The manifest of a set, as far as it is of the same settings.

    Args:
        folder: of the set.
        of: the split of its originals.
        settings: what all images depend on; JSON values.
    """

    def __init__(self, folder: Path, of: str, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, {**settings, "of": of}
        self._found = _read(folder)
        same = all(self._found.get(key) == value for key, value in settings.items())
        self._images = dict(self._found["images"]) if same else {}
        self._written = dict(self._found.get("written", {})) if same else {}

    def start(self, made_from: Mapping[str, str]) -> list[str]:
        """Note what images are made from, and name those that are not there and whole.

        What was made from others is removed before. Names of an earlier, longer run stay.
        """
        for name, digest in made_from.items():
            if self._images.get(name) != digest:
                (self._folder / name).unlink(missing_ok=True)
                self._written.pop(name, None)
        self._images.update(made_from)
        self._save()
        return [name for name in made_from if not self._is_whole(name)]

    def finish(self, names: Iterable[str], written: Iterable[str]) -> None:
        """Note the files of these names, of which some were written now."""
        anew = {*written}
        for name in names:
            if name in anew or name not in self._written:
                self._written[name] = sha256(self._folder / name)[:DIGITS]
        self._save()

    def _is_whole(self, name: str) -> bool:
        """Whether a file is as it was written; one of a run that was cut off need be readable."""
        path = self._folder / name
        try:
            if name in self._written:
                return sha256(path)[:DIGITS] == self._written[name]
            open_native(path)
        except (OSError, UserError):
            return False
        return True

    def _save(self) -> None:
        content = {**self._settings, "images": self._images, "written": self._written}
        if content != self._found:
            write_json(self._folder / "manifest.json", content)
            self._found = json.loads(json.dumps(content))


def _read(folder: Path) -> dict[str, Any]:
    """What is written there; empty where that is nothing, or damaged."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        maps = (found["images"], found.get("written", {}))
        return found if all(isinstance(part, dict) for part in maps) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
