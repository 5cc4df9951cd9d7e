"""The registries: every place holds what its kind is, and command lines offer these names."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import ChainMap
from pathlib import Path

import pytest
from gaussian import gaussian_diffusion

import diffusion_ood
from diffusion_ood import cli, options, registries
from diffusion_ood.data.faults.base import PairFault
from diffusion_ood.data.sources.base import Source
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.networks.autoencoder import KLSize, VQSize
from diffusion_ood.networks.unet import UNetSize
from diffusion_ood.options import (
    AutoencoderOptions,
    ClassifierOptions,
    DatasetOptions,
    DetectOptions,
    DiffusionOptions,
    ReconstructOptions,
)
from diffusion_ood.registries import (
    AUTOENCODERS,
    CLASSIFIERS,
    FAULTS,
    HEADS,
    METHODS,
    PUBLISHED,
    SAMPLERS,
    SCORES,
    SIZES,
    SOURCES,
    Registry,
)

CHOSEN_BY = [
    (METHODS, ReconstructOptions, "methods", True),
    (SCORES, ReconstructOptions, "scores", True),
    (SAMPLERS, ReconstructOptions, "sampler", False),
    (HEADS, DetectOptions, "heads", True),
    (PUBLISHED, DetectOptions, "heads", True),
    (SIZES, DiffusionOptions, "model_type", False),
    (AUTOENCODERS, AutoencoderOptions, "model_type", False),
    (CLASSIFIERS, ClassifierOptions, "classifier_type", False),
    (SOURCES, DatasetOptions, "datasets", True),
    (FAULTS, DatasetOptions, "corrupt", True),
]
REQUIRED = {DatasetOptions: ["--data_root=data"]}


def test_all_registries_are_tested_here() -> None:
    found = {name for name, value in vars(registries).items() if isinstance(value, Registry)}
    assert found == {
        *("METHODS", "SCORES", "HEADS", "PUBLISHED", "SAMPLERS", "SIZES", "CLASSIFIERS"),
        *("AUTOENCODERS", "SOURCES", "FAULTS"),
    }


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(KeyError, match=r"'foo'.*plms"):
        SAMPLERS["foo"]


@pytest.mark.parametrize(("asked", "repeats"), [(None, 4), (1, 1), (3, 3)])
def test_diffood_draws_as_often_as_it_is_asked_to(
    asked: int | None, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["diffood"], "__post_init__", lambda self: None)
    options = ReconstructOptions(repeats=asked, classifier_checkpoint=Path("c.pth"))
    assert METHODS["diffood"].from_options(options).repeats == repeats


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_methods(name: str) -> None:
    cls = METHODS[name]
    assert Method in cls.__mro__
    assert cls.name == name


@pytest.mark.parametrize("name", SCORES)
def test_scores_compare_pairs(name: str) -> None:
    assert issubclass(SCORES[name], PairScore)
    assert isinstance(SCORES[name].columns, property)


@pytest.mark.parametrize("name", HEADS)
def test_heads_fit_and_score(name: str) -> None:
    head = HEADS[name]()
    for method in ("fit", "score", "state_dict", "load_state_dict"):
        assert callable(getattr(head, method))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_detectors_make_heads_of_columns(name: str) -> None:
    detector = PUBLISHED[name]
    assert detector.found([column for own in detector.columns for column in own])
    assert not detector.found(["mse"])
    assert callable(detector().score)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_say_what_they_cost(name: str) -> None:
    sampler = SAMPLERS[name]
    assert isinstance(sampler.memory, int)
    assert isinstance(sampler.encodes, bool)
    assert sampler.calls(10) >= 10
    assert callable(sampler.step)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_sizes_of_the_u_net(name: str) -> None:
    size = SIZES[name]
    assert isinstance(size, UNetSize)
    assert len(size.channels) == len(size.attention_levels)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders_have_sizes(name: str) -> None:
    assert isinstance(AUTOENCODERS[name], VQSize | KLSize)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_four_stages(name: str) -> None:
    assert len(CLASSIFIERS[name]) == 4


@pytest.mark.parametrize("name", SOURCES)
def test_sources_are_data_sets(name: str) -> None:
    assert isinstance(SOURCES[name], Source)
    assert all(count > 0 for count in (SOURCES[name].counts or {}).values())


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_functions_or_take_another_image(name: str) -> None:
    assert isinstance(FAULTS[name], PairFault) or callable(FAULTS[name])


@pytest.mark.parametrize(("registry", "cls", "field", "several"), CHOSEN_BY)
def test_names_are_the_choices_of_the_command_line(
    registry: Registry,
    cls: type,
    field: str,
    several: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were added after the options were declared, too."""
    for name in registry:
        assert read(cls, field, name) == ((name,) if several else name)
    with pytest.raises(UserError, match=f"--{field}"):
        read(cls, field, "own")
    monkeypatch.setitem(registry.places, "own", "nowhere:NOTHING")
    assert read(cls, field, "own") == (("own",) if several else "own")


def read(cls: type, field: str, name: str) -> object:
    """What a command line with this flag says."""
    argv = [*REQUIRED.get(cls, ()), f"--{field}={name}"]
    return getattr(cli.parse("", [cls], argv)[cls], field)


def test_no_option_lists_names_of_a_registry_by_itself() -> None:
    """A choice that is written out would not know of what is added."""
    found = {
        (cls, field.name): field.metadata["choices"]
        for cls in set(filter(dataclasses.is_dataclass, vars(options).values()))
        for field in dataclasses.fields(cls)
        if field.metadata["choices"] is not None
    }
    for registry, cls, field, _ in CHOSEN_BY:
        choices = found[cls, field]
        parts = choices.maps if isinstance(choices, ChainMap) else [choices]
        assert any(part is registry for part in parts)
    registries_alone = [known for known in found.values() if not isinstance(known, ChainMap)]
    assert all(any(known is one for one, *_ in CHOSEN_BY) for known in registries_alone)


def test_what_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        SAMPLERS["nothing"]
    assert "nothing" not in SAMPLERS
    assert len(SAMPLERS) == len(list(SAMPLERS))


def test_what_is_there_is_known_without_an_import() -> None:
    assert "own" in Registry(own="no_such_module:MEMBER")


def test_a_model_of_an_added_size_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES.places, "own", f"{UNetSize.__module__}:TINY")
    assert gaussian_diffusion(model_type="own").activation_values == 32 * 64


def test_registries_import_nothing_heavy() -> None:
    code = (
        "import sys; from diffusion_ood import registries, options; "
        "print({'torch', 'monai', 'pandas', 'numpy', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(diffusion_ood.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "set()\n"
