"""Slurm over SSH, with a real server and a real cluster."""

import asyncio
import os
import subprocess

import psutil
import pytest
from job_helpers import make_job, times_started, values
from slurm_helpers import slurm_bench, until

from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.scheduler import NoAnswer, NotAsked, Refused
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
        await until(lambda: ssh_server.logins() - logins == 2)
        ssh_server.stop()
        try:
            answers = await bench.until(handles, lambda status: "cannot be" in status.reason)
        finally:
            ssh_server.start()
        assert {status.state for status in answers.values()} == {"running"}
        assert "127.0.0.1" in answers["j1/1"].reason
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
        together = await asyncio.gather(*(place.run(["echo", str(n)]) for n in range(12)))
        assert [done.out for done in together] == [f"{n}\n" for n in range(12)]
        with pytest.raises(Refused, match=r"nothing-such is not on PATH on 127\.0\.0\.1"):
            await place.run(["nothing-such"])
        with pytest.raises(NoAnswer, match=r"sh was killed on 127\.0\.0\.1"):
            await place.run(["sh", "-c", "kill -9 $$"])
        assert (await place.run(["echo", "still there"])).out == "still there\n"
    finally:
        await place.close()
    assert ssh_server.logins() - logins == 1


def running(*command):
    """How many programs run with exactly these arguments."""
    found = psutil.process_iter(["cmdline"])
    return sum(process.info["cmdline"] == list(command) for process in found)


async def test_programs_that_hang_are_not_in_the_way_of_others(ssh_server):
    logins = ssh_server.logins()
    hasty = Ssh(SlurmSshConfig(**ssh_server.options), seconds=0.6)
    with pytest.raises(NoAnswer, match=r"sleep has not ended within 0\.6 s on 127\.0\.0\.1"):
        await hasty.run(["sleep", "97"])
    await until(lambda: not running("sleep", "97"))
    await hasty.close()
    # Those that cannot be ended stay behind with their connection, which takes ten.
    place = Ssh(SlurmSshConfig(**ssh_server.options))
    place._slots = asyncio.Semaphore(20)
    stuck = [asyncio.create_task(place.run(["sleep", "20.5"])) for _ in range(10)]
    await until(lambda: running("sleep", "20.5") == 10)
    with pytest.raises(NoAnswer, match="has not let echo begin on the connection: open failed"):
        await place.run(["echo", "in"])
    assert (await place.run(["echo", "in"])).out == "in\n"
    for error in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(error, NoAnswer)
    assert ssh_server.logins() - logins == 3
    await place.close()


async def test_who_is_not_known_is_not_talked_to(ssh_server, tmp_path):
    ssh_server.make_key(tmp_path / "other")
    public = (tmp_path / "other.pub").read_text()
    (tmp_path / "wrong").write_text(f"[127.0.0.1]:{ssh_server.port} {public}")
    (tmp_path / "nobody").write_text("")
    (tmp_path / "text").write_text("no key")
    named = rf"\[127\.0\.0\.1\]:{ssh_server.port}"
    add = r"`ssh-keyscan -p \d+ 127.0.0.1` prints .* add that to .*"
    wrong = [
        ("known_hosts", "wrong", f"the key of {named} is not the one in .*/wrong: .*ssh-keygen -R"),
        ("known_hosts", "nobody", f"no key of {named} is known in .*/nobody: {add}/nobody once"),
        ("known_hosts", "missing", f"no key of {named} is known in .*/missing: {add}/missing once"),
        ("key_file", "other", r"does not let \w+ in with .*/other: add what is in .*/other.pub"),
        ("key_file", "gone", "^/.*/gone cannot be read: No such file or directory"),
        ("key_file", "text", "^key_file .*/text is no private key that can be used: Invalid"),
    ]
    for name, file, words in wrong:
        options = {**ssh_server.options, name: str(tmp_path / file)}
        with pytest.raises(NotAsked, match=words):
            await Ssh(SlurmSshConfig(**options)).run(["true"])
    with pytest.raises(NotAsked, match="port 1 cannot be reached"):
        await Ssh(SlurmSshConfig(**{**ssh_server.options, "port": 1})).run(["true"])


async def test_a_key_with_a_passphrase_is_used_when_an_agent_has_it(
    ssh_server, tmp_path, monkeypatch
):
    key, ask = tmp_path / "locked", tmp_path / "ask"
    ssh_server.make_key(key, passphrase="open sesame")
    known = ssh_server.folder / "authorized_keys"
    known.write_text(known.read_text() + (tmp_path / "locked.pub").read_text())
    with_key = {**ssh_server.options, "key_file": str(key)}
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(NoAnswer, match=f"has a passphrase, and no agent has it: .*`ssh-add {key}`"):
        await Ssh(SlurmSshConfig(**with_key)).run(["true"])
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    ask.write_text("#!/bin/sh\necho open sesame\n")
    ask.chmod(0o700)
    with subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"]) as agent:
        try:
            await until((tmp_path / "agent").exists)
            asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(["ssh-add", "-q", key], env=asking, check=True)
            without = {name: value for name, value in with_key.items() if name != "key_file"}
            for options in (with_key, without):
                place = Ssh(SlurmSshConfig(**options))
                assert (await place.run(["echo", "in"])).out == "in\n"
                await place.close()
        finally:
            agent.terminate()


async def test_what_stands_in_the_users_ssh_configuration(ssh_server, tmp_path, monkeypatch):
    """A machine behind another one, by a name of the user's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(ssh_server.known_hosts.read_text())
    common = f"HostName 127.0.0.1\n Port {ssh_server.port}\n IdentityFile {ssh_server.key_file}\n"
    (tmp_path / ".ssh/config").write_text(
        f"Host gate\n {common}\nHost cluster\n {common} ProxyJump gate\n"
    )
    logins = ssh_server.logins()
    place = Ssh(SlurmSshConfig(host="cluster", use_additional_ssh_options=False))
    assert (await place.run(["echo", "in"])).out == "in\n"
    await place.close()
    assert ssh_server.logins() - logins == 2
    with pytest.raises(NoAnswer, match="cluster port 22 cannot be reached"):
        await Ssh(SlurmSshConfig(host="cluster")).run(["true"])


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
