"""Jobs that a registered agent on any host fetches and runs."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from daemon.backends.agent_hosts import NAME, NAME_IS
from daemon.backends.configurations.base import CommandConfig
from daemon.backends.configurations.fields import Line
from daemon.backends.configurations.managers import ManagerClass, manager_at


def _agent(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise ValueError(f"must be an agent's id: {NAME_IS}")
    return text


class AgentConfig(CommandConfig):
    """Jobs that wait until an agent asks for one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "agent"},
                {"type": "agent", "preferred_host": "gpu-1", "require_host": True},
            ]
        }
    )

    type: Literal["agent"] = "agent"
    preferred_host: Annotated[Line, AfterValidator(_agent)] | None = Field(
        None, description="id of the agent that gets the job first, if it asks"
    )
    require_host: bool = Field(
        False, description="no other agent than the preferred one gets the job"
    )
    image: Line | None = Field(
        None, description="container image for the agent to run the job in, when it uses containers"
    )

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager that keeps jobs for agents."""
        return manager_at("agents", "AgentManager")

    @model_validator(mode="after")
    def _required_is_named(self) -> Self:
        if self.require_host and self.preferred_host is None:
            raise ValueError("require_host needs preferred_host: which agent it is")
        return self
