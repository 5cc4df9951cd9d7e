"""Command lines: how the text of every kind of flag is read, and how mistakes end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from diffusion_ood import cli
from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import option


@dataclass(frozen=True)
class Options:
    """One option of every kind."""

    folder: Path = option("a path")
    on: bool = option("100 % on", default=True)
    off: bool = option("off", default=False)
    count: int = option("a number", default=3)
    share: float = option("a share", default=0.5)
    limit: int | None = option("a number or None", default=None)
    sides: tuple[int, ...] | None = option("numbers", default=None)
    files: tuple[Path, ...] = option("paths", default=())
    names: tuple[str, ...] = option("names", default=("a", "b"))
    mode: Literal["fast", "slow"] = option("one of two", default="fast")


@dataclass(frozen=True)
class Others:
    """Another group."""

    seed: int = option("a seed", default=2)


def parse(*argv: str) -> Options:
    return cli.parse("", [Options, Others], ["--folder=data", *argv])[Options]


def raising(error: Exception) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize("field", ["on", "off"])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("--{}", True),
        ("--no-{}", False),
        ("--{}=1", True),
        ("--{}=0", False),
        ("--{}=True", True),
        ("--{}=False", False),
        ("--{}=true", True),
        ("--{} 1", True),
        ("--{} 0", False),
        ("--{} False", False),
    ],
)
def test_a_boolean_takes_every_usual_form(field: str, form: str, expected: bool) -> None:
    assert getattr(parse(*form.format(field).split()), field) is expected


@pytest.mark.parametrize("argv", [["--off=maybe"], ["--off=2"], ["--off="], ["--no-off=1"]])
def test_a_boolean_refuses_other_values(argv: list[str]) -> None:
    with pytest.raises(UserError, match=r"--(no-)?off"):
        parse(*argv)


def test_without_flags_the_defaults_stand() -> None:
    assert parse() == Options(folder=Path("data"))


def test_values_have_the_types_of_their_fields() -> None:
    found = parse("--count=7", "--share", "1e-3", "--mode=slow", "--limit=5", "--files=a.csv,b.csv")
    assert found == Options(
        Path("data"),
        count=7,
        share=1e-3,
        mode="slow",
        limit=5,
        files=(Path("a.csv"), Path("b.csv")),
    )


@pytest.mark.parametrize("text", ["160,-1", "(160,-1)", "[160, -1]", "( 160 , -1 )", "160,-1,"])
def test_a_tuple_takes_brackets_or_none(text: str) -> None:
    assert parse(f"--sides={text}").sides == (160, -1)


def test_brackets_in_the_names_of_files_stay() -> None:
    assert parse("--files=(a).csv,[b].csv").files == (Path("(a).csv"), Path("[b].csv"))
    assert parse("--names=(a)").names == ("(a)",)


def test_none_is_a_value_where_the_type_allows_it_alone() -> None:
    found = parse("--limit=None", "--sides=None", "--names=None")
    assert (found.limit, found.sides, found.names) == (None, None, ("None",))
    with pytest.raises(UserError, match="--count"):
        parse("--count=None")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--cout=3"], "--cout"),
        (["--coun=3"], "--coun"),  # no abbreviations
        (["--count=many"], "--count.*int.*many"),
        (["--sides=a,b"], "--sides.*int list"),
        (["--mode=medium"], "--mode.*medium"),
        (["--seed=x"], "--seed"),
        (["--count"], "--count"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_command_line_is_a_mistake_that_names_the_flag(argv: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse(*argv)


def test_a_missing_required_flag_is_named() -> None:
    with pytest.raises(UserError, match="--folder"):
        cli.parse("", [Options], [])


def test_given_holds_what_the_user_wrote_even_where_it_is_the_default() -> None:
    line = cli.parse("", [Options, Others], ["--folder=x", "--count=3", "--no-off"])
    assert line.given == {"folder", "count", "off"}
    assert line[Others] == Others(seed=2)


def test_help_says_each_option_its_default_and_leaves_with_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.parse("What it does.", [Options], ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert leaving.value.code == 0
    assert "What it does." in text
    assert "One option of every kind:" in text
    for part in ("100 % on (default: 1)", "off (default: 0)", "names (default: a,b)", "--no-on"):
        assert part in text


def test_run_turns_a_mistake_into_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.run(raising(UserError("a.csv, row 3: found x, expected y")))
    assert leaving.value.code == 2
    assert capsys.readouterr() == ("", "error: a.csv, row 3: found x, expected y\n")


def test_run_leaves_a_defect_of_the_program_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()))
