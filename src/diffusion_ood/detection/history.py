"""The history of score tables: a line for each time that a command scored images of a set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "history.jsonl"


def add_work(ood_dir: Path, entry: Mapping[str, Any]) -> None:
    """Append a piece of work to the history; on return it is on disk.

    Args:
        ood_dir: the run's folder of score tables.
        entry: `set`, `fingerprint`, `images` and `seconds`, and anything else of interest.
    """
    with open(ood_dir / FILE, "ab") as file:
        file.write(json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_work(ood_dir: Path, name: str, fingerprint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The work on the set `name` with this fingerprint, the oldest first."""
    try:
        lines = (ood_dir / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = (_parsed(line) for line in lines)
    return [e for e in entries if e.get("set") == name and e.get("fingerprint") == fingerprint]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # a line that a killed process did not finish
        return {}
    return entry if isinstance(entry, dict) else {}
