"""The report in a real browser: complete, quiet, offline, and usable by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(finished_run: Path) -> str:
    return (finished_run / "ood" / "report.html").as_uri()


@pytest.fixture
def page(browser, report: str) -> Iterator:
    """The report, opened; no console message and no request may come from it."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report)
    yield opened
    opened.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report]


def test_every_figure_and_picture_is_visible(page) -> None:
    drawings = page.locator("figure svg")
    assert drawings.count() >= 3
    for k in range(drawings.count()):
        box = drawings.nth(k).bounding_box()
        assert box["width"] > 200
        assert box["height"] > 60
        assert drawings.nth(k).locator("path").count() > 5
    sizes = page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.naturalHeight])")
    assert len(sizes) >= 2 * 5 * 2
    assert all(size == [8, 8] for size in sizes)


def column(page, table: str, number: int) -> list[str]:
    rows = page.locator(f"#{table} tbody tr:visible")
    return [rows.nth(k).locator("th, td").nth(number).inner_text() for k in range(rows.count())]


def test_tables_are_sorted_by_keyboard_and_say_so(page) -> None:
    before = column(page, "in-images", 7)  # after the image and 5 levels: why, then the score
    head = page.locator("#in-images thead th").nth(6)
    assert head.inner_text().strip().startswith("score")
    head.locator("button").focus()
    orders = []
    for _ in range(3):
        page.keyboard.press("Enter")
        orders.append((head.get_attribute("aria-sort"), column(page, "in-images", 6)))
    (rising, up), (falling, down), (none, _) = orders
    assert (rising, falling, none) == ("ascending", "descending", "none")
    assert [float(value) for value in up] == sorted(float(value) for value in up)
    assert down == up[::-1]
    assert column(page, "in-images", 7) == before


def test_tables_are_filtered_by_keyboard_and_say_how_many_rows_are_left(page) -> None:
    all_rows = len(column(page, "metrics-table", 0))
    page.locator("#metrics-table-filter").focus()
    page.keyboard.type("B mse")
    assert len(column(page, "metrics-table", 0)) == 1
    assert page.locator("#metrics-table-status").inner_text() == f"1 of {all_rows} rows"
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert len(column(page, "metrics-table", 0)) == all_rows


def test_the_keyboard_reaches_everything_and_the_focus_is_seen(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    page.locator("#metrics-table-filter").focus()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"BUTTON", "DIV", "A"} <= reached


CONTRAST = """
(selector) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
    behind = behind.parentElement;
  }
  const style = getComputedStyle(element);
  const ink = element instanceof SVGElement ? style.fill : style.color;
  const a = light(ink), b = light(getComputedStyle(behind).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
"""


@pytest.mark.parametrize(("scheme", "page_is_light"), [("light", True), ("dark", False)])
def test_both_colour_schemes_can_be_read(page, scheme: str, page_is_light: bool) -> None:
    page.emulate_media(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == page_is_light
    for selector in ("h1", ".note", "figcaption", "nav a", ".interval", "figure svg text"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_fits_its_window(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_print_has_no_controls_and_dark_ink(page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".filter").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert len(page.pdf()) > 20_000
