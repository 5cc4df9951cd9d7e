"""Downloads by torchvision, which checks the MD5 of what it got."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffusion_ood.data.sources.base import Place, missing


def download(place: Place, url: str, filename: str, md5: str, wanted: Sequence[str]) -> None:
    """Download one file into the data set's raw folder, unless it is there already.

    Args:
        place: of the data set.
        url: where the file is published.
        filename: its name in the raw folder.
        md5: of the file as it is published.
        wanted: the raw files to name in the error, should it fail.

    Raises:
        UserError: it cannot be had.
    """

    def fetch() -> None:
        from torchvision.datasets.utils import download_url

        download_url(url, place.raw_dir, filename, md5)

    attempt(place, filename, wanted, fetch)


def attempt(place: Place, filename: str, wanted: Sequence[str], fetch: Callable[[], None]) -> None:
    """Call `fetch`, unless downloads are excluded; whatever it raises becomes one sentence."""
    if place.source_dir is not None:
        raise missing(place, wanted, f"not all of its files are in {place.source_dir}")
    if not place.download:
        raise missing(place, wanted, f"not all of its files are in {place.raw_dir}")
    try:
        fetch()
    except Exception as error:  # the network and the servers fail in many ways
        # the reason's first line: some libraries add a page of advice
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise missing(place, wanted, f"{filename} cannot be downloaded ({reason})") from error
