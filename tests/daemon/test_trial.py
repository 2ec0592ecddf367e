"""The test of a backend: whoever does not answer any more does not keep it from its end."""

import asyncio
import sys
from pathlib import Path

import pytest

from daemon.backends import Status, trial
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.context import ManagerContext
from daemon.sandbox import Interpreter
from daemon.settings import Settings


class SilentManager:
    """Has a job wait, and does not answer any more once that is to end."""

    cancelled = False

    def __init__(self, config, context):
        pass

    def room(self, at_work):
        return 1

    async def submit(self, attempt_dir):
        return "job"

    async def poll(self, handles):
        if self.cancelled:
            await asyncio.Event().wait()
        return dict.fromkeys(handles, Status("running", "Slurm does not answer"))

    async def cancel(self, handle, reason):
        self.cancelled = True

    async def close(self):
        assert self.cancelled


class SilentConfig(BackendConfig):
    @classmethod
    def manager_class(cls):
        return SilentManager


async def test_who_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LEAVE_SECONDS", 0.2)
    context = ManagerContext(
        folder=tmp_path,
        library=Path(__file__).parents[2],
        interpreter=lambda: Interpreter(sys.executable),
        settings=Settings,
        log=lambda line: None,
        on_wake=lambda job: None,
        on_end=lambda job, attempt: None,
    )
    async with asyncio.timeout(10):
        steps = [step async for step in trial.trial(SilentConfig(), context, 0.2)]
    said = "it has not begun within 0.2 s (--wait S): Slurm does not answer"
    assert (steps[-1].state, steps[-1].words) == ("failed", said)
    assert list(tmp_path.iterdir()) == []
