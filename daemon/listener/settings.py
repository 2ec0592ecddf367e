"""The settings of a listener: what `listener config` reads and writes, typed and checked."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field

from daemon.setting_forms import Flag, HostName, SandboxCommand
from daemon.typed_settings import TypedSettings


class ListenerSettings(TypedSettings):
    """All settings of a listener."""

    static_mode: Flag = Field(
        1, description="1: only databases that were added; 0: also a proposal's own, at its events"
    )
    allow_local_processing: Flag = Field(
        0, description="kept for DAMNIT: jobs run on this machine in either case"
    )
    sandbox_args: SandboxCommand | None = Field(
        None, description="command in which all databases' context files run"
    )
    supervisor_host: HostName = Field(
        "127.0.0.1", description="address on which supervisorctl is answered"
    )
    share_with: Literal["owner", "group", "all"] = Field(
        "group", description="whom new files in the listener's folder are for"
    )
    stop_grace: int = Field(
        10, ge=0, le=3600, description="seconds that the databases' daemons get when it stops"
    )

    @classmethod
    def from_rows(cls, rows: Mapping[str, object]) -> tuple[Self, list[str]]:
        """Make settings from stored rows; what cannot be used has its default, and is named."""
        values, warnings = cls.usable(rows)
        return cls.model_validate(values), warnings
