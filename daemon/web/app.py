"""The HTTP service as an application: its paths put together behind the gate."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from daemon import __version__
from daemon.web import acts, agents, errors, events, job_files, jobs, runs, simulations
from daemon.web.access import Access, Bearer, Viewer
from daemon.web.errors import Refusal
from daemon.web.gate import Gate
from daemon.web.link import Link
from daemon.web.tokens import Tokens

API = "/api"
MONTH = 30 * 86400


class Health(BaseModel):
    """Whether this answers, and whether the daemon does."""

    status: str = Field(description="ok, as soon as there is an answer")
    version: str
    daemon: str = Field(description="up or away")


def make_app(link: Link, access: Access, tokens: Tokens, hosts: Collection[str]) -> FastAPI:
    """The service for the folder of `link`, for whom `access` lets in, called by one of `hosts`.

    `tokens` are those of the folder.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        link.close()

    app = FastAPI(
        title="Runtable",
        version=__version__,
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=life,
        responses=errors.ERRORS,
    )
    app.state.link, app.state.access, app.state.tokens = link, access, tokens
    errors.install(app)
    api = APIRouter(prefix=API)
    for module in (runs, jobs, job_files, acts, events, agents, simulations):
        api.include_router(module.ROUTER)
    api.include_router(agents.STATUS)
    app.include_router(agents.STATUS)

    @api.get("/health", tags=["health"], response_model=Health)
    async def health(request: Request) -> Health:
        """Whether this answers; the only path that needs no token."""
        up = await request.app.state.link.is_up()
        return Health(status="ok", version=__version__, daemon="up" if up else "away")

    @api.get("/daemon", tags=["health"])
    async def daemon(request: Request, caller: Viewer) -> dict[str, object]:  # noqa: ARG001
        """Who serves the folder, what goes on in it, and what stands in the way."""
        found: dict[str, object] = await request.app.state.link.call("status")
        return found

    app.include_router(api)

    @app.get("/", include_in_schema=False)
    async def begin(request: Request, bearer: Bearer, token: str | None = None) -> Response:
        """Keep the token of the printed address in a cookie, and out of the address."""
        if token is not None:
            return _remember(request, token)
        access.caller(request, bearer)
        return RedirectResponse(f"{API}/daemon", 303)

    app.add_middleware(Gate, hosts=hosts)
    return app


def _remember(request: Request, token: str) -> Response:
    access: Access = request.app.state.access
    if access.find(token) is None:
        raise Refusal(
            401, "unknown_token", "this token is not known: open the address in web.json anew"
        )
    response = RedirectResponse("/", 303)
    response.set_cookie(
        *(access.cookie, token), max_age=MONTH, httponly=True, samesite="strict", path="/"
    )
    return response


def host_names(host: str, more: Collection[str], own: Collection[str]) -> set[str]:
    """The names by which a service that listens on `host` may be called.

    `own` are those of this machine, which count once it listens beyond loopback.
    """
    names = {"localhost", *more}
    return names if host in ("127.0.0.1", "localhost", "::1") else names | {host, *own}
