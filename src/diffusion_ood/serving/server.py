"""The process that listens: from the socket to a stop that loses nothing that was accepted."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from diffusion_ood.errors import UserError
from diffusion_ood.options import ServeOptions

BACKLOG = 1024
LAST_ANSWERS_S = 5  # beyond the time that a request may take to arrive and to be answered


class Server(uvicorn.Server):
    """A server for which a signal to stop is no failure: the process ends with code 0."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer what was accepted and end; Ctrl-C twice ends at once."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: no such address, or a port that is not free.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"`host`, `port`: {host}, {port}: cannot listen there ({reason}), expected a free port "
            "of this machine's"
        ) from None


def serve(app: FastAPI, listener: socket.socket, options: ServeOptions) -> None:
    """Answer until a signal; then answer what was accepted."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {options.detector} at http://{shown}:{port}", flush=True)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # names and addresses are the client's own
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=int(2 * options.timeout_s) + LAST_ANSWERS_S,
    )
    Server(config).run(sockets=[listener])
    print(f"stopped; answered {app.state.metrics.answers} requests", flush=True)
