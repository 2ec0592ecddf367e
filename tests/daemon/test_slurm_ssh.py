"""Slurm over SSH, with a real server and a real cluster."""

import asyncio
import os

import pytest
from job_helpers import make_job, times_started, values
from slurm_helpers import slurm_bench, until

from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.scheduler import NoAnswer, Refused
from daemon.backends.slurm.ssh import Ssh

NAP = """
import time
from damnit_ctx import Variable

@Variable
def nap(run):
    time.sleep(2)
    return 1
"""


class Cut(Ssh):
    """A connection that is lost as soon as a program has been started for the first time."""

    def __init__(self, config, server, *programs):
        super().__init__(config, pauses=[0.2])
        self.server = server
        self.programs = set(programs)
        self.asked = []

    async def run(self, command, stdin=b""):
        self.asked.append(command[0])
        if command[0] not in self.programs:
            return await super().run(command, stdin)
        self.programs.discard(command[0])
        # It does its work, and nobody hears of that.
        task = asyncio.create_task(super().run(["sh", "-c", '"$@"; sleep 30', "", *command], stdin))
        await asyncio.sleep(0.4)
        self.server.cut()
        return await task


async def test_the_connection_is_lost_while_jobs_wait_and_run(slurm_cluster, ssh_server, tmp_path):
    attempts = [
        make_job(tmp_path, f"j{n}", context=NAP, run=n, log=str(tmp_path / f"{n}.out"))
        for n in (1, 2)
    ]
    options = {**ssh_server.options, "concurrent_jobs": 1}
    place = Cut(SlurmSshConfig(**options), ssh_server, "sbatch")
    logins = ssh_server.logins()
    bench_options = {"kind": SlurmSshConfig, "scheduler": Commands(place), **options}
    async with slurm_bench(tmp_path, slurm_cluster, **bench_options) as bench:
        handles = await bench.submit(attempts)
        await bench.until(handles[:1], lambda _: times_started(attempts[0])["nap"])
        ssh_server.stop()
        answers = await bench.until(handles, lambda status: "does not answer" in status.reason)
        assert {status.state for status in answers.values()} == {"running"}
        assert "127.0.0.1" in answers["j1/1"].reason
        ssh_server.start()
        answers = await bench.end(handles)
    assert {(status.state, status.reason) for status in answers.values()} == {("ended", "")}
    assert [(times_started(a), values(a)) for a in attempts] == [({"nap": 1}, {"nap": 1})] * 2
    assert place.asked.count("sbatch") == 1
    # One connection for everything, and one more after each loss.
    assert ssh_server.logins() - logins == 3


async def test_programs_over_one_connection(ssh_server):
    place = Ssh(SlurmSshConfig(**ssh_server.options))
    logins = ssh_server.logins()
    awkward = ["a b", "$HOME `id` 'x' \"y\"", "", "*", "two\nlines\t\\ é", "-n"]
    try:
        done = await place.run(["printf", r"%s\0", *awkward])
        assert done.out.split("\0") == [*awkward, ""]
        assert (await place.run(["sh", "-c", "cat; echo no >&2; exit 3"], b"in\xff")).code == 3
        together = await asyncio.gather(*(place.run(["echo", str(n)]) for n in range(20)))
        assert [done.out for done in together] == [f"{n}\n" for n in range(20)]
        with pytest.raises(Refused, match=r"nothing-such is not on PATH on 127\.0\.0\.1"):
            await place.run(["nothing-such"])
        with pytest.raises(NoAnswer, match="was lost during sh"):
            await place.run(["sh", "-c", "kill -9 $$"])
        assert (await place.run(["echo", "still there"])).out == "still there\n"
    finally:
        await place.close()
    assert ssh_server.logins() - logins == 1
    hasty = Ssh(SlurmSshConfig(**ssh_server.options), seconds=0.5)
    with pytest.raises(NoAnswer, match=r"sleep has not ended within 0\.5 s on 127"):
        await hasty.run(["sleep", "20"])
    await hasty.close()


async def test_who_is_not_known_is_not_talked_to(ssh_server, tmp_path):
    ssh_server.make_key(tmp_path / "other")
    public = (tmp_path / "other.pub").read_text()
    (tmp_path / "wrong").write_text(f"[127.0.0.1]:{ssh_server.port} {public}")
    (tmp_path / "nobody").write_text("")
    wrong = {
        "known_hosts": (tmp_path / "wrong", "the key of 127.0.0.1 is not the one in .*/wrong"),
        "known_hosts ": (tmp_path / "nobody", "ssh-keyscan -p"),
        "known_hosts  ": (tmp_path / "missing", "ssh-keyscan -p"),
        "key_file": (tmp_path / "other", "does not let .* in with .*/other"),
        "key_file ": (tmp_path / "gone", "cannot be reached: .*gone"),
        "port": (1, "port 1 cannot be reached"),
    }
    for name, (value, words) in wrong.items():
        value = value if isinstance(value, int) else str(value)
        options = {**ssh_server.options, name.strip(): value}
        with pytest.raises(NoAnswer, match=words):
            await Ssh(SlurmSshConfig(**options)).run(["true"])


async def test_pauses_between_tries_grow(ssh_server, tmp_path):
    logins = (ssh_server.folder / "sshd.log").read_text().count("Connection from")
    options = {**ssh_server.options, "key_file": str(tmp_path / "key")}
    ssh_server.make_key(tmp_path / "key")
    times = [0.0]
    place = Ssh(SlurmSshConfig(**options), pauses=[1, 5], clock=lambda: times[0])

    async def tries():
        with pytest.raises(NoAnswer, match="does not let"):
            await place.run(["true"])
        log = (ssh_server.folder / "sshd.log").read_text()
        return log.count("Connection from") - logins

    assert await tries() == 1
    for now, count in [(0.9, 1), (1.1, 2), (2.2, 2), (6.2, 3), (11.0, 3), (11.3, 4)]:
        times[0] = now
        assert await tries() == count
    for name in ("key", "key.pub"):
        (tmp_path / name).unlink()
        os.link(ssh_server.folder / name, tmp_path / name)
    times[0] = 20.0
    assert (await place.run(["echo", "in"])).out == "in\n"
    await place.close()


async def test_a_beamtime_names_machine_user_and_key(slurm_cluster, ssh_server, tmp_path):
    metadata = tmp_path / "beamtime.json"
    (tmp_path / "key").symlink_to(ssh_server.key_file)
    options = {key: ssh_server.options[key] for key in ("port", "known_hosts")}
    config = SlurmSshConfig(beamtime_metadata=str(metadata), **options)
    place = Ssh(config, pauses=[0])
    with pytest.raises(NoAnswer, match=r"beamtime.json is no metadata of a beamtime"):
        await place.run(["id", "-un"])
    words = '"reservedNodes": ["127.0.0.1"], "sshPrivateKeyPath": "key", "userAccount": "root"'
    metadata.write_text(f'{{"onlineAnalysis": {{{words}, "slurmPartition": "low"}}}}')
    assert (await place.run(["id", "-un"])).out == "root\n"
    await place.close()
    (tmp_path / "db").mkdir()
    attempt = make_job(tmp_path / "db", "j1", context=NAP.replace("2", "0"), run=1)
    async with slurm_bench(
        tmp_path / "db",
        slurm_cluster,
        kind=SlurmSshConfig,
        beamtime_metadata=str(metadata),
        **options,
    ) as bench:
        (handle,) = await bench.submit([attempt])
        await bench.end([handle])
        await until(lambda: bench.queue("%P|%k", "--states=all"))
        assert bench.queue("%P", "--states=all", "--sort=-i")[0] == ["low"]
    assert values(attempt) == {"nap": 1}
