"""Every error of the HTTP service is `{"detail", "code"}`: for people, and for programs."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from daemon.control import GoneError, ServiceError
from daemon.web.tokens import TokenError

LOG = logging.getLogger("runtable.web")

STATUS = {
    "unknown_job": 404,
    "unknown_config": 404,
    "ambiguous_job": 404,
    "conflict": 409,
    "stale": 409,
    "bad_report": 400,
    "refused": 400,
    "internal": 500,
}
"""The HTTP status of what a service refuses, by the code of the refusal."""

CODES = {400: "bad_request", 401: "no_token", 403: "forbidden", 404: "not_found", 405: "method"}


class Problem(BaseModel):
    """What every error looks like."""

    detail: str = Field(description="what is wrong, and what to do, in words")
    code: str = Field(description="the same for programs; it does not change")


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """HTTP status, code and words."""
        self.status = status
        self.code = code
        self.detail = detail
        super().__init__(detail)


ERRORS: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "It cannot be done as it was asked for"},
    401: {"model": Problem, "description": "No token, or one that is not known"},
    403: {"model": Problem, "description": "The token's role may not do this"},
    404: {"model": Problem, "description": "There is no such thing"},
    409: {"model": Problem, "description": "It does not go with how things are now"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {"model": Problem, "description": "Something that was sent has not the right form"},
    503: {"model": Problem, "description": "The daemon is away; the detail says how to start it"},
}
"""What any path may answer, for its description."""


def answer(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as a response."""
    return JSONResponse({"detail": detail, "code": code}, status, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Have `app` answer all that goes wrong in this one form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:  # noqa: ARG001
        return answer(error.status, error.code, error.detail)

    @app.exception_handler(ServiceError)
    async def not_served(request: Request, error: ServiceError) -> JSONResponse:  # noqa: ARG001
        if isinstance(error, GoneError):
            return answer(503, "daemon_away", str(error), {"Retry-After": "5"})
        return answer(STATUS.get(error.code, 400), error.code, str(error))

    @app.exception_handler(TokenError)
    async def no_tokens(request: Request, error: TokenError) -> JSONResponse:  # noqa: ARG001
        LOG.error("%s", error)
        return answer(503, "tokens_unreadable", "the tokens cannot be read; see the web's log")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "error")
        return answer(error.status_code, code, _detail(request, error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_form(request: Request, error: RequestValidationError) -> JSONResponse:
        said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        if isinstance(error.body, bytes):
            kind = request.headers.get("content-type")
            said.append(f"send it as JSON, with `Content-Type: application/json` (not {kind})")
        return answer(422, "wrong_form", "; ".join(said))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "internal", "this failed; the web's log says how")


def _detail(request: Request, error: HTTPException) -> str:
    """What is wrong with a request that no path takes, and what others there are."""
    path = request.url.path
    if error.status_code == 404:
        return f"there is nothing at {path}: /api/openapi.json has all that there is"
    if error.status_code == 405:
        return f"{path} takes {(error.headers or {}).get('Allow')}, not {request.method}"
    return str(error.detail)
