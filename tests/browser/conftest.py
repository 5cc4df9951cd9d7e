"""A headless Chromium, and a run that was trained, scored and assessed by the real commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARIES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The browser to test with: `CHROMIUM`, or the one that is installed."""
    found = (shutil.which(name) for name in BINARIES)
    return os.environ.get("CHROMIUM") or next((path for path in found if path), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A browser of Playwright's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = chromium()
    if binary is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BINARIES)}, see CONTRIBUTING.md")
    # Chromium's sandbox does not start as root, as in a container; the pages are our own.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=binary, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def finished_run(trained: Path, score_flags, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with everything in it; not to be changed."""
    from diffusion_ood.commands import ood_detection, reconstruct
    from diffusion_ood.methods.scores import chosen

    run_dir = tmp_path_factory.mktemp("finished") / "A"
    shutil.copytree(trained, run_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen, "find_alexnet_features", lambda path=None: None)
        reconstruct.main([*score_flags(run_dir), "--report_images=2"])
    ood_detection.main([f"--output_dir={run_dir.parent}", "--model_name=A", "--target_fpr=0.3"])
    return run_dir
