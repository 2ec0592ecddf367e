"""Agents for real: ours, and one written from the document alone; stopped, killed, restarted."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from web_server import WebServer, token, web_server

from daemon.database import Database
from daemon.jobs.job import Work
from daemon.jobs.queue import Queue
from daemon.jobs.tables import MIGRATIONS
from daemon.service import LOG

pytestmark = pytest.mark.system

HERE = Path(__file__).parents[1]
CONTEXT = """
import os, time
from damnit_ctx import Variable
@Variable
def number(run, n: "meta#run_number"):
    print("at work on", n)
    return n
@Variable
def waits(run, n: "meta#run_number"):
    while n >= 10 and not os.path.exists(f"{os.path.dirname(__file__)}/go{n}"):
        time.sleep(0.05)
    return os.environ.get("RUNTABLE_TOKEN", "no token")
"""


def queue_for_agents(folder: Path, runs: list[int]) -> list[str]:
    """Queue jobs for agents while no daemon runs; their ids."""

    async def queue() -> list[str]:
        database = Database(folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
        await database.open()
        try:
            works = [
                Work(proposal=1234, run=run, data="raw", source="test", live=False, backend="agent")
                for run in runs
            ]
            return [job.id for job in await Queue(database, log=LOG).create(works)]
        finally:
            await database.close()

    return asyncio.run(queue())


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    made = Beamtime(tmp_path, example_proposal)
    made.init(CONTEXT, settle_seconds=3600)
    yield made
    made.close()


@contextmanager
def agent(
    command: list[str], folder: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """An agent's program until the end of the block, with what it says in agent.out."""
    with (folder / "agent.out").open("ab") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ours(web: WebServer, name: str, *options: str) -> list[str]:
    return [*RUNTABLE, "agent", "--server", web.url, "--id", name, *options]


def command_ends_in_time(beamtime: Beamtime) -> None:
    beamtime.configure("any", "type: agent\n")
    command = "echo said; trap '' TERM; sleep 100; sleep 100"
    asked = ["run", "--backend", "any", "--time", "0.5", "--", command]
    done = beamtime.run(*asked, check=False)
    assert done.returncode == 1
    assert "took longer than 500 ms" in done.stderr, done.stderr
    job = done.stderr.split()[1]
    assert "\nsaid\n" in beamtime.run("jobs", "log", job).stdout


def states(beamtime: Beamtime) -> dict[int, str]:
    return {run: state for _, run, _, state, _, _ in beamtime.jobs()}


def test_an_agent_written_from_the_document(beamtime: Beamtime) -> None:
    for run in (1, 11, 12):
        beamtime.arrive(run)
    finishes, by_http, by_file = queue_for_agents(beamtime.folder, [1, 11, 12])
    daemon = beamtime.listen()
    with web_server(beamtime.folder) as web, web.client() as http:
        environment = {
            "OPEVA_SERVER": web.url,
            "WORKER_ID": "tiago-gpu",
            "OPEVA_SHARED_DIR": str(beamtime.folder),
            "TOKEN": token(beamtime.folder, "agent", "tiago-gpu"),
        }
        wait_until(lambda: [job["job_id"] for job in http.get("/api/queue").json()])
        assert http.get(f"/status/{finishes}").json()["status"] == "queued"
        daemon.send_signal(signal.SIGKILL)  # what waits goes on waiting, as the same attempt
        daemon.wait()
        beamtime.listen()
        assert http.get(f"/status/{finishes}").json()["status"] == "queued"
        program = [sys.executable, str(HERE / "agent_of_the_document.py")]
        simulated = simulate(beamtime, http)
        with agent(program, beamtime.path, **environment) as process:

            def is_simulated() -> bool:
                assert process.poll() is None, (beamtime.path / "agent.out").read_text()
                return bool(http.get(f"/status/{simulated}").json()["status"] == "finished")

            wait_until(is_simulated)
            check_simulated(beamtime, http, simulated)
            wait_until(lambda: states(beamtime)[11] == "running")
            assert http.delete(f"/api/job/{by_http}").json()["code"] == "conflict"
            assert states(beamtime)[1] == "finished"
            assert http.get(f"/status/{finishes}").json()["worker_id"] == "tiago-gpu"
            known = http.get("/api/hosts").json()
            assert known["available_hosts"] == ["tiago-gpu"]
            assert known["hosts"]["tiago-gpu"]["online"] is True
            assert known["hosts"]["tiago-gpu"]["running"] == [by_http]
            wait_until(lambda: beamtime.value(11, "number") == 11)
            beamtime.run("jobs", "stop", by_http)
            wait_until(lambda: states(beamtime)[11] == "stopped")
            assert beamtime.value(11, "number") == 11  # what it had is kept
            assert process.poll() is None, (beamtime.path / "agent.out").read_text()
        with agent(program, beamtime.path, **environment, LOOK_AT="file") as process:
            wait_until(lambda: states(beamtime)[12] == "running")
            beamtime.run("jobs", "stop", by_file)
            wait_until(lambda: states(beamtime)[12] == "stopped")
            assert process.poll() is None, (beamtime.path / "agent.out").read_text()
    assert beamtime.value(1, "number") == 1
    assert [attempt for *_, attempt, _ in beamtime.jobs()] == [1, 1, 1]


def simulate(beamtime: Beamtime, http: httpx.Client) -> str:
    """Ask for a job by a file, which is gone when an agent comes; its id."""
    program = """cat "$2"; cd "$(dirname "$2")"; mkdir results
echo '{"id": "'"$4"'"}' >results/result.json
"""
    (beamtime.folder / "sim.sh").write_text(program)
    command = f"sh {beamtime.folder}/sim.sh"
    no_backend = http.post("/api/run-simulation", json={"config": {}}).json()
    assert "backends/simulation.yml has to say `type: agent`" in no_backend["detail"]
    beamtime.configure("simulation", f"type: agent\nimage: simulator:1\ncommand: {command}\n")
    config = {"experiment": {"name": "Demo", "run_name": "Run 1"}, "episodes": 10}
    for name, code in (("../demo.yaml", 400), ("demo.txt", 400), ("demo.yaml", 200)):
        asked = {"config": config, "file_name": name}
        assert http.post("/api/experiment-config/create", json=asked).status_code == code
    assert http.get("/api/experiment-configs").json() == ["demo.yaml"]
    assert http.get("/api/experiment-config/demo.yaml").json() == {"config": config}
    (beamtime.folder / "configs" / "odd.yaml").mkdir()
    asked = {"config": config, "file_name": "odd.yaml"}
    for answer, words in (
        (http.post("/api/experiment-config/create", json=asked), "written"),
        (http.get("/api/experiment-config/odd.yaml"), "read"),
        (http.delete("/api/experiment-config/odd.yaml"), "deleted"),
    ):
        assert answer.status_code == 400
        assert f"configs/odd.yaml cannot be {words}: " in answer.json()["detail"]
    for wrong, code, words in (
        ({}, 400, "Missing config or config_path"),
        ({"config_path": "nope.yaml"}, 404, "no nope.yaml"),
        ({"config_path": "demo.yaml", "target_host": "other"}, 400, "Allowed: tiago-gpu"),
        ({"config_path": "demo.yaml", "backend": "local"}, 400, "not of the type agent"),
    ):
        answer = http.post("/api/run-simulation", json=wrong)
        assert answer.status_code == code, answer.text
        assert words in answer.json()["detail"]
    asked = {"config_path": "configs/demo.yaml", "target_host": "tiago-gpu"}
    told = http.post("/api/run-simulation", json=asked).json()
    assert (told["status"], told["host"]) == ("queued", "tiago-gpu")
    assert told["job_name"] == "Demo-Run_1"
    assert http.delete("/api/experiment-config/demo.yaml").status_code == 200
    assert http.get("/api/experiment-config/demo.yaml").status_code == 404
    return str(told["job_id"])


def check_simulated(beamtime: Beamtime, http: httpx.Client, job: str) -> None:
    info = http.get(f"/api/job-info/{job}").json()
    assert (info["experiment_name"], info["target_host"]) == ("Demo", "tiago-gpu")
    assert (info["config_path"], info["job_name"]) == ("configs/demo.yaml", "Demo-Run_1")
    assert http.get(f"/api/result/{job}").json() == {"id": job}
    assert "episodes: 10" in http.get(f"/api/logs/{job}").text
    assert "episodes: 10" in beamtime.run("jobs", "log", job).stdout
    wait_until(lambda: http.get(f"/api/jobs/{job}").json()["settled"])
    wait_until(lambda: http.delete(f"/api/job/{job}").status_code == 200)
    assert http.delete(f"/api/job/{job}").status_code == 404
    assert not (beamtime.folder / "jobs" / job).exists()


def test_our_agent_through_stops_kills_and_restarts(beamtime: Beamtime) -> None:
    for run in (1, 11, 12):
        beamtime.arrive(run)
    beamtime.set(local_jobs=4)
    _, stops, goes_on = queue_for_agents(beamtime.folder, [1, 11, 12])
    daemon = beamtime.listen()
    with web_server(beamtime.folder, "--port", "0") as web, web.client() as http:
        secret = token(beamtime.folder, "agent", "gpu-1")
        (beamtime.path / "token").write_text(secret)
        wrong = subprocess.run(
            [*ours(web, "gpu-2")], env={**os.environ, "RUNTABLE_TOKEN": secret},
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert wrong.returncode == 1
        assert "this token is for agent gpu-1, not gpu-2" in wrong.stderr

        command = ours(web, "gpu-1", "--max-jobs", "3")
        with agent(command, beamtime.path, RUNTABLE_TOKEN=secret) as process:
            wait_until(lambda: [states(beamtime)[run] for run in (11, 12)] == ["running"] * 2)
            wait_until(lambda: states(beamtime)[1] == "finished")
            assert beamtime.value(1, "waits") == "no token"
            command_ends_in_time(beamtime)
            beamtime.run("jobs", "stop", stops)
            wait_until(lambda: states(beamtime)[11] == "stopped")
            wait_until(lambda: http.get(f"/status/{stops}").json()["status"] == "stopped")
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            process.kill()  # what it has begun goes on
            process.wait()
        daemon = beamtime.listen()
        with agent(
            [*command, "--token-file", str(beamtime.path / "token")], beamtime.path
        ) as other:
            (beamtime.folder / "go12").touch()
            wait_until(lambda: states(beamtime)[12] == "finished")
            assert http.get(f"/status/{goes_on}").json()["worker_id"] == "gpu-1"
            other.terminate()
            assert other.wait(20) == 0
    assert [attempt for *_, attempt, _ in beamtime.jobs()] == [1, 1, 1, 1]
    assert secret not in (beamtime.path / "agent.out").read_text()
