"""The history of score tables: a line for each time that a command scored images of a set."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_ood.runtime.files import write_through

FILE = "history.jsonl"


def add_work(ood_dir: Path, entry: Mapping[str, Any]) -> None:
    """Append a piece of work to the history; on return it is on disk.

    It has `set`, `fingerprint`, `images` and `seconds`, and anything else of interest.
    """
    with open(ood_dir / FILE, "ab", buffering=0) as file:
        write_through(file, json.dumps(entry).encode() + b"\n")


def read_work(ood_dir: Path, name: str, fingerprint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The work on the set `name` with this fingerprint, the oldest first."""
    try:
        lines = (ood_dir / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line that a killed process did not finish
            found.append(json.loads(line))
    entries = [entry for entry in found if isinstance(entry, dict) and entry.get("set") == name]
    return [entry for entry in entries if entry.get("fingerprint") == fingerprint]
