"""The addresses of the service and what is answered at each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from diffusion_ood.options import ServeOptions
from diffusion_ood.serving.answers import MISTAKES, About, FileScores, Health, Mistake
from diffusion_ood.serving.guard import Guard
from diffusion_ood.serving.limits import Overload
from diffusion_ood.serving.service import Service
from diffusion_ood.serving.uploads import FIELD
from diffusion_ood.version import __version__

if TYPE_CHECKING:
    from diffusion_ood.detector import Detector

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
BODY: dict[str, Any] = {"type": "object", "required": [FIELD], "properties": {FIELD: FILES}}


def create_app(detector: Detector, options: ServeOptions, token: bytes | None = None) -> FastAPI:
    """The service as an ASGI application; its threads end with its lifespan.

    Args:
        detector: what answers.
        options: limits, and whether it is reached from this machine alone.
        token: the secret that requests need; None for none.
    """
    service = Service(detector, options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's own pages of documentation load scripts from elsewhere; openapi.json stays.
    app = FastAPI(
        title="diffusion-ood",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.metrics = service.metrics
    app.add_middleware(Guard, token=token, local=options.is_local, metrics=service.metrics)
    _add_mistakes(app)
    _add_page(app)
    _add_answers(app, service)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    mistakes: dict[int | str, dict[str, Any]] = {
        status: {"model": Mistake, "description": text} for status, text in MISTAKES.items()
    }
    body = {"content": {"multipart/form-data": {"schema": BODY}}, "required": True}

    @app.post(
        "/v1/score",
        responses=mistakes,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": body},
    )
    async def score(
        request: Request,
        maps: Annotated[bool, Query(description="add a picture of where it is unusual")] = False,
    ) -> FileScores:
        """Score images, in the formats that the commands read."""
        return await service.answer(request, maps)

    @app.get("/v1/detector", responses={401: mistakes[401]})
    async def detector() -> About:
        """What answers, and what its validation images scored."""
        return service.about

    @app.get("/healthz", responses={503: mistakes[503]})
    async def healthz() -> Health:
        """Whether the service can answer."""
        if not service.batches.works:
            raise HTTPException(503, "the thread that measures has ended")
        return Health(status="ok")

    @app.get("/metrics", response_class=Response, responses={401: mistakes[401]})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    folder = files("diffusion_ood.serving") / "page"
    for address, (name, kind) in PAGE.items():
        content = (folder / name).read_text("utf-8")
        app.router.add_route(address, _static(content, kind), methods=["GET"])


def _static(content: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _add_mistakes(app: FastAPI) -> None:
    """Every mistake is JSON with one sentence."""

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(Overload)
    async def overload(request: Request, error: Overload) -> JSONResponse:
        again = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"detail": str(error)}, 503, again)
