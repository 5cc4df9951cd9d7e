"""Command lines made from frozen dataclasses: an option is declared once, for every script.

A field of an options class becomes `--field_name`. Its type says how the text is read, its default
what happens without it, and `options.fields.option` what `--help` prints and which names or paths
are allowed. Booleans take `--x`, `--no-x` and `--x=0|1|True|False`; tuples take values separated by
commas, numbers in any brackets or none. This module and the commands alone know of flags:
everything else calls options by their names in backticks, which `as_flags` turns into flags.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import io
import os
import re
import shlex
import signal
import sys
import types
import typing
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import shtab

from diffusion_ood.errors import UserError
from diffusion_ood.paths import expanded
from diffusion_ood.runtime import failures
from diffusion_ood.version import __version__

Options = TypeVar("Options")

USER_ERROR_EXIT_CODE = 2
CONSOLE = "diffusion-ood"
MACHINE_ERROR_EXIT_CODE = 1
SEVERAL = ",…"


@dataclass(frozen=True)
class CommandLine:
    """What a command line said; `line[cls]` is its instance of an options class.

    Attributes:
        groups: an instance of each options class, in the command's order.
        given: the options whose flags were given.
        words: the line itself.
    """

    groups: tuple[Any, ...]
    given: frozenset[str]
    words: Sequence[str]

    def command(self, program: str) -> str:
        """The line that says the same to a shell, for a program such as `python x.py`."""
        return f"{program} {shlex.join(self.words)}"

    def __getitem__(self, options: type[Options]) -> Options:
        found: dict[type, Any] = {type(group): group for group in self.groups}
        return found[options]


def parse(
    description: str | None, classes: Sequence[type], argv: Sequence[str] | None = None
) -> CommandLine:
    """Read `argv` (default: the process's own arguments) into one instance of each options class.

    Raises:
        UserError: an unknown flag, a missing one, a value outside its type or range, or a path that
            does not exist where it has to.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = new_parser(description, words=words)
    add_options(parser, classes)
    found = vars(parser.parse_args(words))
    groups = []
    for cls in classes:
        names = [field.name for field in dataclasses.fields(cls) if field.name in found]
        values = {name: found[name] for name in names}
        several = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        groups.append(cls(**{**values, **several}))
        _refuse_missing(groups[-1])
    return CommandLine(tuple(groups), frozenset(found), words)


def new_parser(
    description: str | None, program: str | None = None, words: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser with `--help` and `--version`; mistakes, of the line's `words`, are `UserError`s."""
    script = [Path(sys.argv[0]).name, *(sys.argv[1:2] if in_console() else [])]
    parser = _Parser(
        prog=program or " ".join(script),
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.words = words
    parser.add_argument("--version", action="version", version=f"diffusion-ood {__version__}")
    return parser


def add_options(parser: argparse.ArgumentParser, classes: Sequence[type]) -> None:
    """Add a group of flags for each options class, titled by its docstring."""
    for cls in classes:
        group = parser.add_argument_group((cls.__doc__ or cls.__name__).split("\n")[0].rstrip("."))
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            _add(group, field, hints[field.name])


def as_flags(sentence: str) -> str:
    """A sentence in which options stand in backticks, as `budget`, with their flags instead."""
    return re.sub(r"`([a-z][a-z0-9_]*)`", r"--\1", sentence)


def in_console() -> bool:
    """Whether this process was started as `diffusion-ood COMMAND`, rather than by a script."""
    return Path(sys.argv[0]).stem == CONSOLE


def run(main: Callable[[], None]) -> None:
    """Call a command's `main`; a user's mistake ends as one sentence on stderr and exit code 2.

    So does what the machine refuses, a full disk, a folder of somebody else's or more memory, with
    exit code 1.
    """
    _open_streams()
    try:
        with failures.raised_sigterm():
            main()
    except UserError as error:
        sentences = [_printable(as_flags(sentence)) for sentence in error.args]
        failures.leave(sentences, USER_ERROR_EXIT_CODE)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        is_folder = isinstance(error, IsADirectoryError)
        found = "a folder, expected a file" if is_folder else "a file, expected a folder"
        sentence = f"{error.filename}: found {found}"
        failures.leave([_printable(sentence)], USER_ERROR_EXIT_CODE)
    except KeyboardInterrupt:
        failures.leave_by_signal(signal.SIGINT)
    except failures.Terminated:
        failures.leave_by_signal(signal.SIGTERM)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if reason := failures.of_machine(error):
            failures.leave([_printable(as_flags(reason))], MACHINE_ERROR_EXIT_CODE)
        if not failures.in_a_group():
            raise
        failures.leave_by_error(error)


def _open_streams() -> None:
    """Let output go on where a terminal lacks characters, and where a stream was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _printable(text: str) -> str:
    """One line that a terminal shows as it is: names of files may hold any character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s, like every other mistake of a user."""

    words: Sequence[str] = ()  # of the line, for hints

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}{self._hint(message)} (see {self.prog} --help)")

    def _hint(self, message: str) -> str:
        if "expected one argument" in message:
            return "; a value that begins with a minus follows an equals sign, as in --x=-1,1"
        if not re.search("unrecognized arguments|arguments are required", message):
            return ""  # argparse looks for missing flags first, also where one is misspelt
        before = None
        for word in self.words:
            dashes, name = re.findall(r"^([-\u2010-\u2014]*)([^=]*)", word)[0]
            if known := self._option_string_actions.get(dashes + name):
                before = known
            elif dashes:
                meant = f"--{name.replace('-', '_')}"
                if near := difflib.get_close_matches(meant, self._option_string_actions, 1, 0.8):
                    return f"; {dashes}{name} is none, but {near[0]} is one"
            elif f"unrecognized arguments: {word}" in message and before is not None:
                takes = "values between commas" if SEVERAL in str(before.metavar) else "one value"
                return f"; {before.option_strings[0]} takes {takes}"
        return ""


def _add(group: argparse._ArgumentGroup, field: dataclasses.Field[Any], hint: object) -> None:
    """Add a field to the parser; absent flags stay out of the namespace, so "given" is known."""
    required = field.default is dataclasses.MISSING
    help_text = as_flags(field.metadata["help"]).replace("%", "%%")
    if not required and field.default not in (None, ()):
        shown: Any = field.default
        shown = ",".join(map(str, shown)) if isinstance(shown, tuple) else shown
        help_text += f" (default: {int(shown) if hint is bool else shown})"
    common: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS, "required": required}
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if optional:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    several = typing.get_origin(hint) is tuple
    choices = tuple(field.metadata["choices"] or ())
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
    flag = f"--{field.name}"
    if hint is bool:
        group.add_argument(flag, type=_boolean, nargs="?", const=True, metavar="0|1", **common)
        group.add_argument(
            f"--no-{field.name}",
            dest=field.name,
            action="store_false",
            default=argparse.SUPPRESS,
            help=f"the same as {flag}=0",
        )
    elif choices and not several:
        group.add_argument(flag, choices=choices, **common)
    else:
        element = typing.get_args(hint)[0] if several else hint
        assert isinstance(element, type), f"{field.name}: an option of type {hint}"
        if field.metadata["positional"]:
            common = {"help": help_text, **({"nargs": "+"} if several else {})}
            flag, several = field.name, False
        reader = _reader(element, choices, optional=optional, several=several)
        metavar = element.__name__.upper() + (SEVERAL if several else "")
        if field.metadata["positional"]:
            metavar = field.name.upper()
        action = group.add_argument(flag, type=reader, metavar=metavar, **common)
        if element is Path or field.metadata["positional"]:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it


def _boolean(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected 0 or 1")
    return text.lower() in ("1", "true", "yes")


def _reader(
    element: type, choices: Collection[str], *, optional: bool, several: bool
) -> Callable[[str], Any]:
    """The function that reads a value, or several between commas; a path's `~` is the user's home.

    The text `None` means no value where that is allowed, but for a text or a path, which may be
    called so.
    """

    def one(text: str) -> Any:  # noqa: ANN401 - any element type
        if choices and text not in choices:
            raise argparse.ArgumentTypeError(
                f"found {text!r}, expected some of {', '.join(choices)}"
            )
        try:
            return expanded(text) if element is Path else element(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    def read(text: str) -> Any:  # noqa: ANN401 - any element type
        if optional and text == "None" and (several or element in (int, float)):
            return None
        if not several:
            return one(text)
        if not issubclass(element, (str, Path)):
            text = re.sub(r"[()\[\]]", " ", text)
        return tuple(one(part.strip()) for part in text.split(",") if part.strip())

    read.__name__ = f"{element.__name__} list" if several else element.__name__
    return read


def _refuse_missing(options: Any) -> None:  # noqa: ANN401 - any options dataclass
    """Refuse a path that has to exist and does not."""
    for field in dataclasses.fields(options):
        path = getattr(options, field.name)
        if field.metadata["exists"] and path is not None and not path.exists():
            flag = "" if field.metadata["positional"] else f"`{field.name}`: "
            raise UserError(f"{flag}{path}: no such file or folder")
