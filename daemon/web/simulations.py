"""`/api/run-simulation` and `/api/experiment-config…`: jobs for agents that a file describes."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.web.access import Operator, Viewer
from daemon.web.agents import WorkerId, check_known
from daemon.web.sendable import Plain

ROUTER = APIRouter(tags=["simulations"])

FileName = Annotated[str, Field(min_length=1, max_length=120)]


class Simulation(BaseModel):
    """A job, by what it is to read."""

    model_config = ConfigDict(extra="forbid")

    config: Plain | None = Field(None, description="what its command reads, in place of a file")
    config_path: FileName | None = Field(None, description="a file in configs/")
    target_host: WorkerId | None = Field(None, description="no other agent gets it")
    save_as: FileName | None = Field(None, description="keep config as this file in configs/")
    backend: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        "simulation",
        description="the configuration with the image or the command",
    )


class Queued(BaseModel):
    """A job that waits for an agent."""

    job_id: str
    status: str
    host: str | None
    job_name: str


class Saved(BaseModel):
    """A file to keep."""

    model_config = ConfigDict(extra="forbid")

    config: Plain
    file_name: FileName


class Changed(BaseModel):
    """What became of a file."""

    message: str
    file: str


@ROUTER.post("/run-simulation", response_model=Queued)
async def run_simulation(request: Request, caller: Operator, asked: Simulation) -> Any:  # noqa: ARG001
    """Queue a job whose command, that of its backend, gets a file of its own to read."""
    if asked.target_host is not None:
        await check_known(request, asked.target_host)
    return await request.app.state.link.call("simulate", **asked.model_dump())


@ROUTER.post("/experiment-config/create", response_model=Changed)
async def save(request: Request, caller: Operator, asked: Saved) -> Any:  # noqa: ARG001
    """Write a file in configs/, in place of one of the same name."""
    return await request.app.state.link.call("save-simulation-config", **asked.model_dump())


@ROUTER.get("/experiment-configs")
async def show_all(request: Request, caller: Viewer) -> list[str]:  # noqa: ARG001
    """The files in configs/."""
    found: list[str] = (await request.app.state.link.call("simulation-configs"))["files"]
    return found


@ROUTER.get("/experiment-config/{file_name}")
async def show(request: Request, caller: Viewer, file_name: str) -> dict[str, Any]:  # noqa: ARG001
    """What is in a file."""
    link = request.app.state.link
    found: dict[str, Any] = await link.call("simulation-config", file_name=file_name)
    return found


@ROUTER.delete("/experiment-config/{file_name}", response_model=Changed)
async def delete(request: Request, caller: Operator, file_name: str) -> Any:  # noqa: ARG001
    """Delete a file; jobs that were asked for have it as it was."""
    return await request.app.state.link.call("delete-simulation-config", file_name=file_name)
