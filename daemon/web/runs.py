"""`/api/runs`: the rows of the table, newest first, read from `runs.sqlite` as any reader does."""

import asyncio
import math
import sqlite3
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from ctxlib.table_file import TableCell, TableFile
from daemon.web.access import Viewer
from daemon.web.errors import Refusal

ROUTER = APIRouter(prefix="/runs", tags=["runs"])
MOST = 1000
"""Runs in one answer."""

Number = Annotated[int, Path(ge=0, le=999_999)]
T = TypeVar("T")


class Cell(BaseModel):
    """What the table has for one variable of a run."""

    value: int | float | str | bool | None = Field(
        description="the value; null for pictures, and a text for numbers that JSON has not"
    )
    kind: str | None = Field(description="what kind of picture or value it is, if not a plain one")
    error: str | None = Field(description="why there is no value")
    time: float = Field(description="when it was written, in seconds since the epoch")


class Run(BaseModel):
    """One row of the table."""

    proposal: int
    run: int
    start_time: float | None = Field(description="in seconds since the epoch")
    added_at: float | None = Field(description="in seconds since the epoch")
    cells: dict[str, Cell]


class Column(BaseModel):
    """A variable as the table knows it."""

    name: str
    title: str


class Page(BaseModel):
    """Some of the runs, with all columns."""

    total: int = Field(description="how many runs there are")
    columns: list[Column]
    runs: list[Run]


@ROUTER.get("", response_model=Page)
async def list_runs(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - it is what lets them in
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Page:
    """Rows of the table with their values, the newest first."""
    return await _ask(request, lambda table: _page(table, limit, offset))


@ROUTER.get("/{proposal}/{run}", response_model=Run)
async def show_run(request: Request, caller: Viewer, proposal: Number, run: Number) -> Run:  # noqa: ARG001
    """One row of the table."""
    found = await _ask(request, lambda table: _run(table, proposal, run))
    if found is None:
        raise Refusal(404, "unknown_run", f"run {run} of proposal {proposal} is not in the table")
    return found


async def _ask(request: Request, question: Callable[[TableFile], T]) -> T:
    """The answer of the table, which may be a while in coming: others may be writing it."""
    path = request.app.state.link.folder / "runs.sqlite"

    def answer() -> T:
        try:
            table = TableFile(path)
        except (FileNotFoundError, ValueError) as error:
            raise Refusal(503, "no_table", str(error)) from error
        return question(table)

    try:
        return await asyncio.to_thread(answer)
    except sqlite3.OperationalError as error:
        words = f"{path} cannot be read now: {error}"
        raise Refusal(503, "table_unreadable", words) from error


def _page(table: TableFile, limit: int, offset: int) -> Page:
    times = table.run_times()
    chosen = sorted(times, reverse=True)[offset : offset + limit]
    columns = [Column(name=name, title=found.title) for name, found in table.columns().items()]
    runs = [_row(table, *number, *times[number]) for number in chosen]
    return Page(total=len(times), columns=columns, runs=runs)


def _run(table: TableFile, proposal: int, run: int) -> Run | None:
    times = table.run_times((proposal, run)).get((proposal, run))
    return None if times is None else _row(table, proposal, run, *times)


def _row(
    table: TableFile, proposal: int, run: int, start: float | None, added: float | None
) -> Run:
    cells = {name: _cell(cell) for name, cell in table.cells(proposal, run).items()}
    return Run(proposal=proposal, run=run, start_time=start, added_at=added, cells=cells)


def _cell(cell: TableCell) -> Cell:
    error = None if cell.error is None else ": ".join(cell.error)
    return Cell(value=_plain(cell), kind=cell.kind, error=error, time=cell.time)


def _plain(cell: TableCell) -> Any:
    """A value as JSON has it."""
    value = cell.value
    if isinstance(value, bytes):
        return str(cell.shown()).strip("()") if cell.kind == "complex" else None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
