"""The service's page in a real browser: drop images, read what is said of them, by any means."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_detector import FakeDetector
from PIL import Image

pytest.importorskip("fastapi")

from diffusion_ood.options import ServeOptions

pytestmark = pytest.mark.browser

TOKEN = b"0123456789abcdef"
HOSTILE = "<img src=x onerror=alert(1)>.png"


def png(value: int, sides: tuple[int, int] = (8, 8)) -> bytes:
    pixels = np.full(sides, value, np.uint8)
    pixels[2, 2] = 255 - value
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def dropped(name: str, content: bytes, kind: str = "image/png") -> dict[str, object]:
    return {"name": name, "mimeType": kind, "buffer": content}


BELONGS, UNUSUAL = dropped("dark.png", png(20)), dropped("bright.png", png(240))
TORN, NAMED = dropped("torn.png", b"torn"), dropped(HOSTILE, png(30))


def served(folder: Path, token: bytes | None) -> Iterator[str]:
    """The address of a service in a thread."""
    from running import running

    from diffusion_ood.serving.app import create_app
    from diffusion_ood.serving.server import listen

    app = create_app(FakeDetector(), ServeOptions(folder, max_files=2, max_queue=8), token)
    with listen("127.0.0.1", 0) as listener, running(app, listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(tmp_path_factory.mktemp("served"), None)


@pytest.fixture(scope="module")
def locked_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(tmp_path_factory.mktemp("locked"), TOKEN)


@pytest.fixture
def page(browser, address: str) -> Iterator:
    """The page, opened; nothing but the service may be asked, and nothing complained of."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    opened.locator("#validation").wait_for()
    yield opened
    opened.close()
    assert said == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def give(page, *files: dict[str, object]) -> None:
    """Choose files and wait until all are answered."""
    page.locator("#files").set_input_files(list(files))
    page.wait_for_function(
        "(n) => document.getElementById('status').textContent.startsWith(`${n} images:`)",
        arg=len(files),
    )


def numbers(page) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", page.locator("#status").inner_text())]


def test_every_image_has_its_row_its_map_and_its_mark(page) -> None:
    give(page, BELONGS, UNUSUAL)
    rows = page.locator("#rows tr")
    assert rows.count() == 2
    cells = {
        rows.nth(k).locator("th").inner_text(): rows.nth(k).locator("td").all_inner_texts()
        for k in range(2)
    }
    assert set(cells) == {"dark.png", "bright.png"}
    assert float(cells["bright.png"][3]) > float(cells["dark.png"][3])
    assert float(cells["bright.png"][4]) == pytest.approx(0.01)
    assert cells["dark.png"][5] == "brightness"
    assert cells["dark.png"][2] != cells["bright.png"][2]
    page.wait_for_function("[...document.images].every((i) => i.complete)")
    sizes = page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[8, 8]] * 4
    assert page.locator("#histogram .mark").count() == 2
    assert page.locator("#histogram .mark.ood").count() == 1
    assert numbers(page) == [2, 1, 1, 0]


def test_the_validation_scores_are_drawn(page) -> None:
    assert page.locator("#histogram .bar").count() == 40
    assert page.locator("#histogram .threshold").count() == 1
    assert page.locator("#histogram").bounding_box()["width"] > 300
    assert "99" in page.locator("#caption").inner_text()


def test_what_cannot_be_read_is_said_beside_the_others(page) -> None:
    give(page, BELONGS, TORN, UNUSUAL)  # more than a request may have
    assert page.locator("#rows tr").count() == 3
    assert page.locator("#rows .mistake").count() == 1
    assert "torn.png" in page.locator("#rows .mistake").inner_text()
    assert numbers(page) == [3, 1, 1, 1]


def test_a_refused_request_is_said_at_each_file(browser, address: str) -> None:
    opened = browser.new_page()  # of which Chromium itself notes that a request was refused
    opened.route("**/v1/score*", lambda route: route.fulfill(status=503, json={"detail": "wait"}))
    opened.goto(address)
    opened.locator("#validation").wait_for()
    give(opened, BELONGS, NAMED)
    assert opened.locator("#rows .mistake").all_inner_texts() == ["wait", "wait"]
    assert numbers(opened) == [2, 0, 0, 2]
    opened.close()


def test_a_name_is_shown_as_text(page) -> None:
    give(page, NAMED)
    assert page.locator("#rows th").inner_text() == HOSTILE
    assert page.locator("#rows img[src=x]").count() == 0


def test_images_can_be_dropped(page) -> None:
    page.evaluate(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
          for (const kind of ["dragover", "drop"]) {
            document.getElementById("drop").dispatchEvent(
              new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
          }
        }""",
        list(png(240)),
    )
    page.locator("#rows tr").wait_for()
    assert page.locator("#rows th").inner_text() == "dropped.png"


def test_the_page_works_by_keyboard(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    label = "getComputedStyle(document.activeElement.parentElement)"
    assert page.evaluate(f"{label}.outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.evaluate("0")  # by its answer, Playwright's order to catch the chooser has arrived too
        page.keyboard.press("Space")
    chooser.value.set_files([BELONGS])
    page.locator("#rows tr").wait_for()


def test_a_screen_reader_hears_what_happens(page) -> None:
    status = page.locator("#status")
    assert status.get_attribute("aria-live") == "polite"
    assert page.get_by_role("button", name="choose files").get_attribute("id") == "files"
    give(page, UNUSUAL)
    assert status.inner_text()
    assert page.get_by_role("img", name="validation").count() == 1
    assert page.get_by_role("row").count() == 2
    assert page.get_by_role("rowheader", name="bright.png").count() == 1
    assert page.locator("#rows td:nth-child(2) img").get_attribute("alt")


@pytest.mark.parametrize("key", [TOKEN.decode(), "another secret"])
def test_a_service_with_a_token_asks_for_it(browser, locked_address: str, key: str) -> None:
    opened = browser.new_page()
    opened.goto(locked_address)
    field = opened.get_by_label("Token of this service")
    field.wait_for()
    assert not opened.locator("#validation").is_visible()
    with opened.expect_response("**/v1/detector") as answer:
        field.fill(key)
        field.press("Enter")
    assert answer.value.ok == (key == TOKEN.decode())
    if answer.value.ok:
        opened.locator("#validation").wait_for()
        assert not field.is_visible()
        give(opened, BELONGS)
    assert field.input_value() == key
    opened.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_fits_its_window(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    give(page, BELONGS, TORN)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


CONTRAST = """
(selector) => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const element = document.querySelector(selector);
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
    behind = behind.parentElement;
  }
  const ink = element instanceof SVGElement
    ? getComputedStyle(element).fill : getComputedStyle(element).color;
  const a = light(ink), b = light(getComputedStyle(behind).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
"""


@pytest.mark.parametrize(("scheme", "page_is_light"), [("light", True), ("dark", False)])
def test_both_colour_schemes_can_be_read(page, scheme: str, page_is_light: bool) -> None:
    page.emulate_media(color_scheme=scheme)
    give(page, BELONGS, TORN, UNUSUAL)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == page_is_light
    for selector in ("h1", ".note", "figcaption", ".button", ".verdict", ".mistake", "svg text"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    for selector in (".bar", ".mark", ".mark.ood"):
        assert page.evaluate(CONTRAST, f"svg {selector}") >= 3, selector
