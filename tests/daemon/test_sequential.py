"""Attempts that the command which asked for them runs itself."""

import asyncio
import sys
from pathlib import Path

from job_helpers import ended, make_job, times_started

from daemon.backends.sequential import run_here
from daemon.sandbox import Interpreter

LIBRARY = Path(__file__).parents[2]

CONTEXT = """
from damnit_ctx import Variable

@Variable()
def number(run):
    return 1
"""


async def test_an_attempt_that_is_told_of_twice_is_run_once(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    async with asyncio.timeout(30):
        await run_here(attempt, tmp_path, LIBRARY, Interpreter(sys.executable))
        assert ended(attempt)["status"] == "finished"
        await run_here(attempt, tmp_path, LIBRARY, Interpreter(sys.executable))
    assert times_started(attempt) == {"number": 1}
