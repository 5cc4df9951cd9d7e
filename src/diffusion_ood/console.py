"""Out-of-distribution detection for images with diffusion models.

`diffusion-ood COMMAND --help` explains a command. The scripts of the repository are the same
commands under the names their users know.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import shtab

from diffusion_ood import cli


class Command(NamedTuple):
    """A command of the console: its module here, the script it is too, if any, a line of help."""

    module: str
    script: str | None
    summary: str


COMMANDS = {
    "data": Command("get_datasets", "get_datasets.py", "prepare data sets or a folder of images"),
    "train": Command("train_ddpm", "train_ddpm.py", "train a diffusion model"),
    "reconstruct": Command("reconstruct", "reconstruct.py", "reconstruct and score images"),
    "detect": Command("ood_detection", "ood_detection.py", "turn scores into decisions"),
    "fit": Command("fit", None, "fit a detector, one file that knows a distribution"),
    "screen": Command("screen", None, "ask a detector about images"),
    "serve": Command("serve", None, "answer over HTTP whether images are out of distribution"),
    "export": Command("export", None, "make a MONAI bundle of a detector"),
    "weights": Command("weights", None, "fetch the weights that LPIPS needs"),
    "sample": Command("sample", "sample.py", "draw samples from a diffusion model"),
    "train-classifier": Command(
        "train_classifier", "train_classifier.py", "train a classifier for the second system"
    ),
    "train-vqvae": Command(
        "train_vqvae", "train_vqvae.py", "train an autoencoder, of whose latents to train a model"
    ),
    "second": Command("diffood.main", "main.py", "the second system's runners"),
    "second-report": Command("diffood.ood_detect", "detect/ood_detect.py", "its report"),
}


def invocation(command: str) -> str:
    """How the user who started this process would call a command: by the console or a script."""
    script = COMMANDS[command].script
    return f"{cli.CONSOLE} {command}" if cli.in_console() or not script else f"python {script}"


def run() -> None:
    """The entry point `diffusion-ood`."""
    cli.run(main)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first word names; nothing else is imported.

    Raises:
        UserError: no such command, or what the command itself raises.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        _module(words[0]).main(words[1:])
        return
    parser, parsers = _parsers()
    shell = parser.parse_args(words or ["--help"]).shell
    for name, command in parsers.items():
        cli.add_options(command, _module(name).GROUPS)
    print(shtab.complete(parser, shell))


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The console's parser and those of its commands, which have no flags yet."""
    parser = cli.new_parser(__doc__, cli.CONSOLE)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parsers = {
        name: commands.add_parser(name, help=command.summary, prog=f"{cli.CONSOLE} {name}")
        for name, command in COMMANDS.items()
    }
    completion = commands.add_parser("completion", help="print a shell's completion script")
    completion.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return parser, parsers


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.commands.{COMMANDS[command].module}")
