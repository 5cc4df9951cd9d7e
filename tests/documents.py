"""The commands that the documents tell a reader to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "data_splits" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not path.is_symlink()),
]
BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ASSIGNMENT = re.compile(r"^\w+=\S*$")


class Line(NamedTuple):
    """A command of a document, with its shell variables put in."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


def blocks(path: Path, heading: str | None = None) -> list[str]:
    """The shell blocks of a document, or those between a heading and the next one."""
    text = path.read_text(encoding="utf-8")
    if heading is not None:
        _, text = text.split(f"\n{heading}\n", 1)
        text = re.split(r"^#", re.sub(r"^```.*?^```", _hide, text, flags=re.S | re.M), flags=re.M)[
            0
        ]
        text = text.replace("\x00", "#")
    return BLOCK.findall(text)


def _hide(block: re.Match[str]) -> str:
    return block[0].replace("#", "\x00")  # a comment in a shell block is no heading


def commands(block: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of a shell block."""
    variables: dict[str, str] = {}
    for text in block.replace("\\\n", " ").splitlines():
        words = _split(text, variables)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and ASSIGNMENT.match(command[0]):
                name, value = command.pop(0).split("=", 1)
                variables[name] = value
            if command:
                yield tuple(command)


def _split(text: str, variables: dict[str, str]) -> list[str]:
    text = re.sub(r"\$\(id -([ug])\)", "1000", text)
    text = re.sub(r"\$\{?(\w+)\}?", lambda name: variables.get(name[1], name[1]), text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="&|;>")
    lexer.whitespace_split = True
    return list(lexer)


def lines() -> list[Line]:
    """Every command of every document."""
    return [
        Line(str(path.relative_to(ROOT)), words)
        for path in DOCUMENTS
        for block in blocks(path)
        for words in commands(block)
    ]
