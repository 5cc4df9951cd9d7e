"""Whether screening compiles the network, and how many images it asks about at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffusion_ood import Detector
from diffusion_ood.commands import screen
from diffusion_ood.detector import detector as detectors
from diffusion_ood.errors import UserError
from diffusion_ood.runtime import compiling
from diffusion_ood.screening import run
from diffusion_ood.screening.inputs import gather


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is compiled, which stays as it is."""
    found: list[object] = []

    def stand_in(network: Callable[..., object], **_: object) -> Callable[..., object]:
        found.append(network)
        return network

    monkeypatch.setattr(torch, "compile", stand_in)
    monkeypatch.setattr(compiling, "compiler_is_there", lambda device: True)
    return found


@pytest.mark.parametrize(("flag", "expected"), [("off", 0), ("on", 2), ("auto", 0)])
def test_compile_is_off_unless_it_is_asked_for_or_repaid(
    flag: str,
    expected: int,
    compiled: list[object],
    detector_file: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    """The network, and the one that is observed; of so few images `auto` repays nothing."""
    output = tmp_path / "screening"
    words = [str(detector_file), str(folder), f"--output={output}", "--device=cpu"]
    screen.main([*words, f"--compile={flag}", "--report_images=0"])
    assert len(compiled) == expected


def test_auto_goes_by_the_images_that_are_to_come(
    compiled: list[object], detector_file: Path
) -> None:
    detector = Detector.load(detector_file, "cpu", compile="auto")
    detector.expect(10**9)
    for _ in range(4):
        detector.measure(torch.zeros(16, *detector.image_shape))
    assert compiled
    assert detector.decision()
    assert detector.decision() is None


def test_auto_is_refused_on_a_cluster(detector_file: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="`compile`"):
        screen.main([str(detector_file), str(folder), "--ray=auto", "--compile=auto"])


def test_a_gpu_is_asked_about_as_many_images_as_fill_its_calls(
    detector_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, asked = Detector.load(detector_file, "cpu"), gather([folder])
    expected = run.screen(detector, asked, None)
    assert detector.images_at_once == 1
    monkeypatch.setattr(Detector, "images_at_once", 30)
    sizes: list[int] = []
    found = run.screen(detector, asked, None, seen=lambda decisions: sizes.append(len(decisions)))
    assert sizes == [30, 15]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.file == theirs.file
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)


def test_four_full_calls_of_a_gpu(detector_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(detector_file, "cpu")
    evaluator = detector._evaluator
    monkeypatch.setattr(evaluator, "device", torch.device("cuda"))
    monkeypatch.setattr(evaluator, "max_batch", 2048)
    calls = detector.calls_per_image
    assert detector.images_at_once == detectors.FULL_CALLS * 2048 // calls
