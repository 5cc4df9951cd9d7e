"""The console command: its commands are the scripts, quick to start, completed by the shell."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ood import __version__, cli, console
from diffusion_ood.errors import UserError

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "monai", "generative", "lpips"}


def start(*argv: str, code: str = "console.run()") -> subprocess.CompletedProcess[str]:
    """Run the console in a process of its own, as the installed command does."""
    setup = f"import sys; sys.argv = {['diffusion-ood', *argv]!r}; "
    return subprocess.run(
        [sys.executable, "-c", f"{setup}from diffusion_ood import console; {code}"],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_python_calls_it_as_a_module() -> None:
    command = [sys.executable, "-m", "diffusion_ood", "screen", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: diffusion-ood screen ")


def test_every_script_is_a_command_and_calls_the_same_module() -> None:
    scripts = {path.name for path in ROOT.glob("*.py")} | {"detect/ood_detect.py"}
    commands = [command for command in console.COMMANDS.values() if command.script]
    assert {command.script for command in commands} == scripts
    for command in commands:
        source = (ROOT / command.script).read_text()
        assert f"from diffusion_ood.commands.{command.module} import main" in source


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        console.main([])
    text = capsys.readouterr().out
    assert leaving.value.code == 0
    for name, command in console.COMMANDS.items():
        assert name in text
        assert command.summary in " ".join(text.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        console.main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"diffusion-ood {__version__}\n"


def test_an_unknown_command_is_a_mistake_that_lists_the_commands() -> None:
    with pytest.raises(UserError, match=r"'fly'.*data.*detect"):
        console.main(["fly"])


@pytest.mark.parametrize("name", console.COMMANDS)
def test_each_command_has_groups_of_flags_and_its_own_name(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/diffusion-ood", name, "--help"])
    with pytest.raises(SystemExit) as leaving:
        console.main()
    text = capsys.readouterr().out
    assert leaving.value.code == 0
    assert text.startswith(f"usage: diffusion-ood {name} ")
    for options in console._module(name).GROUPS:
        assert f"\n{options.__doc__.splitlines()[0].rstrip('.')}:\n" in text


def test_a_mistake_names_the_command_and_ends_with_2() -> None:
    found = start("detect", "--output_dri=x")
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert "diffusion-ood detect --help" in found.stderr
    assert "Traceback" not in found.stderr


def test_hints_speak_of_commands_to_who_uses_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/diffusion-ood", "data"])
    assert console.invocation("train") == "diffusion-ood train"
    monkeypatch.setattr(sys, "argv", ["get_datasets.py"])
    assert console.invocation("train") == "python train_ddpm.py"


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["detect", "--help"]])
def test_help_version_and_detection_import_no_torch(argv: list[str]) -> None:
    code = (
        "import atexit; "
        "atexit.register(lambda: print('imported:', *sorted(set(sys.modules)))); console.run()"
    )
    found = start(*argv, code=code)
    assert found.returncode == 0
    imported = found.stdout.splitlines()[-1].split()
    assert imported[0] == "imported:"
    assert "diffusion_ood" in imported
    assert HEAVY.isdisjoint(imported)


def test_importing_the_package_takes_at_most_300_ms() -> None:
    """The best of three, so that a busy machine does not fail it; 1 ms when this was written."""
    costs = []
    for _ in range(3):
        lines = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import diffusion_ood"],
            env={"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stderr.splitlines()
        _, cumulative, name = lines[-1].removeprefix("import time:").split("|")
        assert name.strip() == "diffusion_ood"
        costs.append(int(cumulative) / 1e6)
    assert min(costs) <= 0.3


@pytest.fixture(scope="module")
def bash_script() -> str:
    with contextlib.redirect_stdout(io.StringIO()) as written:
        console.main(["completion", "bash"])
    return written.getvalue()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rec"], {"reconstruct"}),
        (["train"], {"train", "train-classifier", "train-vqvae"}),
        (["detect", "--output_"], {"--output_dir"}),
        (["train", "--beta_sch"], {"--beta_schedule"}),
        (["train", "--lr_schedule", "co"], {"constant", "cosine"}),
        (["reconstruct", "--no-run_v"], {"--no-run_val"}),
    ],
)
def test_bash_completes_commands_flags_and_choices(
    words: list[str], expected: set[str], bash_script: str
) -> None:
    line = " ".join(words)
    code = (
        f"{bash_script}\nCOMP_WORDS=(diffusion-ood {line}); COMP_CWORD={len(words)}; "
        '_shtab_diffusion_ood diffusion-ood; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == expected


def test_paths_are_completed_as_files(bash_script: str) -> None:
    assert "_shtab_diffusion_ood_train___training_ids_COMPGEN=_shtab_compgen_files" in bash_script


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.main(["completion", shell])
    assert "reconstruct" in capsys.readouterr().out


def test_the_console_is_what_pyproject_installs() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'{cli.CONSOLE} = "diffusion_ood.console:run"' in text
