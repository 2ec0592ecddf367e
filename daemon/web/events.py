"""`/api/events`: what was announced, and announcing that data is there."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.web.access import Operator, Viewer

ROUTER = APIRouter(prefix="/events", tags=["events"])
MOST = 1000
"""Events in one answer."""


class Announcement(BaseModel):
    """Data of a run is there."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[int, Field(ge=0, le=999_999)]
    data: Literal["raw", "proc"]
    proposal: int | None = Field(None, description="the database's own when not given")
    key: str | None = Field(
        None, min_length=1, max_length=200, description="the same key again is the same event"
    )


@ROUTER.get("")
async def list_events(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - it is what lets them in
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> dict[str, Any]:
    """The last events, and the messages that could not be understood."""
    found: dict[str, Any] = await request.app.state.link.call("events", limit=limit)
    return found


@ROUTER.post("", status_code=202)
async def announce(
    request: Request,
    caller: Operator,  # noqa: ARG001 - it is what lets them in
    event: Announcement,
) -> dict[str, Any]:
    """Announce that data of a run is there; once this is answered the event cannot be lost."""
    told: dict[str, Any] = await request.app.state.link.call(
        "event", source="http", **event.model_dump()
    )
    return told
