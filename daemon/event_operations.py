"""The operations on events: what arrives, what could not be understood, and putting that back."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from daemon.control import Handler, ServiceError
from daemon.events import MigrationEvent
from daemon.events.messages import BadMessage, parse_message
from daemon.jobs.job import SUBMISSION

if TYPE_CHECKING:
    from daemon.service import Service


AGAIN = "; it was submitted with its results, and has to be submitted again"
"""What is said of a dead letter that was never an event."""


def our_proposal(service: "Service") -> int:
    """The number of the proposal that the folder of `service` is for; raises ServiceError."""
    proposal = service.settings.proposal
    if proposal is None:
        raise ServiceError("this database has no proposal yet: set it with `proposal N`")
    return proposal


class EventOperations:
    """The operations on the events of one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self.handlers: Mapping[str, Handler] = {
            "event": self.event,
            "message": self.message,
            "deliver": self.deliver,
            "events": self.events,
            "retry-events": self.retry,
        }

    async def event(
        self,
        run: int | str,
        data: str,
        proposal: int | str | None = None,
        key: str | None = None,
        source: str = "notify",
    ) -> dict[str, Any]:
        """Take in that `data` of `run` has arrived; answers once that is stored."""
        message = {"proposal": proposal, "run": run, "data": data, "key": key}
        return await self._take_in(json.dumps(message), source)

    async def message(self, payload: str) -> dict[str, Any]:
        """Take in an event message of another program; a bad one is kept as a dead letter."""
        return await self._take_in(payload, "zeromq")

    async def deliver(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take in an event that a listener of many databases has stored.

        {"stored"}, or {"refused": why} when it can never belong here.
        """
        given, ours = MigrationEvent(**event), our_proposal(self._service)
        if given.proposal != ours:
            return {"refused": f"the database is for proposal {ours}, not {given.proposal}"}
        return {"stored": await self._service.inbox.store(given)}

    async def events(self, limit: int = 50) -> dict[str, Any]:
        """The last events and the messages that could not be read."""
        inbox = self._service.inbox
        return {
            "events": await inbox.recent(limit),
            "dead_letters": await inbox.dead_letters(limit),
        }

    async def retry(self, ids: list[int] | None = None) -> dict[str, Any]:
        """Read dead letters once more, those with `ids` or all.

        {"stored": [{"id", "event", "new"}], "kept": [{"id", "error"}]}: what can be understood now
        is an event and no dead letter any more; the others stay, with why.
        """
        inbox = self._service.inbox
        known = await inbox.letter_ids()
        if missing := set(ids or ()).difference(known):
            raise ServiceError(f"there is no dead letter {', '.join(map(str, sorted(missing)))}")
        stored, kept = [], []
        for number in known if ids is None else sorted(ids):
            letter = await inbox.letter(number)
            if letter is None:
                continue  # somebody else has put it back
            try:
                if letter["source"] == SUBMISSION:
                    raise BadMessage(f"{letter['error'].removesuffix(AGAIN)}{AGAIN}")
                event = self._read(letter["payload"], letter["source"])
            except BadMessage as error:
                await inbox.explain_letter(number, str(error))
                kept.append({"id": number, "error": str(error)})
            else:
                new = await inbox.put_back(number, event)
                stored.append({"id": number, "event": asdict(event), "new": new})
        return {"stored": stored, "kept": kept}

    async def _take_in(self, payload: str, source: str) -> dict[str, Any]:
        try:
            event = self._read(payload, source)
        except BadMessage as error:
            inbox, now = self._service.inbox, self._service.now()
            await inbox.dead_letter(source, payload, str(error), now)
            raise ServiceError(f"{error} (kept among the dead letters)") from error
        return {"stored": await self._service.inbox.store(event), "event": asdict(event)}

    def _read(self, payload: str, source: str) -> MigrationEvent:
        """The event in a message; raises BadMessage for one that is none, or another's."""
        key, now, ours = (
            f"{source}:{uuid.uuid4().hex}",
            self._service.now(),
            our_proposal(self._service),
        )
        event = parse_message(payload, source=source, key=key, now=now, proposal=ours)
        if event.proposal != ours:
            raise BadMessage(
                f"the message is for proposal {event.proposal}, this database for {ours}"
            )
        return event
