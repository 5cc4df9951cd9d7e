"""From Matplotlib's SVG files to parts of a page: colours of the page, names of its own, small."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

# Colours that stand for the page's, which change with its colour scheme.
COLOURS = {
    "ink": "#010101",
    "muted": "#010102",
    "grid": "#010103",
    "in": "#010104",
    "out": "#010105",
}

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"


def inline(text: str, prefix: str) -> str:
    """An SVG element to be written into a page.

    Args:
        text: an SVG file by Matplotlib in `COLOURS`.
        prefix: tells the figure's names from those of others on the page.
    """
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata":
                parent.remove(child)
    _own_names(root, "f" + hashlib.sha256(prefix.encode()).hexdigest()[:8])
    _share_styles(root)
    for key in ("width", "height"):  # the page says how large; viewBox keeps the proportions
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")  # its place on the page has the description
    root.set("focusable", "false")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    page = ElementTree.tostring(root, encoding="unicode")
    for name, colour in COLOURS.items():
        page = page.replace(colour, f"var(--{name})")
    return re.sub(r"\s*\n\s*", " ", page)


def _own_names(root: ElementTree.Element, prefix: str) -> None:
    """Drop ids that nothing refers to, and tell the others from those of other figures."""
    used = set(re.findall(r"#([\w-]+)", " ".join(_values(root))))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", prefix + str(name))
        for key, value in element.attrib.items():
            if key == _HREF:
                element.set(key, "#" + prefix + value.removeprefix("#"))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{prefix}"))


def _values(root: ElementTree.Element) -> list[str]:
    return [
        value
        for element in root.iter()
        for key, value in element.attrib.items()
        if key == _HREF or "url(#" in value
    ]


def _share_styles(root: ElementTree.Element) -> None:
    """Say once for a group what all its members say, which is most of the size of many points."""
    for group in root.iter(f"{{{_SVG}}}g"):
        styles = {child.get("style") for child in group}
        style = styles.pop() if len(styles) == 1 else None
        if len(group) > 1 and style is not None and group.get("style") is None:
            group.set("style", style)
            for child in group:
                del child.attrib["style"]
