"""The agents that were heard of: one small file for each, so that a restart forgets none."""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.backends.agent_ticket import write_json

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
"""What an agent can be called; its name is a file name too."""
NAME_IS = "letters, digits, '.', '_' and '-', at most 64, a letter or digit at both ends"
FOLDER = "agents"
"""The folder in the database's folder with what is kept of agents."""


class AgentHosts:
    """What is known of each agent by its id, which is a file name too."""

    def __init__(
        self, folder: Path, *, ttl: Callable[[], float], now: Callable[[], float] = time.time
    ) -> None:
        """Keep it in `folder`. One silent for `ttl()` seconds is away; `now` is a Unix time."""
        self._folder = folder
        self._ttl = ttl
        self._now = now

    def heard(self, agent: str, info: Mapping[str, Any] | None = None) -> None:
        """An agent has said something; `info` is what it says of itself."""
        known = self.read(agent)
        told = info or known.get("info", {})
        self._folder.mkdir(exist_ok=True)
        content = {"beats": self.beats(agent) + 1, "last_seen": self._now(), "info": dict(told)}
        write_json(self._path(agent), content)

    def beats(self, agent: str) -> int:
        """How often an agent was heard of: it changes with each sign of life."""
        return int(self.read(agent).get("beats", 0))

    def is_online(self, agent: str) -> bool:
        """Whether an agent was heard of lately."""
        seen = self.read(agent).get("last_seen")
        return seen is not None and 0 <= self._now() - float(seen) <= self._ttl()

    def all(self) -> dict[str, dict[str, Any]]:
        """All agents: `online`, `last_seen` and `info` of each."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            known = self.read(path.stem)
            found[path.stem] = {
                "online": self.is_online(path.stem),
                "last_seen": known.get("last_seen"),
                "info": known.get("info", {}),
            }
        return found

    def read(self, agent: str) -> dict[str, Any]:
        """What is kept of an agent: `beats`, `last_seen`, `info`; empty for an unknown one."""
        try:
            known = json.loads(self._path(agent).read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _path(self, agent: str) -> Path:
        return self._folder / f"{agent}.json"
