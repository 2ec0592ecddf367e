import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import wait_until
from job_helpers import ended, entries, errors, make_job, times_started, values

from ctxlib import processes

LIBRARY = Path(__file__).parents[2]


class Client:
    """The other end of a fork server."""

    def __init__(self, context, *options):
        self.channel, theirs = socket.socketpair()
        self.wakes, wake = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wakes.setblocking(False)
        command = [sys.executable, "-m", "ctxlib.forkserver", "--context", str(context)]
        command += ["--channel", str(theirs.fileno()), "--wake", str(wake.fileno()), *options]
        self.process = subprocess.Popen(
            command,
            cwd=LIBRARY,
            pass_fds=(theirs.fileno(), wake.fileno()),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        wake.close()
        self.channel.settimeout(60)
        self.lines = self.channel.makefile("rb")

    def receive(self):
        line = self.lines.readline()
        return json.loads(line) if line else None

    def ask(self, message):
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def start(self, attempt):
        self.ask({"start": str(attempt)})
        return self.receive()

    def do(self, attempt):
        """Run a job to its end; return its last journal line."""
        assert self.start(attempt) == {"accepted": str(attempt)}
        answer = self.receive()
        assert answer["ended"] == str(attempt)
        assert ended(attempt)["status"] == answer["status"]
        return ended(attempt)

    def close(self):
        self.lines.close()
        self.channel.close()


@pytest.fixture
def serve(tmp_path):
    clients = []

    def serve(context=None, *options):
        if context is not None:
            make_job(tmp_path, "unused", context=context)
        client = Client(tmp_path / "context.py", *options)
        clients.append(client)
        return client

    yield serve
    for client in clients:
        client.close()
        client.wakes.close()
        client.process.kill()
        client.process.wait()


PLAIN = """
from damnit_ctx import Variable

@Variable(title="Number")
def number(run):
    return 1

@Variable(title="Array")
def array(run):
    import numpy as np
    return np.arange(3) + np.random.randint(1 << 40)
"""


def test_a_warm_process_runs_job_after_job(serve, tmp_path):
    client = serve(PLAIN)
    ready = client.receive()["ready"]
    assert (ready["mode"], ready["note"], ready["pid"]) == ("fork", "", client.process.pid)
    for job in ("j1", "j2"):
        assert client.do(make_job(tmp_path, job))["status"] == "finished"
    first, second = (tmp_path / "jobs" / job / "1" for job in ("j1", "j2"))
    assert values(first)["number"] == 1
    begin = entries(first, "begin")[0].fields
    assert begin["context_sha256"] == ready["context_sha256"]
    assert begin["pid"] != client.process.pid
    assert entries(first, "claimed")[0].fields["pid"] == client.process.pid
    array = [entries(f, "finished")[1].fields["summary"]["value"] for f in (first, second)]
    assert array[0] != array[1]


def test_each_line_sends_a_wake(serve, tmp_path):
    client = serve(PLAIN)
    client.receive()
    attempt = make_job(tmp_path)
    client.do(attempt)
    woken = []
    with contextlib.suppress(BlockingIOError):
        while True:
            woken.append(client.wakes.recv(100))
    assert woken == [b"j1"] * len(entries(attempt))


def test_runners_are_sessions_of_their_own(serve, tmp_path):
    context = """
    import os
    from damnit_ctx import Variable

    @Variable()
    def session(run):
        return os.getsid(0) == os.getpid() and os.getcwd() == os.path.dirname(__file__)
    """
    client = serve(context)
    client.receive()
    client.do(make_job(tmp_path))
    assert values(tmp_path / "jobs" / "j1" / "1") == {"session": True}


def test_each_job_may_get_a_new_interpreter(serve, tmp_path):
    client = serve(PLAIN, "--fresh")
    assert client.receive()["ready"]["mode"] == "fresh"
    attempt = make_job(tmp_path)
    assert client.do(attempt)["status"] == "finished"
    assert values(attempt)["number"] == 1
    assert entries(attempt, "claimed")[0].fields["mode"] == "fresh"
    assert len(client.wakes.recv(100)) == 2


def test_threads_of_the_import_mean_new_interpreters(serve, tmp_path):
    context = PLAIN + "\nimport threading, time\n"
    context += "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
    client = serve(context)
    ready = client.receive()["ready"]
    assert ready["mode"] == "fresh"
    assert "started 1 more threads" in ready["note"]
    assert client.do(make_job(tmp_path))["status"] == "finished"


DEADLY = """
import ctypes, os, signal, time
from damnit_ctx import Variable

@Variable()
def before(run):
    return 1

@Variable()
def exits(run, before: "var#before"):
    os._exit(3)

@Variable()
def segfaults(run, before: "var#before"):
    ctypes.string_at(0)

@Variable()
def aborts(run, before: "var#before"):
    os.abort()

@Variable()
def kills_itself(run, before: "var#before"):
    os.kill(os.getpid(), signal.SIGKILL)

@Variable()
def takes_memory(run, before: "var#before"):
    taken = []
    while True:
        taken.append(b"x" * (20 << 20))
        time.sleep(0.02)

@Variable(timeout=0.5)
def takes_time(run, before: "var#before"):
    time.sleep(100)

@Variable()
def needs_it(run, exits: "var#exits"):
    return 1

@Variable()
def after(run, before: "var#before", exits: "var#exits" = 5):
    return before + exits
"""


def test_a_variable_that_kills_its_process_costs_only_itself(serve, tmp_path):
    client = serve(DEADLY)
    client.receive()
    attempt = make_job(tmp_path, memory=300 << 20)
    assert client.do(attempt)["status"] == "finished"
    assert values(attempt) == {"before": 1, "after": 6}
    assert errors(attempt) == {
        "exits": "exit: ended by itself with exit code 3",
        "segfaults": "signal: killed by signal SIGSEGV (Segmentation fault)",
        "aborts": "signal: killed by signal SIGABRT (Aborted)",
        "kills_itself": "signal: killed by signal SIGKILL (Killed)",
        "takes_memory": "memory: killed: used more than 300 MB",
        "takes_time": "timeout: killed: took longer than its timeout of 500 ms",
        "needs_it": "Skip: needs 'exits', which failed: Killed: ended by itself with exit code 3",
    }
    twice = {name: n for name, n in times_started(attempt).items() if n > 1}
    assert twice == {"kills_itself": 2}


LINGERING = """
import os, subprocess, time
from damnit_ctx import Variable

@Variable()
def leaves_processes(run):
    subprocess.Popen(["sleep", "1000.25"])
    subprocess.Popen("setsid sh -c 'sleep 1000.25 & sleep 1000.25' & sleep 0", shell=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    time.sleep(0.2)
    return 1
"""


def test_no_process_is_left_behind(serve, tmp_path):
    client = serve(LINGERING)
    client.receive()
    assert client.do(make_job(tmp_path))["status"] == "finished"
    assert processes.descendants(client.process.pid) == []
    assert not any("1000.25" in command for command in commands())


def commands():
    for process in processes.everyone():
        with contextlib.suppress(OSError):
            yield Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()


def test_what_the_context_started_while_it_was_loaded_stays(serve, tmp_path):
    context = PLAIN + "\nimport subprocess\nhelper = subprocess.Popen(['sleep', '1000'])\n"
    client = serve(context)
    client.receive()
    client.do(make_job(tmp_path))
    helper = processes.descendants(client.process.pid)
    assert len(helper) == 1
    processes.signal_all(helper, signal.SIGKILL)


WAITING = """
import os, time
from damnit_ctx import Variable

@Variable()
def first(run):
    return 1

@Variable()
def waits(run):
    while not os.path.exists("go"):
        time.sleep(0.01)
    return 2
"""


def waiting(attempt):
    return times_started(attempt)["waits"] > 0


def test_several_jobs_at_once(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempts = [make_job(tmp_path, job) for job in ("j1", "j2", "j3")]
    for attempt in attempts:
        assert "accepted" in client.start(attempt)
    wait_until(lambda: all(map(waiting, attempts)))
    (tmp_path / "go").touch()
    assert {client.receive()["ended"] for _ in attempts} == {str(a) for a in attempts}


def test_ended_jobs_leave_the_processes_of_others_alone(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    slow = make_job(tmp_path, "slow")
    client.start(slow)
    wait_until(lambda: waiting(slow))
    client.do(make_job(tmp_path, "quick", variables=["first"]))
    assert len(processes.descendants(client.process.pid)) == 1
    (tmp_path / "go").touch()
    assert client.receive()["status"] == "finished"
    assert times_started(slow) == {"first": 1, "waits": 1}


def test_a_job_can_be_stopped(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempt = make_job(tmp_path)
    client.start(attempt)
    wait_until(lambda: waiting(attempt))
    client.ask({"cancel": str(attempt), "reason": "not wanted"})
    assert client.receive() == {"ended": str(attempt), "status": "stopped"}
    assert ended(attempt)["reason"] == "not wanted"
    assert values(attempt) == {"first": 1}
    assert processes.descendants(client.process.pid) == []


def test_the_job_that_takes_too_long_is_ended(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempt = make_job(tmp_path, timeout=0.5)
    assert client.do(attempt)["status"] == "failed"
    assert "the job took longer than 500 ms" in errors(attempt)["waits"]


def test_jobs_go_on_when_nobody_listens_any_more(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempt = make_job(tmp_path)
    client.start(attempt)
    wait_until(lambda: waiting(attempt))
    client.close()
    (tmp_path / "go").touch()
    assert client.process.wait(30) == 0
    assert ended(attempt)["status"] == "finished"


def test_the_last_words_are_heard_by_who_has_nothing_more_to_say(serve, tmp_path):
    client = serve(PLAIN)
    client.receive()
    attempt = make_job(tmp_path)
    client.ask({"start": str(attempt)})
    client.channel.shutdown(socket.SHUT_WR)
    assert "accepted" in client.receive()
    assert client.receive()["status"] == "finished"
    assert client.receive() is None
    assert client.process.wait(30) == 0


def test_a_killed_server_takes_its_runners_with_it(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempt = make_job(tmp_path)
    client.start(attempt)
    wait_until(lambda: waiting(attempt))
    runner = entries(attempt, "runner")[0].fields
    client.process.kill()
    wait_until(lambda: not processes.is_alive(runner["pid"], runner["pid_start"]))
    assert ended(attempt) is None


def test_a_killed_runner_is_replaced_and_nothing_done_twice(serve, tmp_path):
    client = serve(WAITING)
    client.receive()
    attempt = make_job(tmp_path)
    client.start(attempt)
    wait_until(lambda: waiting(attempt))
    os.kill(entries(attempt, "runner")[0].fields["pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    assert client.receive()["status"] == "finished"
    assert times_started(attempt)["first"] == 1
    assert values(attempt) == {"first": 1, "waits": 2}
    assert errors(attempt) == {}


@pytest.mark.parametrize("name", ["context.py", "helper.py"])
def test_an_edited_file_makes_it_stale(serve, tmp_path, name):
    (tmp_path / "helper.py").write_text("x = 1\n")
    client = serve("import helper\n" + PLAIN)
    client.receive()
    assert client.do(make_job(tmp_path, "j1"))["status"] == "finished"
    with (tmp_path / name).open("a") as file:
        file.write("# edited\n")
    second = make_job(tmp_path, "j2")
    assert client.start(second) == {"stale": str(second)}
    assert not (second / "claim").exists()


def test_a_claimed_attempt_is_not_done_again(serve, tmp_path):
    client = serve(PLAIN)
    client.receive()
    attempt = make_job(tmp_path)
    client.do(attempt)
    assert client.start(attempt) == {"claimed": str(attempt)}


def test_a_request_that_cannot_be_read_is_rejected(serve, tmp_path):
    client = serve(PLAIN)
    client.receive()
    answer = client.start(tmp_path / "jobs" / "absent" / "1")
    assert "job.json" in answer["reason"]
    assert client.do(make_job(tmp_path))["status"] == "finished"


def test_a_broken_context_is_told_with_its_lines(serve, tmp_path):
    client = serve("x = 1\nimport no_such_module\n")
    problem = client.receive()["broken"][0]
    assert problem["line"] == 2
    assert "no_such_module" in problem["message"]
    assert client.receive() is None
    assert client.process.wait(30) == 1


def test_a_genuine_run_is_opened_in_a_forked_process(serve, tmp_path, example_proposal):
    context = """
    from damnit_ctx import Variable

    @Variable(title="Trains")
    def trains(run):
        return run["SA1_XTD2_XGM/DOOCS/MAIN", "beamPosition.ixPos.value"].xarray()
    """
    client = serve(context)
    client.receive()
    attempt = make_job(tmp_path, mock=False, proposal_path=str(example_proposal))
    assert client.do(attempt)["status"] == "finished"
    assert errors(attempt) == {}
    assert entries(attempt, "claimed")[0].fields["mode"] == "fork"


def test_the_log_tells_of_each_process(serve, tmp_path):
    client = serve(DEADLY)
    client.receive()
    attempt = make_job(tmp_path, variables=["segfaults", "after"])
    client.do(attempt)
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert len(re.findall(r"job j1, attempt 1", log)) == 1
    assert "segfaults: killed by signal SIGSEGV (Segmentation fault); job j1 goes on in" in log
    assert "Fatal Python error: Segmentation fault" in log


SPOILING = """
import json, os, resource, time
import h5py
import numpy as np
from damnit_ctx import Variable

def counted(name):
    with open("calls.txt", "a") as file:
        file.write(name + "\\n")

@Variable()
def no_clock(run):
    counted("no_clock")
    time.perf_counter = None
    return 1

@Variable()
def after_no_clock(run):
    counted("after_no_clock")
    return 2

@Variable()
def no_files(run):
    counted("no_files")
    h5py.File = None
    return 3

@Variable()
def after_no_files(run):
    counted("after_no_files")
    return np.arange(4)

@Variable()
def no_files_for_itself(run):
    counted("no_files_for_itself")
    h5py.File = None
    return np.arange(5)

@Variable()
def interrupts(run):
    counted("interrupts")
    raise KeyboardInterrupt("of its own")

@Variable()
def few_files(run):
    counted("few_files")
    sizes = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, sizes[1]))
    return 6

@Variable()
def after_few_files(run):
    counted("after_few_files")
    return np.random.default_rng(1).random(1 << 18)

@Variable()
def no_json(run):
    counted("no_json")
    json.dumps = lambda *args, **more: "garbage"
    json.JSONEncoder.encode = None
    return 7

@Variable()
def after_no_json(run):
    counted("after_no_json")
    return np.arange(8)

@Variable()
def no_system(run):
    counted("no_system")
    os.write = lambda *args: 0
    os.getpid = lambda: 1
    return 9

@Variable()
def after_no_system(run):
    counted("after_no_system")
    return 10
"""


def test_what_a_variable_does_to_its_process_costs_no_other_one(tmp_path, serve):
    attempt = make_job(tmp_path, context=SPOILING)
    client = serve()
    client.receive()
    assert client.do(attempt) == {"status": "finished", "reason": ""}
    assert errors(attempt) == {
        "no_clock": "TypeError: 'NoneType' object is not callable",
        "no_files_for_itself": (
            "exit: its process was made useless by a variable; the log says how"
        ),
        "interrupts": "KeyboardInterrupt: of its own",
    }
    assert set(values(attempt)) == {
        *("after_no_clock", "no_files", "after_no_files", "few_files", "after_few_files"),
        *("no_json", "after_no_json", "no_system", "after_no_system"),
    }
    again = {name for name, n in times_started(attempt).items() if n > 1}
    assert again == {"after_no_clock", "after_no_files", "no_files_for_itself"}
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert "after_no_files: nothing can be saved any more" in log
    assert "something that all variables need does not work any more" in log
    assert "few_files: left changed, and put back: resource limits" in log
    assert not list(attempt.rglob(".sound.*"))
