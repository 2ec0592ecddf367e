"""What can be asked of a listener: the operations of a database's daemon that make sense for many.

Their names and arguments are those of `daemon.operations`, so that the same commands ask either.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.control import Handler, ServiceError
from daemon.events import MigrationEvent
from daemon.events.messages import BadMessage, parse_message

if TYPE_CHECKING:
    from daemon.listener.service import Listener


class ListenerOperations:
    """The operations of one listener."""

    def __init__(self, listener: "Listener") -> None:
        """Answer for `listener`."""
        self._listener = listener
        self.handlers: Mapping[str, Handler] = {
            "status": self.status,
            "event": self.event,
            "message": self.message,
            "events": self.events,
            "retry-events": self.retry,
            "settings": self.settings,
            "handover": self.handover,
        }

    async def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`, for one in the same process."""
        return await self.handlers[op](**arguments)  # type: ignore[misc]  # no streams here

    async def status(self) -> dict[str, Any]:
        """Which databases are served, how each is doing, and what stands in the way."""
        listener = self._listener
        databases = [
            {
                "proposal": known.proposal,
                "folder": str(known.folder),
                "official": known.official,
                **described,
                "events": await listener.deliveries.count(str(known.folder)),
            }
            for known, described in listener.databases()
        ]
        return {
            "daemon": listener.identity,
            "folder": str(listener.folder),
            "databases": databases,
            "static_mode": listener.settings.static_mode,
            "dead_letters": await listener.deliveries.count_dead_letters(),
            "warnings": listener.warnings,
        }

    async def event(
        self, run: int | str, data: str, proposal: int | str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """Take in that `data` of `run` has arrived; answers once that is stored."""
        message = {"proposal": proposal, "run": run, "data": data, "key": key}
        return await self._take_in(json.dumps(message), "notify")

    async def message(self, payload: str) -> dict[str, Any]:
        """Take in an event message of another program; a bad one is kept as a dead letter."""
        return await self._take_in(payload, "zeromq")

    async def _take_in(self, payload: str, source: str) -> dict[str, Any]:
        listener = self._listener
        try:
            event, databases = await self._read(payload, source)
        except BadMessage as error:
            await listener.deliveries.dead_letter(source, payload, str(error), listener.now())
            raise ServiceError(f"{error} (kept among the dead letters)") from error
        return {"stored": await listener.store(event, databases), "event": asdict(event)}

    async def _read(self, payload: str, source: str) -> tuple[MigrationEvent, list[Path]]:
        """The event in a message, and the databases that it is for; raises BadMessage."""
        listener = self._listener
        now, key = listener.now(), f"{source}:{uuid.uuid4().hex}"
        proposals = {known.proposal for known, _ in listener.databases()}
        [only] = proposals if len(proposals) == 1 else [None]
        event = parse_message(payload, source=source, key=key, now=now, proposal=only)
        databases = await listener.concerned(event.proposal)
        if not databases:
            raise BadMessage(
                f"no database of proposal {event.proposal} is served here: add one with "
                f"`runtable listener add {event.proposal} DIR --in {listener.folder}`"
            )
        return event, databases

    async def retry(self, ids: list[int] | None = None) -> dict[str, Any]:
        """Read dead letters once more, those with `ids` or all: {"stored": […], "kept": […]}."""
        listener = self._listener
        known = await listener.deliveries.letter_ids()
        if missing := set(ids or ()).difference(known):
            raise ServiceError(f"there is no dead letter {', '.join(map(str, sorted(missing)))}")
        stored, kept = [], []
        for number in known if ids is None else sorted(ids):
            letter = await listener.deliveries.letter(number)
            if letter is None:
                continue  # somebody else has put it back
            try:
                event, databases = await self._read(letter["payload"], letter["source"])
            except BadMessage as error:
                await listener.deliveries.explain_letter(number, str(error))
                kept.append({"id": number, "error": str(error)})
            else:
                new = await listener.store(event, databases, number)
                stored.append({"id": number, "event": asdict(event), "new": new})
        return {"stored": stored, "kept": kept}

    async def events(self, limit: int = 50) -> dict[str, Any]:
        """The last events and the messages that could not be read."""
        deliveries = self._listener.deliveries
        return {
            "events": await deliveries.recent(limit),
            "dead_letters": await deliveries.dead_letters(limit),
        }

    async def settings(self) -> dict[str, Any]:
        """The settings as they are stored; those that Supervisor needs are a database's too."""
        return {"rows": self._listener.registry.settings()}

    async def handover(self) -> dict[str, Any]:
        """A listener serves its folder until it is told to stop."""
        raise ServiceError("a listener holds this folder; it does not hand it over")
