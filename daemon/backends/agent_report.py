"""What an agent may say of a job that it has, and when that counts no more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.backends.agent_ticket import STAGES, Stage, Ticket

REPORTED = {stage.value: stage for stage in (Stage.RUNNING, *STAGES.values())}
"""What an agent may say of its job."""


@dataclass(frozen=True)
class Report:
    """What an agent says of a job: how it is, and of which attempt and container it speaks."""

    status: str
    attempt: int | None = None
    container_id: str | None = None
    container_name: str | None = None
    exit_code: int | None = None
    error: str | None = None

    def stage(self) -> Stage:
        """The stage that it puts its attempt in; raises BadReport."""
        if self.status not in REPORTED:
            raise BadReport(f"an agent reports {', '.join(REPORTED)}, not {self.status!r}")
        said = REPORTED[self.status]
        failed = said is Stage.FINISHED and self.exit_code not in (None, 0)
        return Stage.FAILED if failed else said


class Stale(Exception):
    """A report that counts no more, or does not go with what is known; str() says why."""


class BadReport(ValueError):
    """A report that says nothing that an agent can say; str() says what it could."""


def check_whose(ticket: Ticket, agent: str, report: Report) -> None:
    """Raise Stale for what `agent` says of another's attempt, or of an earlier one of its own."""
    if ticket.agent is None:
        raise Stale(f"job {ticket.job} is with no agent now, not with agent {agent}")
    if ticket.agent != agent:
        whose = f"with agent {ticket.agent} now, as attempt {ticket.attempt}"
        raise Stale(f"job {ticket.job} is {whose}, not with agent {agent}")
    if report.attempt not in (None, ticket.attempt):
        raise Stale(f"a report of attempt {report.attempt}; the present one is {ticket.attempt}")
    name, number = report.container_name, report.container_id
    if name not in (None, ticket.container_name):
        raise Stale(f"a report of container {name}, not {ticket.container_name}")
    if ticket.container_id is not None and number not in (None, ticket.container_id):
        raise Stale(f"a report of container {number}, not {ticket.container_id}")


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
