"""The operation that tries out a backend where jobs are given to it: in the daemon, if one runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from daemon.backends import agent_ticket
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.named import SEQUENTIAL
from daemon.backends.trial import LOOK_SECONDS, Step, trial
from daemon.command_operations import chosen_backend
from daemon.control import Handler
from daemon.jobs.folder import attempt_folder
from daemon.jobs.states import TERMINAL, State
from daemon.person import person

if TYPE_CHECKING:
    from daemon.service import Service

BEFORE = frozenset({State.QUEUED, State.DISPATCHED})


class TrialOperations:
    """The test of backends, for one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self.handlers: Mapping[str, Handler] = {"backend-test": self.test}

    async def test(
        self, backend: str, seconds: float, configuration: Mapping[str, Any] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Submit a tiny job and tell what each step came to: {"name", "state", "words"}.

        `configuration` is what is to be tried under that name. It has to begin and to end within
        `seconds` each.
        """
        config = await chosen_backend(self._service.backends, backend, configuration)
        about = f"{backend} is of the type {config.type}"
        yield Step("configuration", "ok", about).told()
        if config.type == SEQUENTIAL:
            words = "its jobs run on the terminal of `reprocess --foreground`: test `local` instead"
            yield Step("submit", "failed", words).told()
            return
        steps = (
            self._by_agent(backend, configuration, seconds)
            if isinstance(config, AgentConfig)
            else trial(config, self._service.manager_context(), seconds)
        )
        async for step in steps:
            yield step.told()

    async def _by_agent(
        self, backend: str, values: Mapping[str, Any] | None, seconds: float
    ) -> AsyncIterator[Step]:
        """A command through the queue: agents get jobs from there alone, by way of the daemon."""
        service = self._service
        if service.identity is None:
            words = "agents reach jobs through the daemon, and none runs: `runtable listen` does"
            yield Step("daemon", "failed", words)
            return
        hosts = await asyncio.to_thread(service.agents.hosts)
        online = [name for name, known in hosts.items() if known["online"]]
        if not online:
            words = "no agent is online: `runtable agent --server URL --id NAME` on its host"
            yield Step("agents", "failed", words)
            return
        yield Step("agents", "ok", f"online: {', '.join(online)}")
        made = await service.operations.call(
            "run", backend=backend, command="exit 0", configuration=values, timeout=seconds
        )
        job = made["jobs"][0]["id"]
        yield Step("submit", "ok", f"job {job}")
        folder = service.folder / "jobs" / job
        loop = asyncio.get_running_loop()
        late, begun = loop.time() + seconds, False
        while True:
            now = await service.queue.get(job)
            if not begun and now.state not in BEFORE:
                begun, late = True, loop.time() + seconds
                ticket = await asyncio.to_thread(
                    agent_ticket.read, attempt_folder(folder, now.attempt)
                )
                if ticket is not None and ticket.agent is not None:
                    yield Step("begin", "ok", f"with agent {ticket.agent}")
            if now.state in TERMINAL:
                break
            if loop.time() > late:
                what = "ended" if begun else "begun"
                words = f"it has not {what} within {seconds:g} s (--wait S)"
                yield Step("end" if begun else "begin", "failed", words)
                await service.operations.call(
                    "stop", jobs=[job], reason="the test is over", by=person()
                )
                return
            await asyncio.sleep(LOOK_SECONDS)
        good = now.state is State.FINISHED
        yield Step("end", "ok" if good else "failed", now.reason or now.state.value)
