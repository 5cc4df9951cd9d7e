"""The shapes of the service's answers, as OpenAPI says them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field


class FileScore(BaseModel):
    """A file of a request: its score, or why it cannot be read."""

    name: Annotated[str, Field(description="as the client called it")]
    error: Annotated[str | None, Field(description="why it cannot be read, then alone")] = None
    score: Annotated[float | None, Field(description="higher is more out of distribution")] = None
    p_value: Annotated[float | None, Field(description="share of images that score as high")] = None
    is_ood: Annotated[bool | None, Field(description="whether p_value <= target_fpr")] = None
    loudest: Annotated[str | None, Field(description="the method that speaks loudest")] = None
    milliseconds: Annotated[float | None, Field(description="since the request's arrival")] = None
    map: Annotated[str | None, Field(description="PNG in base64: where it is unusual")] = None


class FileScores(BaseModel):
    """The files of a request, in order."""

    files: list[FileScore]


class Mistake(BaseModel):
    """Why a request is not answered, in one sentence."""

    detail: str


class Histogram(BaseModel):
    """Scores of the validation images: counts[k] of them lie from edges[k] to edges[k + 1]."""

    edges: list[float]
    counts: list[int]


class About(BaseModel):
    """The detector, and what a request may have."""

    image_shape: list[int] = Field(description="channels, then sides, that the model sees")
    target_fpr: float = Field(description="share of false alarms that decisions are made for")
    threshold: float | None = Field(
        description="the score above which an image is called OOD; null where none is"
    )
    validation: Histogram
    summary: dict[str, Any] = Field(description="where the detector comes from")
    max_files: int
    max_mb: float


class Health(BaseModel):
    """Whether the service answers."""

    status: str


MISTAKES = {
    400: "not a multipart body",
    401: "no token, or a wrong one",
    403: "from another site's page, or under a name that is not this machine's",
    408: "the request did not arrive in time",
    413: "more bytes than a request may have",
    415: "not multipart/form-data",
    422: "no file in the field `files`, or none that can be read",
    503: "too many requests wait; the header Retry-After says when to come again",
    504: "not answered in time",
}
