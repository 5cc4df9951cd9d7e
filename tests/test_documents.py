"""Every command in a document is one that the programs take, and what it names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml
from documents import DOCUMENTS, ROOT, Line, lines

from diffusion_ood import cli
from diffusion_ood.console import COMMANDS, _parsers
from diffusion_ood.errors import UserError

LINES = lines()
SCRIPTS = {command.script: name for name, command in COMMANDS.items() if command.script}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, flags=re.MULTILINE))
LINKED = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")

# What the documents call beside our own programs, each looked at by a person.
OTHERS = {"tensorboard", "pip", "apt-get", "mkdir", "cp", "cd", "tar", "curl", "source", "git"}
OTHERS |= {"find", "ray"}
TORCHRUN_FLAGS = {
    "--nproc_per_node",
    "--nnodes",
    "--node_rank",
    "--rdzv_endpoint",
    "--rdzv_backend",
    "--rdzv_id",
    "--max_restarts",
}


@pytest.fixture(autouse=True)
def any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of a document need not exist here."""
    monkeypatch.setattr(cli, "_refuse_missing", lambda options: None)


def take(words: tuple[str, ...]) -> None:
    """Hand a command to what would run it, as far as that reads its words.

    Raises:
        AssertionError: it names something that does not exist.
        UserError: the program refuses its flags.
    """
    program, rest = words[0], words[1:]
    if program in ("python", "python3"):
        take_script(rest)
    elif program == "diffusion-ood":
        take_console(rest)
    elif program == "srun":
        take(rest)
    elif program == "torchrun":
        while rest[0].startswith("-"):
            flag, *value = rest[0].split("=")
            assert flag in TORCHRUN_FLAGS, f"{flag} is no known flag of torchrun"
            rest = rest[1:] if value else rest[2:]
        take_script(rest)
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        assert set(targets) <= TARGETS, f"no such target: {set(targets) - TARGETS}"
    elif program == "bash":
        assert list(ROOT.rglob(rest[0])), f"{rest[0]} does not exist"
    elif program in ("docker", "podman"):
        take_container(rest)
    else:
        assert program in OTHERS, f"{program} is neither ours nor listed above"


def take_script(words: tuple[str, ...]) -> None:
    assert (ROOT / words[0]).is_file(), f"{words[0]} does not exist"
    if words[0] in SCRIPTS:
        parse(SCRIPTS[words[0]], words[1:])


def take_console(words: tuple[str, ...]) -> None:
    if words[0] == "completion":
        _parsers()[0].parse_args([word for word in words[: words.index(">")]])
    elif words[0] not in ("--help", "--version"):
        assert words[0] in COMMANDS, f"diffusion-ood {words[0]} does not exist"
        parse(words[0], words[1:])


def take_container(words: tuple[str, ...]) -> None:
    if words[0] == "run":
        image = next(k for k, word in enumerate(words) if word.startswith("diffusion-ood:"))
        take(words[image + 1 :])
    elif words[0] == "compose":
        assert (ROOT / words[words.index("-f") + 1]).is_file()


def parse(command: str, words: tuple[str, ...]) -> None:
    if "--help" in words:
        return
    module = importlib.import_module(f"diffusion_ood.commands.{COMMANDS[command].module}")
    short = getattr(module, "SHORT", {})
    cli.parse("", module.GROUPS, [short.get(word, word) for word in words])


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_documented_command_is_taken(line: Line) -> None:
    take(line.words)


def test_the_documents_were_read() -> None:
    programs = [line.words[0] for line in LINES]
    assert programs.count("python") > 20
    assert {line.words[1] for line in LINES if line.words[0] == "python"} >= set(SCRIPTS)
    assert {"diffusion-ood", "make", "torchrun", "docker"} <= set(programs)


@pytest.mark.parametrize(
    "words",
    [
        "python train_ddpm.py --output_dir=a --model_nme=b",
        "python train.py",
        "diffusion-ood fly",
        "diffusion-ood detect --output_dir=a --model_name=b --target_fpr=many",
        "make supper",
        "torchrun --nprocs=2 train_ddpm.py",
        "bash create.sh",
        "rm -rf data",
    ],
)
def test_a_wrong_command_would_be_found(words: str) -> None:
    with pytest.raises((AssertionError, UserError)):
        take(tuple(words.split()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = [link for link in LINKED.findall(text) if not (path.parent / link).exists()]
    assert missing == []


def test_every_make_target_is_phony_and_explained() -> None:
    names = TARGETS - {"venv"} | {"venv"}
    phony = {
        name for line in re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.M) for name in line.split()
    }
    explained = set(re.findall(r"^([a-z][\w-]*):.*## \w", MAKEFILE, flags=re.MULTILINE))
    assert names == phony == explained


def test_the_compose_file_runs_commands_that_exist() -> None:
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    services = content["services"]
    assert set(services) == {"train", "tensorboard", "serve"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service["command"]]
        take(tuple(words))


def test_the_composed_service_reaches_nothing_and_writes_nothing() -> None:
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    service = content["services"]["serve"]
    assert service["user"].endswith("1000:1000}")
    assert service["security_opt"] == ["no-new-privileges"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    for network in service["networks"]:
        options = content["networks"][network]["driver_opts"]
        assert options == {"com.docker.network.bridge.enable_ip_masquerade": "false"}


def test_the_image_has_the_versions_that_are_tested() -> None:
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M))
    text = (ROOT / "docker" / "Dockerfile").read_text()
    found = dict(re.findall(r"^ARG (TORCH|TORCHVISION)_VERSION=(\S+)$", text, re.M))
    assert found == {"TORCH": pins["torch"], "TORCHVISION": pins["torchvision"]}


def test_the_citation_names_both_papers_and_the_version() -> None:
    from diffusion_ood import __version__

    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0"
    assert content["version"] == __version__
    assert [reference["year"] for reference in content["references"]] == [2023, 2022]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
