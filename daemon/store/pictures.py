"""Thumbnails of Plotly figures, in place of the placeholders that jobs store.

So neither the context's Python nor the node that runs a job needs a browser. The picture is put
beside the fragment, from where it goes into the run file, and into the run table.
"""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxlib.summary import PLOTLY_PLACEHOLDER
from ctxlib.whole_file import write_whole
from daemon.store.outcomes import picture_beside, placeholders
from daemon.store.table import RunsTable
from daemon.store.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

IDLE_SECONDS = 120.0


class Pictures:
    """Replaces placeholders by pictures, one after the other, through one drawing process."""

    def __init__(self, table: RunsTable, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Write into `table`; the job folders are in `jobs/` beside its file.

        The process, with its browser, starts with the first figure and ends when idle.
        """
        self._table = table
        self._jobs = table.path.parent / "jobs"
        self._worker = Worker("daemon.store.drawing", idle_seconds=idle_seconds)
        self._turn = asyncio.Lock()
        self._unavailable = False

    async def complete(self, job: Mapping[str, Any]) -> list[str]:
        """Draw what a job (`job.json`) has stored with a placeholder so far.

        Returns the variables whose picture is new in the table. What cannot be drawn keeps its
        placeholder, and the log says why; so does everything where there is no browser.
        """
        replaced: list[str] = []
        async with self._turn:
            found = await asyncio.to_thread(placeholders, self._jobs / job["id"])
            for name, fragment in found.items():
                png = await self._picture(name, fragment)
                if png is not None and await self._table.replace_value(
                    job["proposal"], job["run"], name, PLOTLY_PLACEHOLDER, png
                ):
                    replaced.append(name)
        return replaced

    async def close(self) -> None:
        """End the drawing process, after the figure that it is at."""
        await self._worker.close()

    async def _picture(self, name: str, fragment: Path) -> bytes | None:
        picture = picture_beside(fragment)
        drawn = await asyncio.to_thread(_content, picture)
        if drawn is not None or self._unavailable or not await asyncio.to_thread(fragment.exists):
            return drawn
        try:
            answer = await self._worker.ask({"path": str(fragment), "name": name})
        except WorkerDied as death:
            answer = {"error": f"the drawing process {death}, twice"}
        if "png" in answer:
            png = b64decode(answer["png"])
            await asyncio.to_thread(write_whole, picture, png)
            return png
        if "unavailable" in answer:
            self._unavailable = True
            log.warning("Plotly figures keep a placeholder as thumbnail: %s", answer["unavailable"])
        else:
            log.warning("the figure of %s cannot be drawn: %s", name, answer["error"])
        return None


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
