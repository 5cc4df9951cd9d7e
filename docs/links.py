"""Links of the pages that lie elsewhere in the repository lead to pages of the site.

Such a page is a symbolic link in `docs/`. Its own links are relative to where its text lies, so
that they lead somewhere on a repository's pages, too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)(?P<path>[^)#\s]+)")


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: Any) -> str:  # noqa: ANN401 - MkDocs passes more than is used
    """Replace the links of a page that is a symbolic link; MkDocs calls this for every page."""
    if page.file.abs_src_path is None or not Path(page.file.abs_src_path).is_symlink():
        return markdown
    folder = Path(page.file.abs_src_path).resolve().parent
    pages = {Path(file.abs_src_path).resolve(): file for file in files if file.abs_src_path}

    def on_the_site(found: re.Match[str]) -> str:
        target = pages.get((folder / found["path"]).resolve())
        start = posixpath.dirname(page.file.src_uri)
        return posixpath.relpath(target.src_uri, start or ".") if target else found["path"]

    return LINK.sub(on_the_site, markdown)
