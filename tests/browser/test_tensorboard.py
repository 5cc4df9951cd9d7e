"""TensorBoard on a finished run in a real browser: scalars, images, PR curves, AUROCs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE_S = 120


@pytest.fixture(scope="module")
def tensorboard(browser, finished_run: Path, tmp_path_factory) -> Iterator[str]:
    """The address of a server that shows the run."""
    log = tmp_path_factory.mktemp("tensorboard") / "log"
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={finished_run}", "--port=0"]
    with open(log, "w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"http://\S+:\d+/", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def page(browser, tensorboard: str) -> Iterator:
    """A page of the server's, which asks nobody else."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    opened.set_default_timeout(1000 * PATIENCE_S)
    asked = []
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith((tensorboard, "data:"))] == []


def test_the_losses_and_the_aurocs_are_scalars(page, tensorboard: str) -> None:
    page.goto(f"{tensorboard}#timeseries")
    for tag in ("auroc/mse/B", "loss"):
        page.get_by_text(tag, exact=True).first.wait_for(state="attached")
    card = page.locator("scalar-card").filter(has_text="auroc/mse/B")
    card.locator("line-chart").first.wait_for()
    assert card.locator("line-chart").first.bounding_box()["height"] > 50


def test_reconstructions_are_images(page, tensorboard: str) -> None:
    page.goto(f"{tensorboard}#images")
    page.get_by_text("images and reconstructions from t").first.wait_for()
    picture = page.locator("tf-image-loader img").first
    picture.wait_for()
    page.wait_for_function(
        "(image) => image.complete && image.naturalWidth > 0", arg=picture.element_handle()
    )
    width, height = picture.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert width == 5 * 65  # the image and its reconstructions from four levels
    assert height % 65 == 0


def test_pr_curves_are_drawn(page, tensorboard: str) -> None:
    page.goto(f"{tensorboard}#pr_curves")
    page.get_by_text("pr/mse", exact=True).first.wait_for()
    curve = page.locator("vz-line-chart2 path.line").first
    curve.wait_for(state="attached")
    assert len(curve.get_attribute("d")) > 500  # a point a threshold


def test_runs_can_be_compared_by_what_they_were_made_with(page, tensorboard: str) -> None:
    page.goto(f"{tensorboard}#hparams")
    pane = page.locator("tf-hparams-query-pane")
    pane.get_by_text("headline", exact=True).first.wait_for()
    pane.get_by_text("auroc/mse/B").first.wait_for(state="attached")
