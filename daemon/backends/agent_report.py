"""What an agent may say of a job that it has, and when that counts no more."""

from collections.abc import Mapping
from typing import Any

from daemon.backends.agent_ticket import STAGES, Stage, Ticket

REPORTED = {stage.value: stage for stage in (Stage.RUNNING, *STAGES.values())}
"""What an agent may say of its job."""


class Stale(Exception):
    """A report that counts no more, or does not go with what is known; str() says why."""


class BadReport(ValueError):
    """A report that says nothing that an agent can say; str() says what it could."""


def stage_said(status: str, exit_code: int | None) -> Stage:
    """The stage that a report puts its attempt in; raises BadReport."""
    if status not in REPORTED:
        raise BadReport(f"an agent reports {', '.join(REPORTED)}, not {status!r}")
    said = REPORTED[status]
    return Stage.FAILED if said is Stage.FINISHED and exit_code not in (None, 0) else said


def check_whose(
    ticket: Ticket,
    agent: str,
    attempt: int | None,
    container_id: str | None,
    container_name: str | None,
) -> None:
    """Raise Stale for what `agent` says of another's attempt, or of an earlier one of its own."""
    if ticket.agent is None:
        raise Stale(f"job {ticket.job} is with no agent now, not with agent {agent}")
    if ticket.agent != agent:
        whose = f"with agent {ticket.agent} now, as attempt {ticket.attempt}"
        raise Stale(f"job {ticket.job} is {whose}, not with agent {agent}")
    if attempt is not None and attempt != ticket.attempt:
        raise Stale(f"a report of attempt {attempt}; the present one is {ticket.attempt}")
    if container_name is not None and container_name != ticket.container_name:
        raise Stale(f"a report of container {container_name}, not {ticket.container_name}")
    if None not in (container_id, ticket.container_id) and container_id != ticket.container_id:
        raise Stale(f"a report of container {container_id}, not {ticket.container_id}")


def told_before(ticket: Ticket, said: Stage) -> bool:
    """Whether a report is about an end that is known; a journal knows it better than an agent."""
    ends = STAGES.values()
    known = ticket.stage in ends and said in ends and not ticket.journaled
    return known or ticket.stage is said


def end_said(ticket: Ticket, said: Stage, told: Mapping[str, Any]) -> tuple[Stage, str]:
    """How an attempt has ended by what its agent says, and why: "" when it has finished."""
    if said is Stage.FINISHED:
        return said, ""
    if ticket.overdue:
        return Stage.FAILED, str(ticket.error)
    if told["error"]:
        return said, str(told["error"])
    if said is Stage.STOPPED:
        return said, "stopped by its agent"
    return said, f"it ended with exit code {told['exit_code']}"
