"""The package's shape: which module may import which, how long things are, no dead flag."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusion_ood
from diffusion_ood import options

PACKAGE = Path(diffusion_ood.__file__).parent
ROOT = Path(__file__).parents[1]
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

# Below every stage, each with what it may import of the package.
GROUND = {
    "errors": set(),
    "version": set(),
    "registries": set(),
    "paths": {"errors"},
    "options": {"options", "errors", "paths", "registries"},
    "runtime": {"runtime", "errors", "paths"},
}
STAGES = ["data", "networks", "quality", "autoencoder", "diffusion", "model", "trajectories"]
STAGES += ["methods", "calibration", "detection", "report", "scoring", "sampling", "training"]
STAGES += ["detector", "screening", "export", "serving"]
# The package's face, and what knows of command lines: nothing above may import them.
FACE = {"__init__": {"version", "model", "trajectories", "methods", "detector"}}
PROGRAMS = {
    "cli": {"version", "errors", "paths", "runtime"},
    "console": {"errors", "cli"},
    "__main__": {"cli", "console"},
    "commands": {*GROUND, *STAGES, "cli", "console", "commands"},
}
PARTS = {*FACE, *GROUND, *STAGES, *PROGRAMS}

MAX_FILE, MAX_FUNCTION, MAX_SCRIPT = 300, 50, 60
# Of all Python files: readers of declared pixels are 1,200, methods 2,500, detectors with
# screening, service and export 3,500, volumes, DICOM and their data sets 3,000, latents 1,500.
MAX_LINES = 30_900
# Accepted as their defaults alone.
REFUSED_EVERYWHERE = {"simplex_noise", "adversarial_weight", "adversarial_warmup"}
REFUSED_EVERYWHERE |= {"vqvae_ddp_sync"}

OPTIONS = [
    (name, field.name)
    for name, cls in vars(options).items()
    if dataclasses.is_dataclass(cls)
    for field in dataclasses.fields(cls)
]


def short(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def part_of(path: Path) -> str:
    """The stage, or the module of the ground, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_parts(tree: ast.AST) -> set[str]:
    """The parts of this package that a module imports."""
    names = [name.split(".") for name in imports(tree)]
    parts = {name[1] for name in names if name[0] == "diffusion_ood"}
    return {part if part in PARTS else "__init__" for part in parts}


def imported_modules(tree: ast.AST) -> set[Path]:
    """The files of this package that a module imports by name, also inside functions."""
    found = set()
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] == "diffusion_ood":
            place = PACKAGE.joinpath(*parts[1:])
            for module in (place, place.parent):  # the last part may be a name in a module
                files = {module.with_suffix(".py"), module / "__init__.py"}
                found |= files & TREES.keys() - {PACKAGE / "__init__.py"}
    return found


@pytest.mark.parametrize("path", TREES, ids=short)
def test_a_module_imports_no_later_stage(path: Path) -> None:
    part = part_of(path)
    assert part in PARTS, f"{part} is not a stage; say here where it belongs"
    if part in STAGES:
        allowed = {*GROUND, *STAGES[: STAGES.index(part) + 1]}
    else:
        allowed = {**FACE, **GROUND, **PROGRAMS}[part]
    assert imported_parts(TREES[path]) <= allowed


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {path: imported_modules(tree) for path, tree in TREES.items()}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" ← ".join(map(short, error.args[1])))


@pytest.mark.parametrize("path", TREES, ids=short)
def test_programs_alone_know_of_command_lines_and_flags(path: Path) -> None:
    if part_of(path) in PROGRAMS:
        return
    text = path.read_text()
    assert "CommandLine" not in text
    flags = {f"--{prefix}{field}" for _, field in OPTIONS for prefix in ("", "no-")}
    assert flags.isdisjoint(re.findall(r"--[a-z][\w-]*", text))


@pytest.mark.parametrize("path", TREES, ids=short)
def test_calibration_detection_and_report_need_neither_torch_nor_monai(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(TREES[path])}
    if part_of(path) in ("calibration", "detection", "report") or path.name == "ood_detection.py":
        assert packages.isdisjoint({"torch", "torchvision", "monai", "generative", "lpips"})


def test_importing_the_detection_command_imports_no_torch() -> None:
    code = (
        "import sys, diffusion_ood.commands.ood_detection; "
        "print(sorted({'torch', 'monai', 'diffusion_ood'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "['diffusion_ood']\n"


def test_only_the_backend_imports_generative_networks() -> None:
    importers = {
        short(path)
        for path, tree in TREES.items()
        for name in imports(tree)
        if name.split(".")[0] == "generative" or name.startswith("monai.networks")
    }
    assert importers == {"networks/backend.py"}


@pytest.mark.parametrize("path", TREES, ids=short)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION} == {}


def test_the_package_is_no_longer_than_it_may_be() -> None:
    assert sum(len(path.read_text().splitlines()) for path in TREES) <= MAX_LINES


def test_scripts_are_thin() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("*.py")}
    assert {"train_ddpm.py", "reconstruct.py", "ood_detection.py"} <= lengths.keys()
    assert {name: n for name, n in lengths.items() if n > MAX_SCRIPT} == {}


@pytest.mark.parametrize(("cls", "field"), OPTIONS)
def test_every_option_is_read(cls: str, field: str) -> None:
    """By a module that names the class, a base or a subclass, or by a property of the class."""
    if field in REFUSED_EVERYWHERE:
        return
    known = getattr(options, cls)
    family = [kind.__name__ for kind in (*known.__mro__[:-1], *known.__subclasses__())]
    assert any(
        reads(tree, field)
        for path, tree in TREES.items()
        if part_of(path) != "options" and any(names(tree, name) for name in family)
    ) or any(reads(node, field, of_self=True) for node in properties(cls))


def reads(tree: ast.AST, field: str, *, of_self: bool = False) -> bool:
    """Whether `x.field` is read, for an x that is not `self` or, `of_self`, that is."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == field
        and isinstance(node.ctx, ast.Load)
        and (isinstance(node.value, ast.Name) and node.value.id == "self") is of_self
        for node in ast.walk(tree)
    )


def names(tree: ast.AST, cls: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == cls for node in ast.walk(tree))


def properties(cls: str) -> list[ast.FunctionDef]:
    """The properties of an options class that are read somewhere in the package."""
    (definition,) = (
        node
        for path, tree in TREES.items()
        if part_of(path) == "options"
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == cls
    )
    return [
        node
        for node in definition.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("__")
        and any(reads(tree, node.name) for tree in TREES.values())
    ]
