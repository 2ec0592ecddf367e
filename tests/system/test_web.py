"""The HTTP interface as a program, beside a real daemon."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from beamtime import Beamtime
from helpers import wait_until
from web_server import token, web_server

from daemon.supervisor import shutdown

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable
@Variable(title="Answer")
def answer(run):
    return 42
@Variable(title="Nothing")
def nothing(run):
    raise ValueError("no beam")
@Variable
def odd(run):
    return float("nan")
@Variable
def turn(run):
    return 1 + 2j
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    made = Beamtime(tmp_path, example_proposal)
    made.init(CONTEXT, settle_seconds=3600)
    yield made
    made.close()


def test_runs_jobs_and_events_through_restarts_of_the_daemon(beamtime: Beamtime) -> None:
    folder = beamtime.folder
    with web_server(folder) as web, web.client() as http:
        assert (folder / "web.json").stat().st_mode & 0o777 == 0o600
        away = http.get("/api/jobs")
        assert away.status_code == 503
        assert away.json()["code"] == "daemon_away"
        assert "runtable listen" in away.json()["detail"]
        assert http.get("/api/runs").json() == {"total": 0, "columns": [], "runs": []}

        first = beamtime.listen()
        beamtime.arrive(7)
        announced = http.post("/api/events", json={"run": 7, "data": "raw", "key": "k"})
        assert announced.status_code == 202
        assert announced.json()["stored"] is True
        again = http.post("/api/events", json={"run": 7, "data": "raw", "key": "k"})
        assert again.json()["stored"] is False
        first.send_signal(signal.SIGKILL)  # after the answer nothing may be lost
        first.wait()
        assert http.get("/api/jobs").status_code == 503
        assert http.get("/api/health").json()["daemon"] == "away"

        beamtime.listen()
        assert http.get("/api/events").json()["events"][0]["source"] == "http"
        wait_until(lambda: http.get("/api/jobs", params={"state": "finished"}).json())
        (job,) = http.get("/api/jobs").json()
        shown = http.get(f"/api/jobs/{job['job_id']}").json()
        assert (shown["run"], shown["state"]) == (7, "finished")
        assert http.get("/api/jobs/nobody").json()["code"] == "unknown_job"

        (row,) = http.get("/api/runs").json()["runs"]
        cells = row["cells"]
        assert cells["answer"]["value"] == 42
        assert cells["nothing"]["error"] == "ValueError: no beam"
        assert cells["odd"]["value"] in (None, "nan")
        assert cells["turn"]["value"] == "1+2j"
        assert http.get("/api/runs/1234/7").json() == row
        assert http.get("/api/runs/1234/8").json()["code"] == "unknown_run"

        assert "served already" in beamtime.run("web", folder, check=False).stderr
        assert beamtime.run("--debug", "gui", folder, check=False).stdout.startswith(web.url)
        viewer = token(folder, "viewer", "wall")
        with web.client(viewer) as wall:
            assert wall.get("/api/daemon").json()["proposal"] == 1234
            assert wall.post("/api/events", json={"run": 8, "data": "raw"}).status_code == 403
            beamtime.run("token", "revoke", viewer.split("_")[1], "--in", folder)
            assert wall.get("/api/daemon").status_code == 401
        assert web.end() == 0
    assert not (folder / "web.json").exists()


SLOW = """
import os, time
from damnit_ctx import Variable
@Variable
def early(run):
    print("at work")
    return 1
@Variable
def late(run):
    while not os.path.exists(os.path.dirname(__file__) + "/go"):
        time.sleep(0.02)
    return 2
"""


def test_what_operators_do_and_what_jobs_leave(beamtime: Beamtime) -> None:
    beamtime.write_context(SLOW)
    beamtime.set(local_jobs=1)
    for run in (1, 2, 3):
        beamtime.arrive(run)
    beamtime.listen()
    with web_server(beamtime.folder) as web, web.client() as http:

        def status(job: str) -> str:
            return str(http.get(f"/api/status/{job}").json()["status"])

        def act(job: str, what: str, **body: object) -> tuple[int, str]:
            answer = http.post(f"/api/ops/jobs/{job}/{what}", json=body)
            said = answer.json()
            return answer.status_code, said.get("status") or said["code"]

        for run in (1, 2, 3):  # one after the other, so that they are queued in this order
            http.post("/api/events", json={"run": run, "data": "raw"})
            wait_until(lambda n=run: len(http.get("/api/jobs").json()) == n)  # type: ignore[misc]
        third, second, first = (job["job_id"] for job in http.get("/api/jobs").json())
        running = next(j for j in (first, second, third) if status(j) != "queued")
        waiting, other = (j for j in (first, second, third) if j != running)

        wait_until(lambda: http.get(f"/api/progress/{running}").json().get("variable") == "late")
        assert http.get(f"/api/result/{running}").json()["status"] == "pending"
        assert http.get(f"/api/progress/{waiting}").json() == {"progress": "No updates yet."}
        assert http.get(f"/api/logs/{waiting}").json()["code"] == "no_log"
        assert "at work" in http.get(f"/api/file-logs/{running}").text
        assert http.get(f"/api/job-info/{running}").json()["experiment_name"] == "p1234"

        assert act(running, "requeue") == (409, "conflict")
        assert act(running, "requeue", force=True) == (409, "conflict")  # it would run twice
        assert act(running, "cancel") == (409, "conflict")
        assert act(waiting, "fail") == (409, "conflict")
        assert act(waiting, "fail", force=True) == (200, "failed")
        assert act(waiting, "fail") == (200, "failed")
        assert act(waiting, "cancel") == (409, "conflict")
        assert act(other, "cancel", reason="not needed") == (200, "canceled")
        assert act("nobody", "fail") == (404, "unknown_job")
        assert act(running[:-1], "stop") == (404, "unknown_job")
        assert act(running, "fail", reason="") == (422, "wrong_form")

        assert http.get(f"/api/stop/{running}").status_code == 405
        assert (
            http.post(f"/api/stop/{other}").json()["message"] == "Job already finished (canceled)"
        )
        assert "Stop requested" in http.post(f"/api/stop/{running}").json()["message"]
        wait_until(lambda: status(running) == "stopped")
        ended = wait_until(lambda: _settled(http.get(f"/api/jobs/{running}").json()))
        assert (ended["history"][-2]["by"], ended["history"][-2]["who"]) == ("web@127.0.0.1", "ops")
        left = {said["variable"]: said["status"] for said in ended["results"]}
        assert left["early"] == "finished"
        (beamtime.folder / "go").touch()
        assert act(running, "requeue", preferred_host="nobody") == (400, "unknown_host")
        assert act(running, "requeue", reason="again") == (200, "queued")
        wait_until(lambda: status(running) == "finished")
        wait_until(lambda: _settled(http.get(f"/api/jobs/{running}").json()))
        assert http.get(f"/api/result/{running}").json()["variables"][1]["variable"] == "late"
        assert act(running, "requeue") == (409, "conflict")
        assert act(running, "requeue", force=True) == (200, "queued")

        (beamtime.folder / "jobs" / "20200101-000000-abcdef").mkdir()
        dry = http.post("/api/ops/queue/cleanup", json={"dry_run": True}).json()
        assert (beamtime.folder / "jobs" / "20200101-000000-abcdef").is_dir()
        done = http.post("/api/ops/queue/cleanup").json()
        assert dry["removed"] == done["removed"]
        assert done["count"] == len(done["removed"])


def test_under_supervisor_it_outlives_the_daemon_and_comes_back_when_killed(
    beamtime: Beamtime,
) -> None:
    folder = beamtime.folder

    def url() -> str | None:
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads((folder / "web.json").read_text())["url"])
        return None

    def ctl(*words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", "supervisord.conf"]
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)
        return done.stdout

    beamtime.run("listen", "--daemonize")
    try:
        first = wait_until(url)
        base, _, token = first.partition("/?token=")
        wait_until(lambda: "RUNNING" in ctl("status", "web"))
        headers = {"Authorization": f"Bearer {token}"}

        def daemon() -> int | None:
            answer = httpx.get(f"{base}/api/daemon", headers=headers)
            return int(answer.json()["daemon"]["pid"]) if answer.status_code == 200 else None

        before = wait_until(daemon)
        ctl("restart", "damnit")
        assert wait_until(daemon) != before
        assert url() == first
        os.kill(int(ctl("pid", "web")), signal.SIGKILL)
        second = wait_until(lambda: found if (found := url()) != first else None)
        assert second.partition("=")[2] != token
        for log in ("web.log", "supervisord.log", "amore.log"):
            text = (folder / log).read_text()
            assert token not in text
            assert second.partition("=")[2] not in text
    finally:
        shutdown(folder)
    assert url() is None


def _settled(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["settled"] else None
