"""Options of the service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import MAX_BATCH, OptionGroup, option


@dataclass(frozen=True)
class ServeOptions(OptionGroup):
    """The service: where it listens, who may ask, and how much it takes at once."""

    detector: Path = option("file of diffusion-ood fit", exists=True, positional=True)
    device: str = option("auto, cpu, cuda, cuda:1, mps, …", "auto")
    host: str = option(
        "address to listen at; one that other machines reach needs `token_file`", "127.0.0.1"
    )
    port: int = option("port to listen at; 0 for one that is free", 8000, least=0, most=65_535)
    token_file: Path | None = option(
        "file of a secret of at least 16 characters; requests then need the header "
        "Authorization: Bearer SECRET",
        None,
        exists=True,
    )
    max_mb: float = option("megabytes of a request", 32.0, above=0, most=10_000)
    max_files: int = option("files of a request", 64, least=1, most=MAX_BATCH)
    max_pixels: int = option("pixels of an image", 16_000_000, least=1)
    max_queue: int = option("images that wait for an answer; more are told to come again", 256)
    timeout_s: float = option(
        "seconds in which a request has to arrive, and then to be answered", 60.0, above=0
    )
    shared_images: int = option(
        "images that share network calls, at most", 32, least=1, most=MAX_BATCH
    )
    gather_ms: float = option(
        "milliseconds that an image waits for others to share network calls with", 3.0, least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_queue < self.max_files:
            raise UserError(
                f"`max_queue`: found {self.max_queue}, expected at least `max_files`, "
                f"{self.max_files}"
            )
        if not self.is_local and self.token_file is None:
            raise UserError(
                f"`host` {self.host}: found no `token_file`, expected one where other machines can "
                "ask, since anyone who reaches the port could"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
