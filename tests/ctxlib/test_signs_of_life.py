"""A watching process shows that it is there, whatever its runner is at."""

import os
import subprocess

from job_helpers import make_job

from ctxlib.attempt import AttemptSupervisor
from ctxlib.journal import JournalReader


def test_the_journal_is_touched_now_and_then(tmp_path):
    attempt = make_job(tmp_path, context="", timeout=7200)
    now, runners = [1000.0], []

    def start(_attempt_dir, _n):
        runners.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        return runners[-1].pid

    watching = AttemptSupervisor(
        attempt, start, leftovers=lambda: [], mode="fork", clock=lambda: now[0]
    )
    assert watching.begin()
    journal = attempt / "journal.0.jsonl"
    lines = journal.read_bytes()

    def touched():
        os.utime(journal, (0, 0))
        watching.check()
        return journal.stat().st_mtime > 0

    seen = []
    for _ in range(8):
        now[0] += 5
        seen.append(touched())
    assert seen == [False, True] * 4
    assert journal.read_bytes() == lines  # it takes no space
    watching.cancel("enough")
    _, status = os.waitpid(runners[0].pid, 0)
    runners[0].returncode = 0
    watching.runner_ended(status)
    watching_ended = JournalReader(attempt).read_watcher()[-1]
    assert (watching_ended.kind, watching.ended) == ("ended", "stopped")
    now[0] += 100
    assert not touched()
