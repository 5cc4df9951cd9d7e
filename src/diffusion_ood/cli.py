"""Command lines made from frozen dataclasses: an option is declared once, for every script.

A field of an options class becomes `--field_name`. Its type says how the text is read, its default
what happens without it, and `options.fields.option` what `--help` prints and which names or paths
are allowed. Booleans take `--x`, `--no-x` and `--x=0|1|True|False`; tuples take values separated by
commas, in round brackets or not. This module and the commands alone know of flags: everything else
calls options by their names in backticks, which `as_flags` turns into flags.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import signal
import sys
import types
import typing
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import shtab

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import failures
from diffusion_ood.version import __version__

Options = TypeVar("Options")

USER_ERROR_EXIT_CODE = 2
CONSOLE = "diffusion-ood"
MACHINE_ERROR_EXIT_CODE = 1


class CommandLine:
    """What a command line said: an instance of each options class, and which flags were given."""

    def __init__(self, values: dict[type, Any], given: frozenset[str], argv: Sequence[str]) -> None:
        self._values = values
        self._argv = argv
        self.given = given

    def command(self, program: str) -> str:
        """The line that says the same to a shell, for a program such as `python x.py`."""
        return f"{program} {shlex.join(self._argv)}"

    def __getitem__(self, options: type[Options]) -> Options:
        return self._values[options]


def parse(
    description: str | None, classes: Sequence[type], argv: Sequence[str] | None = None
) -> CommandLine:
    """Read `argv` (default: the process's own arguments) into one instance of each options class.

    Raises:
        UserError: an unknown flag, a missing one, a value outside its type or range, or a path that
            does not exist where it has to.
    """
    parser = new_parser(description)
    add_options(parser, classes)
    words = sys.argv[1:] if argv is None else argv
    namespace = vars(parser.parse_args(words))
    values = {
        cls: cls(
            **{f.name: namespace[f.name] for f in dataclasses.fields(cls) if f.name in namespace}
        )
        for cls in classes
    }
    for cls in classes:
        _refuse_missing(values[cls])
    return CommandLine(values, frozenset(namespace), words)


def new_parser(description: str | None, program: str | None = None) -> argparse.ArgumentParser:
    """A parser that knows `--help` and `--version` and whose mistakes are `UserError`s."""
    parser = _Parser(
        prog=program or _program(),
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    try:
        with failures.raised_sigterm():
            main()
    except UserError as error:
        sentences = [_printable(as_flags(sentence)) for sentence in error.args]
        failures.leave(sentences, USER_ERROR_EXIT_CODE)
    except KeyboardInterrupt:
        failures.leave_by_signal(signal.SIGINT)
    except failures.Terminated:
        failures.leave_by_signal(signal.SIGTERM)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the machine's fault
            failures.leave([_printable(_of_machine(error))], MACHINE_ERROR_EXIT_CODE)
        if _is_of_memory(error):
            failures.leave([_printable(_of_memory(error))], MACHINE_ERROR_EXIT_CODE)
        if not failures.in_a_group():
            raise
        failures.leave_by_error(error)


def _of_machine(error: OSError) -> str:
    name = "" if error.filename is None else f"{error.filename}: "
    return f"{name}{error.strerror}; what was finished is kept, and the same command goes on there"


def _is_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or torch, which detection does not import, found no memory."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and torchs)


def _of_memory(error: Exception) -> str:
    reason = str(error).split("\n")[0] or "no more to be had"
    return (
        f"out of memory: {reason}; smaller batches or images, or fewer processes, need less; what "
        "was finished is kept"
    )


def _printable(text: str) -> str:
    """One line that a terminal shows as it is: names of files may hold any character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _program() -> str:
    """What this process was called as, for messages: a script, or the console and its command."""
    words = sys.argv[1:2] if in_console() else []
    return " ".join([Path(sys.argv[0]).name, *words])


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s, like every other mistake of a user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


class _Boolean(argparse.Action):
    """`--x`, `--x=1`, `--x=False`, `--no-x`."""

    TEXTS: typing.ClassVar = {
        "1": True,
        "true": True,
        "yes": True,
        "0": False,
        "false": False,
        "no": False,
    }

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - argparse's own signature
        option_string: str | None = None,
    ) -> None:
        negated = (option_string or "").startswith("--no-")
        if values is None:
            value = not negated
        elif negated:
            parser.error(f"argument {option_string}: takes no value, found {values!r}")
        elif values.lower() in self.TEXTS:
            value = self.TEXTS[values.lower()]
        else:
            parser.error(f"argument {option_string}: found {values!r}, expected 0 or 1")
        setattr(namespace, self.dest, value)


def _add(group: argparse._ArgumentGroup, field: dataclasses.Field[Any], hint: object) -> None:
    """Add a field to the parser; absent flags stay out of the namespace, so "given" is known."""
    required = field.default is dataclasses.MISSING
    help_text = as_flags(field.metadata["help"]).replace("%", "%%")
    choices = field.metadata["choices"] and tuple(field.metadata["choices"])
    if not required and field.default not in (None, ()):
        help_text += f" (default: {_show(field.default)})"
    common: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS, "required": required}
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if optional:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    name = f"--{field.name}"
    if hint is bool:
        group.add_argument(
            name, f"--no-{field.name}", action=_Boolean, nargs="?", metavar="0|1", **common
        )
    elif typing.get_origin(hint) is typing.Literal:
        group.add_argument(name, choices=typing.get_args(hint), **common)
    elif typing.get_origin(hint) is tuple:
        (element, *_) = typing.get_args(hint)
        metavar = f"{element.__name__.upper()},…"
        reader = _tuple_reader(element, choices, optional=optional)
        group.add_argument(name, type=reader, metavar=metavar, **common)
    elif choices:
        group.add_argument(name, choices=choices, **common)
    else:
        assert isinstance(hint, type), f"{field.name}: an option of type {hint}"
        reader = _none_or(hint) if optional and hint in (int, float) else _reader(hint)
        action = group.add_argument(name, type=reader, metavar=hint.__name__.upper(), **common)
        if hint is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it


def _show(default: object) -> str:
    if isinstance(default, bool):
        return str(int(default))
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _none_or(element: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:  # noqa: ANN401 - any element type
        return None if text == "None" else element(text)

    read.__name__ = element.__name__  # argparse names it in "invalid int value"
    return read


def _tuple_reader(
    element: type, choices: Collection[str] | None, *, optional: bool
) -> Callable[[str], Any]:
    one = _reader(element)

    def read(text: str) -> tuple[Any, ...] | None:
        if optional and text == "None":
            return None
        if not issubclass(element, (str, Path)):
            text = text.strip("()[] ")
        parts = [part.strip() for part in text.split(",") if part.strip()]
        for part in parts if choices else ():
            if part not in (choices or ()):
                raise argparse.ArgumentTypeError(
                    f"found {part!r}, expected some of {', '.join(choices or ())}"
                )
        return tuple(map(one, parts))

    read.__name__ = f"{element.__name__} list"
    return read


def _reader(element: type) -> Callable[[str], Any]:
    """The function that reads one value; a path's `~` is the user's home."""
    return (lambda text: Path(text).expanduser()) if element is Path else element


def _refuse_missing(options: Any) -> None:  # noqa: ANN401 - any options dataclass
    """Refuse a path that has to exist and does not."""
    for field in dataclasses.fields(options):
        path = getattr(options, field.name)
        if field.metadata["exists"] and path is not None and not path.exists():
            raise UserError(f"`{field.name}`: {path}: no such file or folder")
