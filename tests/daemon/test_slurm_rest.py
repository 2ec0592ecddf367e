"""Slurm over HTTP: a real slurmrestd, one in the shapes of later versions, and servers that lie."""

import base64
import json
import logging
import threading
import typing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from slurm_helpers import until

from daemon.backends.configurations.slurm import MailType
from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.slurm import rest_shapes as shapes
from daemon.backends.slurm import rest_submission
from daemon.backends.slurm.rest import Rest
from daemon.backends.slurm.scheduler import (
    COMMENT,
    Later,
    NoAnswer,
    Refused,
    SlurmError,
    Submission,
    TooLong,
)


def submission(config, **changed):
    given = {
        "name": "r1-p1234-damnit",
        "comment": COMMENT + "0123456789ab",
        "script": "#!/bin/bash\nexit 7\n",
        "array": "0-1%2",
        "after": [],
        "chdir": "/tmp",
        "output": "/dev/null",
        "error": None,
        "partition": None,
        "reservation": None,
        "time_limit": "1:30:00",
        "config": config,
    }
    return Submission(**{**given, **changed})


@pytest.fixture(params=["slurmrestd", "later_rest"])
def server(request):
    return request.getfixturevalue(request.param)


class Canned:
    """A server that answers as `answers` say: by path, a status and a text or what becomes JSON.

    `asked` has for each request its path and its headers.
    """

    def __init__(self):
        self.answers = {}
        self.asked = []
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                canned.asked.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = canned.answers.get(self.path, (404, "no such page"))
                status, content = answer(self.headers) if callable(answer) else answer
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_DELETE = do_GET

            def log_message(self, format, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.options = {"host": "127.0.0.1", "port": self.port, "use_http": True, "user": "me"}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def canned():
    server = Canned()
    yield server
    server.close()


async def test_an_array_with_everything_that_can_be_asked_for(slurm_cluster, server):
    own = {
        "explicit_node": "n1",
        "memory": "1500M",
        "cpus_per_task": 3,
        "mail_type": "ALL",
        "mail_user": "me@example.org",
        "additional_options": ["--nice=5", "--exclusive", "--exclude=n2"],
    }
    config = SlurmRestConfig(**server.options, **own)
    rest = Rest(config)
    show = lambda number: slurm_cluster.run("scontrol", "--oneliner", "show", "job", number)  # noqa: E731
    try:
        asleep = submission(
            config, array="0-2%1", partition="main", script="#!/bin/bash\nsleep 60\n"
        )
        first = await rest.submit(asleep)
        second = await rest.submit(submission(config, after=[first]))
        found = show(second)
        for words in (
            f"Dependency=afterany:{first}_*",
            "ArrayTaskId=0-1%2",
            "TimeLimit=01:30:00",
            "MinMemoryNode=1500M",
            "CPUs/Task=3",
            "ReqNodeList=n1",
            "ExcNodeList=n2",
            "OverSubscribe=NO",
            "Nice=5",
            "MailUser=me@example.org",
            "MailType=INVALID_DEPEND,BEGIN,END,FAIL,REQUEUE,STAGE_OUT",
            "Requeue=0",
            "Comment=runtable:0123456789ab",
            "StdIn=/dev/null",
        ):
            assert words in found, found
        jobs = {(job.array, job.index): job for job in await rest.jobs()}
        waiting = jobs[second, 1]
        assert (waiting.state, waiting.batch) == ("PENDING", "0123456789ab")
        await rest.cancel([(first, n) for n in range(3)] + [("987654", 0)])
        await until(lambda: " JobState=FAILED" in show(second))
        jobs = {(job.array, job.index): job for job in await rest.jobs()}
        assert (first, 1) not in jobs or jobs[first, 1].state == "CANCELLED"
        ended = jobs[second, 0]
        assert (ended.state, ended.exit_code, ended.signal) == ("FAILED", 7, 0)
        partitions = {partition.name: partition for partition in await rest.partitions()}
        assert partitions["upex"].groups == ["daemon"]
        assert (partitions["closed"].up, partitions["main"].up) == (False, True)
        assert partitions["main"].default in (True, None)
        assert [reservation.name for reservation in await rest.reservations()] == []
        assert "root" in await rest.groups()
        for changed, kind, words in (
            ({"partition": "nowhere"}, Refused, "Invalid partition name"),
            ({"array": "0-4999%2"}, TooLong, "Invalid job array specification"),
        ):
            with pytest.raises(kind, match=words):
                await rest.submit(submission(config, **changed))
    finally:
        await rest.close()


async def test_a_token_is_renewed_in_its_file_and_never_told(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    token = tmp_path / "token"
    token.write_text("SLURM_JWT=outdatedword\n")
    config = SlurmRestConfig(**{**server.options, "token": f"file:{token}"})
    rest = Rest(config)
    said = []
    for ask in (rest.jobs, lambda: rest.submit(submission(config)), rest.partitions):
        with pytest.raises(SlurmError) as error:
            await ask()
        said.append(str(error.value))
    for claims, words in (
        ({"exp": 1.0, "sun": "root"}, "the token of root has expired at 19"),
        ({"exp": 1e12, "sun": "you"}, "the token is that of you, not of root"),
    ):
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token.write_text(f"outdatedword.{middle}.outdatedword")
        for ask in (rest.jobs, lambda: rest.submit(submission(config))):
            with pytest.raises((NoAnswer, Later), match=f"{words}.*: renew what file:") as error:
                await ask()
            said.append(str(error.value))
    token.write_text("two outdatedword")
    with pytest.raises(NoAnswer, match=f"what file:{token} holds is no token"):
        await rest.jobs()
    token.unlink()
    with pytest.raises(NoAnswer, match=f"no token for Slurm: {token} cannot be read"):
        await rest.jobs()
    token.write_text(server.token.read_text())
    assert await rest.jobs() is not None
    await rest.close()
    shown = " ".join([*said, repr(config), repr(vars(rest)), caplog.text])
    assert "outdatedword" not in shown
    assert server.token.read_text().split("=", 1)[1] not in shown


async def test_tokens_of_a_portal_and_of_a_program(canned, tmp_path):
    times, tokens = [0.0], ["first"]

    def jobs(headers):
        if headers["X-SLURM-USER-TOKEN"] != tokens[-1]:
            return 401, "Authentication failure"
        return 200, {"jobs": [], "errors": []}

    def portal(headers):
        good = "Basic " + base64.b64encode(b"me:pass word").decode()
        return (200, {"token": tokens[-1]}) if headers["Authorization"] == good else (403, "no")

    canned.answers |= {"/slurm/v0.0.41/jobs": jobs, "/portal": portal}
    (tmp_path / "password").write_text("pass word")
    (tmp_path / "printed").write_text("first")
    program = tmp_path / "give token"
    program.write_text(f"#!/bin/sh\necho SLURM_TOKEN=$(cat {tmp_path}/printed)\n")
    program.chmod(0o700)
    common = {**canned.options, "api_version": "v0.0.41"}
    url = f"http://127.0.0.1:{canned.port}/portal"
    ways = [
        {"portal_token": f"file:{tmp_path}/password", "portal_url": url},
        {"token_command": f"'{program}'"},
    ]
    for way in ways:
        tokens[:], times[0] = ["first"], 0.0
        (tmp_path / "printed").write_text("first")
        rest = Rest(SlurmRestConfig(**common, **way), clock=lambda: times[0])
        assert await rest.jobs() == []
        asked = len(canned.asked)
        assert await rest.jobs() == []
        assert len(canned.asked) == asked + 1  # the token is kept
        tokens.append("second")
        (tmp_path / "printed").write_text("second")
        # Whoever gives out bad tokens is not asked at every request.
        with pytest.raises(NoAnswer, match="does not accept the token of me: renew what"):
            await rest.jobs()
        times[0] = 100.0
        assert await rest.jobs() == []
        await rest.close()
    (tmp_path / "password").write_text("wrong")
    program.write_text("#!/bin/sh\necho no ticket >&2; exit 1\n")
    for way, words in zip(
        ways, ["gives me no token: HTTP 403", "gives no token: no ticket"], strict=True
    ):
        rest = Rest(SlurmRestConfig(**common, **way))
        with pytest.raises(NoAnswer, match=words):
            await rest.jobs()
        await rest.close()


async def test_which_version_is_spoken(slurmrestd, later_rest, canned, tmp_path):
    async def versions(config):
        rest = Rest(config)
        try:
            await rest.jobs()
        finally:
            await rest.close()
        return rest._version

    assert await versions(SlurmRestConfig(**slurmrestd.options)) == "v0.0.38"
    assert await versions(SlurmRestConfig(**slurmrestd.options, path="/slurm/v0.0.37")) == "v0.0.37"
    assert await versions(SlurmRestConfig(**later_rest.options)) == "v0.0.41"
    (tmp_path / "token").write_text("t")
    config = SlurmRestConfig(**canned.options, token=f"file:{tmp_path}/token")
    with pytest.raises(NoAnswer, match=r"has no version of slurmrestd .* host, port and path, or"):
        await versions(config)
    # One that lists nothing, and then is exchanged for another.
    canned.answers["/slurm/v0.0.42/ping"] = (200, {})
    canned.answers["/slurm/v0.0.42/jobs"] = (200, {"jobs": []})
    rest = Rest(config)
    assert await rest.jobs() == []
    canned.answers.clear()
    canned.answers["/openapi/v3"] = (200, {"paths": {"/slurm/v0.0.38/jobs": {}}})
    canned.answers["/slurm/v0.0.38/jobs"] = (200, {"jobs": []})
    with pytest.raises(NoAnswer, match=r"what was asked for \(v0.0.42\): HTTP 404"):
        await rest.jobs()
    assert await rest.jobs() == []
    await rest.close()


async def test_answers_that_are_none(canned, tmp_path):
    (tmp_path / "token").write_text("t")
    options = {**canned.options, "token": f"file:{tmp_path}/token", "api_version": "v0.0.38"}
    config = SlurmRestConfig(**options)
    rest = Rest(config)
    path = "/slurm/v0.0.38/jobs"
    for answer, words in (
        ((200, "<html>Welcome"), "has not answered with JSON: no slurmrestd is there"),
        (
            (502, "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"),
            "jobs has answered HTTP 502 Bad Gateway$",
        ),
        ((500, ""), "jobs has answered HTTP 500 Internal Server Error$"),
        ((500, "Oh no\nmore"), "HTTP 500 Internal Server Error: Oh no$"),
        ((500, {}), "has answered without a word: HTTP 500"),
        ((404, "<html>"), r"does not have what was asked for \(v0.0.38\): HTTP 404"),
        (
            (
                500,
                {"errors": [{"error": "Unable to contact slurm controller"}]},
            ),
            "Unable to con",
        ),
        (
            (500, {"errors": [{"error": "Unspecified error"}]}),
            "controller is away, or ",
        ),
        ((200, {"errors": [{"description": "half a list"}], "jobs": []}), "half a list"),
        ((401, "Authentication failure"), "does not accept the token of me: renew what file:"),
    ):
        canned.answers[path] = answer
        with pytest.raises(NoAnswer, match=words):
            await rest.jobs()
    submit = "/slurm/v0.0.38/job/submit"
    for answer, kind in (
        ((401, "Authentication failure"), Later),
        ((502, "Bad gateway: connection refused"), NoAnswer),
        ((503, "<title>Service Unavailable</title>"), NoAnswer),
        ((429, "slow down"), NoAnswer),
        ((404, "<html>nothing like that"), NoAnswer),
        ((400, {}), NoAnswer),
        ((500, {"errors": [{"error": "Protocol authentication error"}]}), Later),
        ((500, {"errors": [{"error": "Zero Bytes were transmitted or received"}]}), NoAnswer),
        ((500, {"errors": [{"error": "Unspecified error"}]}), NoAnswer),
        ((400, {"errors": [{"error": "Unspecified error"}]}), Refused),
        ((500, {"errors": [{"error": "Job violates accounting/QOS policy"}]}), Later),
        ((500, {"errors": [{"error": "Requested node configuration is not available"}]}), Refused),
        ((200, {"errors": []}), NoAnswer),
    ):
        canned.answers[submit] = answer
        with pytest.raises(SlurmError) as error:
            await rest.submit(submission(config))
        assert isinstance(error.value, kind), answer
    # Whatever else there is to say: it was taken.
    canned.answers[submit] = (200, {"job_id": 17, "errors": [{"error": "but slowly"}]})
    assert await rest.submit(submission(config)) == "17"
    await rest.close()
    canned.answers[path] = lambda headers: threading.Event().wait(0.5) or (200, {"jobs": []})
    rest = Rest(config, seconds=0.2)
    with pytest.raises(NoAnswer, match=r"has not answered within 0\.2 s"):
        await rest.jobs()
    await rest.close()
    rest = Rest(SlurmRestConfig(**{**options, "use_http": False}))
    with pytest.raises(NoAnswer, match=r"cannot be reached: .*WRONG_VERSION.*use_http: true"):
        await rest.jobs()
    await rest.close()
    rest = Rest(SlurmRestConfig(**{**options, "port": 1}))
    with pytest.raises(NoAnswer, match=r"http://127.*:1/slurm/v0.*/jobs cannot be reached"):
        await rest.jobs()
    await rest.close()


async def test_the_accounting_knows_what_the_controller_has_forgotten(slurmrestd, later_rest):
    rest = Rest(SlurmRestConfig(**later_rest.options))
    place = ("0123456789ab", "12", 3, None, 1000.0)
    assert await rest.ended(*place) is None
    record = {
        "job_id": 15,
        "array": {"job_id": 12, "task_id": {"set": True, "infinite": False, "number": 3}},
        "comment": {"job": "runtable:0123456789ab"},
        "state": {"current": ["CANCELLED"], "reason": "None"},
        "exit_code": {
            "status": ["SIGNALED"],
            "return_code": {"set": False, "infinite": False, "number": 0},
            "signal": {"id": {"set": True, "infinite": False, "number": 15}, "name": "Terminated"},
        },
        "kill_request_user": "somebody",
    }
    later_rest.recorded = [{**record, "comment": {"job": "other"}}, record]
    try:
        found = await rest.ended(*place)
        assert found is not None
        assert (found.number, found.state, found.exit_code) == ("15", "CANCELLED", 0)
        assert (found.signal, found.by) == (15, "somebody")
        later_rest.recorded = [{**record, "comment": {"job": "runtable:ba9876543210"}}]
        assert await rest.ended(*place) is None
        # Where comments are not kept, it is the one that ran when ours did.
        for start, ours in ((900, True), (1100, False)):
            times = {"start": start, "end": start + 150}
            later_rest.recorded = [{**record, "comment": {"job": ""}, "time": times}]
            assert (await rest.ended(*place) is not None) is ours
    finally:
        later_rest.recorded = []
        await rest.close()
    # There is none in the cluster of the real service.
    rest = Rest(SlurmRestConfig(**slurmrestd.options))
    assert await rest.ended(*place) is None
    await rest.close()


def test_words_and_numbers_of_both_shapes():
    texts = ["90", "1:30", "1:30:00", "2-12", "1-0:30:01"]
    assert list(map(rest_submission.minutes, texts)) == [90, 2, 90, 3600, 1471]
    with pytest.raises(Refused, match="time limit 'soon': write"):
        rest_submission.minutes("soon")
    sizes = ["100", "1500M", "16G", "100K", "1500k", "1T", None]
    assert list(map(rest_submission.megabytes, sizes)) == [100, 1500, 16384, 1, 2, 1048576, None]
    assert shapes.indices("1,3,5-9:2%4") == [1, 3, 5, 7, 9]
    assert shapes.indices("") == []
    assert shapes.indices("0,4,...%2")[:3] == [0, 4, 5]
    assert shapes.state_of("RUNNING") == shapes.state_of(["RUNNING"]) == "RUNNING"
    assert shapes.state_of(["FAILED", "LAUNCH_FAILED"]) == "FAILED"
    assert shapes.state_of(["RUNNING", "COMPLETING"]) == "COMPLETING"
    assert (shapes.exit_of(7 << 8), shapes.exit_of(9)) == ((7, 0), (0, 9))
    assert shapes.exit_of({"signal": {"signal_id": 9}}) == (0, 9)


def test_jobs_of_others_are_not_ours():
    waiting = {
        "job_id": 12,
        "array_job_id": 12,
        "array_task_id": None,
        "array_task_string": "0-2%1",
        "job_state": "PENDING",
        "comment": "runtable:0123456789ab",
        "user_name": "me",
        "exit_code": 0,
    }
    begun = {**waiting, "job_id": 13, "array_task_id": 1, "job_state": "RUNNING"}
    strangers = [{**waiting, "user_name": "you"}, {**waiting, "comment": None}]
    found = shapes.jobs_of([waiting, begun, *strangers], "me")
    assert sorted((job.index, job.state) for job in found) == [
        (0, "PENDING"),
        (1, "RUNNING"),
        (2, "PENDING"),
    ]


@pytest.mark.parametrize(
    "option", ["--gres", "--exclusive=user", "--mincpus=3", "--nice=no", "-x n1"]
)
def test_options_that_cannot_be_said_are_refused_in_the_configuration(option):
    with pytest.raises(ValueError, match="additional_options"):
        SlurmRestConfig(host="h", additional_options=[option])


def test_other_options_have_their_fields():
    options = ["--gres=gpu:2,shard:1", "--gpus=4", "--constraint=a&b", "--licenses=x:1"]
    config = SlurmRestConfig(host="h", additional_options=options)
    early = rest_submission.body(submission(config), {}, "v0.0.38")["job"]
    later = rest_submission.body(submission(config), {}, "v0.0.40")["job"]
    assert (early["gres"], early["gpus"]) == ("gpu:2,shard:1", "4")
    assert later["tres_per_node"] == "gres/gpu:2,gres/shard:1"
    assert later["tres_per_job"] == "gres/gpu:4"
    for job in (early, later):
        assert (job["constraints"], job["licenses"]) == ("a&b", "x:1")


def test_the_words_for_mails_have_others_in_later_versions():
    mails = {}
    for word in typing.get_args(MailType):
        job = submission(SlurmRestConfig(host="h", mail_type=word))
        assert rest_submission.body(job, {}, "v0.0.38")["job"]["mail_type"] == word
        mails[word] = rest_submission.body(job, {}, "v0.0.44")["job"]["mail_type"]
    known = {"BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "INVALID_DEPENDENCY", "TIME=100%"}
    assert set().union(*mails.values()) == known == {*mails["ALL"], *mails["TIME_LIMIT"]}
    assert mails["NONE"] == []
