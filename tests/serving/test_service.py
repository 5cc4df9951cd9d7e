"""The service's answers: scores of files in order, maps, what the detector is, metrics, limits."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from .conftest import png


def post(client, *contents: bytes, names: tuple[str, ...] = (), **query):
    names = names or tuple(f"{k}.png" for k in range(len(contents)))
    files = [("files", pair) for pair in zip(names, contents, strict=True)]
    return client.post("/v1/score", files=files, params=query)


def test_files_are_answered_in_order_as_the_detector_scores_them(client, detector) -> None:
    values = [10, 200, 60, 255, 0]
    answer = post(client, *map(png, values))
    assert answer.status_code == 200
    found = answer.json()["files"]
    alone = [detector.measure(torch.full((1, 1, 8, 8), value / 255)) for value in values]
    assert [file["name"] for file in found] == [f"{k}.png" for k in range(5)]
    for file, right in zip(found, alone, strict=True):
        assert file["score"] == pytest.approx(right.score[0], abs=1e-6)
        assert (file["p_value"], file["is_ood"]) == (right.p_value[0], right.is_ood[0])
        assert file["loudest"] == "brightness"
        assert file["milliseconds"] > 0
        assert "map" not in file
        assert "error" not in file


def test_a_file_that_cannot_be_read_is_named_among_others(client) -> None:
    found = post(client, png(9), b"torn", png(5, (9, 8)), png(0)).json()["files"]
    assert ["score" in file for file in found] == [True, False, False, True]
    assert found[1]["error"].startswith("1.png: ")
    assert re.search("9 x 8 .*8 x 8", found[2]["error"])


def test_arrays_are_images_too(client) -> None:
    file = io.BytesIO()
    np.save(file, np.full((8, 8), 0.25, np.float32))
    (found,) = post(client, file.getvalue(), names=("a.npy",)).json()["files"]
    assert found["score"] == pytest.approx(0.25)


def test_a_map_is_a_picture_of_where(client, detector) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2, 5] = 51  # as far as the map's colours reach
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (found,) = post(client, file.getvalue(), maps=1).json()["files"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["map"]))))
    assert picture.shape == (8, 8, 3)
    assert picture[2, 5].max() > 150
    assert not picture[pixels == 0].any()


def test_a_detector_without_maps_gives_none(connect, detector, monkeypatch) -> None:
    monkeypatch.setattr(detector, "map_limit", None)
    (found,) = post(connect(), png(9), maps=1).json()["files"]
    assert "map" not in found
    assert found["score"] == pytest.approx(9 / 255)


def test_what_the_detector_is_can_be_asked(client, detector) -> None:
    found = client.get("/v1/detector").json()
    assert found["image_shape"] == [1, 8, 8]
    assert found["target_fpr"] == 0.05
    assert found["threshold"] == pytest.approx(detector.val_scores[-5])
    assert sum(found["validation"]["counts"]) == 99
    assert len(found["validation"]["edges"]) == len(found["validation"]["counts"]) + 1
    assert found["summary"] == detector.summary()


def test_health_says_whether_images_are_still_measured(client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_metrics_count_what_was_answered(client) -> None:
    post(client, png(0), png(255), b"torn")
    post(client, b"torn")
    text = client.get("/metrics").text
    for line in (
        "diffusion_ood_images_total 2.0",
        "diffusion_ood_ood_total 1.0",
        "diffusion_ood_unreadable_total 2.0",
        'diffusion_ood_requests_total{code="200"} 1.0',
        'diffusion_ood_requests_total{code="422"} 1.0',
        "diffusion_ood_score_seconds_count 2.0",
        "diffusion_ood_batch_size_sum 2.0",
        "diffusion_ood_queue_length 0.0",
    ):
        assert line in text.splitlines()


def test_openapi_describes_every_address(client) -> None:
    found = client.get("/openapi.json").json()
    assert set(found["paths"]) == {"/v1/score", "/v1/detector", "/healthz", "/metrics"}
    body = found["paths"]["/v1/score"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["required"] == ["files"]
    assert client.get("/docs").status_code == 404


def test_the_page_may_ask_nobody_else(client) -> None:
    for address in ("/", "/page.css", "/page.js"):
        answer = client.get(address)
        assert answer.status_code == 200
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text


def test_requests_that_arrive_together_share_calls(client, detector) -> None:
    detector.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(post, client, png(value)) for value in range(16)]
        time.sleep(0.5)
        detector.gate.set()
        found = [answer.result().json()["files"][0]["score"] for answer in answers]
    assert found == pytest.approx([value / 255 for value in range(16)], abs=1e-6)
    assert sum(detector.batches) == 16
    assert len(detector.batches) <= 3


def test_requests_beyond_the_queue_are_told_when_to_come_again(connect, detector) -> None:
    client = connect(max_queue=2, max_files=2)
    detector.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, png(1), png(2))
        time.sleep(0.3)
        refused = post(client, png(3))
        detector.gate.set()
        assert first.result().status_code == 200
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert post(client, png(3)).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(connect, detector) -> None:
    client = connect(timeout_s=0.3)
    detector.gate.clear()
    assert post(client, png(1)).status_code == 504
    assert post(client, png(2), png(3)).status_code == 504
    detector.gate.set()
    assert post(client, png(4)).status_code == 200
    assert sum(detector.batches) == 2  # those that were given up in the queue cost nothing


def test_a_fault_of_one_image_is_not_that_of_others(client, detector) -> None:
    detector.failures = [RuntimeError("the batch")]
    answer = post(client, png(1), png(2))
    assert [file["score"] for file in answer.json()["files"]] == pytest.approx([1 / 255, 2 / 255])
    detector.failures = [RuntimeError("this image")]
    answer = post(client, png(1))
    assert answer.status_code == 500
    assert set(answer.json()) == {"detail"}
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert post(client, png(1)).status_code == 200
    assert 'requests_total{code="500"} 1.0' in client.get("/metrics").text


def test_a_token_is_needed_for_scores_alone(connect) -> None:
    client = connect(b"0123456789abcdef")
    assert post(client, png(1)).status_code == 401
    assert client.get("/metrics").status_code == 401
    answer = client.get("/v1/detector")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for open_to_all in ("/", "/page.js", "/healthz"):
        assert client.get(open_to_all).status_code == 200
    for wrong in ("Bearer x", "Basic 0123456789abcdef", "Bearer", "Bearer 0123456789abcdefg", "é"):
        header = {"Authorization": wrong.encode("latin-1")}
        assert client.get("/v1/detector", headers=header).status_code == 401
    client.headers["Authorization"] = "bearer 0123456789abcdef"
    assert post(client, png(1)).status_code == 200


def test_no_file_is_written(client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a file is written")

    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert len(file.getvalue()) > 2_000_000
    found = post(client, file.getvalue(), png(1)).json()["files"]
    assert "1500 x 1500" in found[0]["error"]


def test_the_loop_answers_while_images_are_decoded(connect, detector, monkeypatch) -> None:
    from diffusion_ood.data import inputs

    client, went_on = connect(), threading.Event()
    before = inputs.read_image_bytes

    def slow(*arguments: object):
        assert went_on.wait(10)
        return before(*arguments)

    monkeypatch.setattr(inputs, "read_image_bytes", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, client, png(1))
        time.sleep(0.1)
        assert client.get("/healthz").status_code == 200
        went_on.set()
        assert answer.result().status_code == 200
