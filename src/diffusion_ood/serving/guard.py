"""What holds for every request before it is looked at, and for every answer, defects included."""

from __future__ import annotations

import hmac
import logging

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffusion_ood.serving.metrics import Metrics

LOG = logging.getLogger(__name__)
PROTECTED = ("/v1/", "/metrics")
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
ANSWER_HEADERS = {
    # The page loads its own style and script; images are those that were dropped, and maps.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses strangers, gives every answer its headers, and counts answers.

    Args:
        app: what answers.
        token: the secret that requests for scores and metrics need.
        local: whether the service listens on this machine alone. It then answers to the machine's
            own names alone: another site's page could reach it under that site's name.
        metrics: where answers are counted.
    """

    def __init__(self, app: ASGIApp, token: bytes | None, local: bool, metrics: Metrics) -> None:
        self._app, self._token, self._local, self._metrics = app, token, local, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ANSWER_HEADERS)
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        app = self._refusal(scope["path"], Headers(scope=scope)) or self._app
        try:
            await app(scope, receive, guarded)
        except ClientDisconnect:
            LOG.info("a client went before its request was whole")
        except Exception:
            if started:
                raise
            LOG.exception("a defect, at %s", scope["path"])
            await _refused(500, "the service failed; its log says why")(scope, receive, guarded)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "").lower()
        name = host[: host.rfind("]") + 1] or host.split(":")[0]
        if self._local and name not in LOCAL_NAMES:
            return _refused(403, f"expected one of {', '.join(LOCAL_NAMES)} in the header Host")
        if not path.startswith(PROTECTED):
            return None
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refused(403, "expected no request from another site's page")
        origin = headers.get("origin", "").partition("://")[2].lower()
        if origin and origin != host:
            return _refused(403, "expected no request from another site's page")
        if self._token is None:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._token)
        if kind.lower() != "bearer" or not right:
            sentence = "expected the header Authorization: Bearer with the service's token"
            return _refused(401, sentence, {"WWW-Authenticate": "Bearer"})
        return None


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
