"""Formulas become MathML while the site is built, so that a page needs no script to show them."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
# What latex2mathml writes, and what a browser needs to set it as TeX does.
CORRECTED = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",  # ∼ relates, and has space on both sides
    "<mo>&#x02016;</mo>": '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>',  # a norm's ‖
    "<mo>&#x0005E;</mo>": '<mo stretchy="false">&#x002C6;</mo>',  # the hat, no arrowhead
    "<mi>&#x02032;</mi>": '<mo lspace="0" rspace="0">&#x02032;</mo>',
    "<mo>&#x02205;</mo>": "<mi>&#x02205;</mi>",
    r"<mi>\arg</mi>": "<mi>arg</mi>",
}


def on_page_content(content: str, **_: Any) -> str:  # noqa: ANN401 - MkDocs passes more than is used
    """Put MathML where `$…$` and `$$…$$` were; MkDocs calls this for every page."""

    def mathml(found: re.Match[str]) -> str:
        display = "block" if found["tag"] == "div" else "inline"
        written = convert(html.unescape(found["tex"]).strip(), display=display)
        for wrong, right in CORRECTED.items():
            written = written.replace(wrong, right)
        if "\\" in written:
            raise PluginError(f"latex2mathml does not know a command of {found['tex']}")
        return f'<div class="formula">{written}</div>' if display == "block" else written

    return FORMULA.sub(mathml, content)
