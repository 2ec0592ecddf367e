"""The HTTP interface as a program, beside a real daemon."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import Beamtime
from helpers import wait_until
from web_server import token, web_server

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
