"""An agent as anybody would write it from the document alone: nothing of ours is imported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

SERVER, WORKER = os.environ["OPEVA_SERVER"], os.environ["WORKER_ID"]
SHARED = Path(os.environ["OPEVA_SHARED_DIR"])
http = httpx.Client(base_url=SERVER, headers={"Authorization": f"Bearer {os.environ['TOKEN']}"})


def post(what: str, **body: object) -> httpx.Response:
    return http.post(f"/api/agent/{what}", json={"worker_id": WORKER, **body})


def stop_is_requested(job_id: str) -> bool:
    if os.environ.get("LOOK_AT") == "file":
        status = json.loads((SHARED / "jobs" / job_id / "status.json").read_text())
    else:
        status = http.get(f"/status/{job_id}").raise_for_status().json()
    return bool(status["status"] == "stop_requested")


def work(job: dict) -> None:
    job_id = job["job_id"]
    log = SHARED / "jobs" / job_id / "logs" / f"{job_id}.log"
    with log.open("ab") as output:  # where others would say: docker run … image command
        container = subprocess.Popen(
            ["sh", "-c", f"exec {job['command']}"],
            env={**os.environ, **job["env"]},
            stdout=output,
            stderr=output,
        )
    said = {"job_id": job_id, "container_id": str(container.pid)}
    said["container_name"] = job["container_name"]
    stopped = False
    while container.poll() is None:
        post("job-status", status="running", **said).raise_for_status()
        if not stopped and stop_is_requested(job_id):
            container.terminate()
            stopped = True
        time.sleep(0.05)
    code = container.returncode
    status = "stopped" if stopped else "finished" if code == 0 else "failed"
    post("job-status", status=status, exit_code=code, **said).raise_for_status()


while True:
    post("heartbeat", info={"python": sys.version}).raise_for_status()
    answer = post("next-job")
    if answer.status_code == 200:
        work(answer.json())
    else:
        assert answer.status_code == 204, answer.text
        time.sleep(0.1)
