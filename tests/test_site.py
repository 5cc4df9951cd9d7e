"""The documents' site: every link leads somewhere, and nothing is asked of a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from documents import ROOT

pytestmark = pytest.mark.slow  # the site takes about ten seconds to build

ATTRIBUTE = re.compile(r"<(\w+)\s[^>]*?\b(href|src)=\"?([^\s\">]+)", re.IGNORECASE)
IDENTIFIER = re.compile(r"\b(?:id|name)=\"?([^\s\">]+)")
OUTSIDE = re.compile(r"^(?:https?:)?//|^mailto:")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def pages(site: Path) -> dict[Path, str]:
    found = {path: path.read_text(encoding="utf-8") for path in site.rglob("index.html")}
    assert len(found) > 12
    return found


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    texts = pages(site)
    places = {page: set(IDENTIFIER.findall(text)) for page, text in texts.items()}
    broken = []
    for page, text in texts.items():
        for _, _, link in ATTRIBUTE.findall(text):
            if OUTSIDE.match(link):
                continue
            path, place = urldefrag(unquote(link))
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file()
            if there and place and target in places and not place.startswith("__"):
                there = place in places[target]
            broken += [] if there else [f"{page.relative_to(site)}: {link}"]
    assert broken == []


def test_a_page_needs_nothing_from_elsewhere(site: Path) -> None:
    for text in pages(site).values():
        for element, kind, link in ATTRIBUTE.findall(text):
            if kind == "src" or element == "link":
                assert not OUTSIDE.match(link), link
    assert not re.search(r"url\(\"?https?:|@import", (site / "site.css").read_text())


@pytest.mark.parametrize(
    ("page", "source", "sentence"),
    [
        ("", "README.md", "reads `ood/results_*.csv`"),
        ("additional", "README_additional.md", "has not been run on"),
        ("splits", "data_splits/README.md", "path"),
        ("contributing", "CONTRIBUTING.md", "every other target"),
    ],
)
def test_documents_that_lie_elsewhere_are_pages(
    site: Path, page: str, source: str, sentence: str
) -> None:
    text = re.sub(r"<[^>]+>", "", (site / page / "index.html").read_text())
    assert sentence in " ".join((ROOT / source).read_text().split())
    assert sentence.replace("`", "") in " ".join(text.split())


def test_formulas_are_mathml_in_a_font_that_comes_along(site: Path) -> None:
    text = (site / "methods" / "index.html").read_text()
    assert text.count("<math ") == len(
        re.findall(r"\$\$?[^$]+\$\$?", (ROOT / "docs/methods.md").read_text())
    )
    assert not re.search(r"<m[ion][^>]*>[^<]*\\", text)
    (font,) = re.findall(r"url\(\"(fonts/[^\"]+)\"\)", (site / "site.css").read_text())
    assert (site / font).read_bytes()[:4] == b"wOF2"
    assert "SIL OPEN FONT LICENSE" in (site / "fonts" / "OFL.txt").read_text()
