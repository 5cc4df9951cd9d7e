"""The service around a fitted detector: its scores, whatever else arrives, and its maps."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.detector import Detector
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions

IMAGES = np.random.default_rng(0).random((40, 8, 8), np.float32)
NEW = np.random.default_rng(1).random((11, 8, 8), np.float32) ** 2


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    diffusion = Diffusion.load(trained / "checkpoint.pth")
    options = ReconstructOptions(methods=("denoising",), budget=2)
    return Detector.fit(diffusion, IMAGES, options=options, target_fpr=0.2, device="cpu")


def npy(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


def ask(client, *images: np.ndarray, maps: int = 0):
    files = [("files", (f"{k}.npy", npy(image))) for k, image in enumerate(images)]
    return client.post("/v1/score", files=files, params={"maps": maps}).json()["files"]


@pytest.mark.parametrize("sizes", [[11], [1] * 11, [4, 3, 2, 1, 1]])
def test_answers_are_those_of_one_image_at_a_time(connect, detector, sizes: list[int]) -> None:
    client = connect()
    parts = np.split(NEW, np.cumsum(sizes)[:-1])
    with ThreadPoolExecutor(len(parts)) as pool:
        found = [file for part in pool.map(lambda p: ask(client, *p), parts) for file in part]
    for file, image in zip(found, NEW, strict=True):
        right = detector.score(image[None])
        assert file["score"] == pytest.approx(right.score[0], abs=1e-6)
        assert file["p_value"] == right.p_value[0]
        assert file["is_ood"] == right.is_ood[0]
        assert file["loudest"] == right.loudest[0]


def test_a_map_lies_over_the_image(connect, detector) -> None:
    (plain,), (file,) = ask(connect(), NEW[0]), ask(connect(), NEW[0], maps=1)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(file["map"]))))
    assert picture.shape == (8, 8, 3)
    assert file["score"] == pytest.approx(plain["score"], abs=1e-6)


def test_the_summary_can_be_asked(connect, detector) -> None:
    about = connect().get("/v1/detector").json()
    assert about["summary"]["methods"] == ["denoising"]
    assert about["threshold"] == pytest.approx(detector.summary()["threshold"])
    assert sum(about["validation"]["counts"]) == len(IMAGES)
