"""Slurm by its programs: sbatch, squeue, scontrol, sacct, scancel and id, over a transport."""

import re
from collections.abc import Iterator, Sequence

from daemon.backends.slurm.said import is_gone, refusal
from daemon.backends.slurm.scheduler import (
    COMMENT,
    WHOLE,
    NoAnswer,
    Node,
    Partition,
    Reservation,
    SlurmJob,
    Submission,
    ran_then,
)
from daemon.backends.slurm.transport import Output, Transport

_LIST = "--format=%F|%K|%A|%T|%P|%N|%k|%r"
_RECORD = "JobID,State,ExitCode,Start,End"
_AT_ONCE = 500
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")


class Commands:
    """The programs of Slurm where `transport` leads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # A cluster without a database of jobs may have a file of them.
        self._sacct: list[str] | None = ["sacct"]

    async def submit(self, submission: Submission) -> str:
        """Queue an array with sbatch; see `Scheduler`."""
        command = ["sbatch", *options(submission)]
        done = await self._transport.run(
            command, submission.script.encode(errors="surrogateescape")
        )
        if done.code == 0 and (number := _last_line(done).partition(";")[0]).isdecimal():
            return number
        said = _words(done)
        if done.code == 0:
            raise NoAnswer(f"sbatch has given no number: {said}")
        raise refusal(said)

    async def jobs(self) -> list[SlurmJob]:
        """All jobs of ours that the controller remembers; see `Scheduler`."""
        command = ["squeue", "--me", "--all", "--array", "--noheader", "--states=all", _LIST]
        done = _checked(await self._transport.run(command))
        found = []
        for line in done.out.splitlines():
            fields = line.split("|", 7)
            if len(fields) == 8 and fields[6].startswith(COMMENT):
                array, index, number, state, partition, node, comment, reason = fields
                batch = comment.removeprefix(COMMENT)
                found.append(
                    SlurmJob(
                        batch=batch,
                        array=array,
                        index=int(index) if index.isdecimal() else WHOLE,
                        number=number,
                        state=state,
                        reason="" if reason == "None" else reason,
                        partition=partition,
                        node=node,
                    )
                )
        return found

    async def ended(
        self, batch: str, array: str, index: int, number: str | None, begun: float | None
    ) -> SlurmJob | None:
        """What scontrol, or else sacct, has on record; see `Scheduler`."""
        done = await self._transport.run(
            ["scontrol", "--oneliner", "show", "job", f"{array}_{index}"]
        )
        if done.code != 0 and not is_gone(done.err):
            raise NoAnswer(_words(done))
        # A folder's name may have more lines than one.
        for record in re.split(r"^(?=JobId=)", done.out, flags=re.MULTILINE):
            fields = dict(_FIELD.findall(record))
            if fields.get("Comment") == COMMENT + batch and fields.get("ArrayTaskId") == str(index):
                return _ended(batch, array, index, fields["JobId"], fields["JobState"], fields)
        return await self._recorded(batch, array, index, number, begun)

    async def _recorded(
        self, batch: str, array: str, index: int, number: str | None, begun: float | None
    ) -> SlurmJob | None:
        if self._sacct is None:
            return None
        from_file = "--completion" in self._sacct
        id_ = number if from_file else f"{array}_{index}"
        if id_ is None:
            return None
        columns = _RECORD if from_file else f"{_RECORD},Comment"
        shape = ["--noheader", "--parsable2", f"--format={columns}", f"--jobs={id_}"]
        done = await self._transport.run(["env", "SLURM_TIME_FORMAT=%s", *self._sacct, *shape])
        if "accounting storage is disabled" in done.err:
            self._sacct = None if from_file else ["sacct", "--completion"]
            return await self._recorded(batch, array, index, number, begun)
        if done.code != 0:
            raise NoAnswer(_words(done))
        found = None
        for line in done.out.splitlines():
            fields = line.split("|", 5)
            comment = "" if from_file else fields[-1]
            its_own = ran_then(fields[3], fields[4], begun) if not comment else False
            if fields[0] == id_ and (its_own or comment == COMMENT + batch):
                values = {"ExitCode": fields[2]}
                found = _ended(batch, array, index, number or "", fields[1], values)
        return found

    async def cancel(self, jobs: Sequence[tuple[str, int]]) -> None:
        """End jobs with scancel; see `Scheduler`."""
        ids = [f"{array}_{index}" for array, index in jobs]
        for start in range(0, len(ids), _AT_ONCE):
            done = await self._transport.run(["scancel", "--quiet", *ids[start : start + _AT_ONCE]])
            if done.code != 0 and not is_gone(done.err):
                raise NoAnswer(_words(done))

    async def partitions(self) -> list[Partition]:
        """The partitions, from scontrol."""
        return [
            Partition(
                name=fields["PartitionName"],
                up=fields.get("State") == "UP",
                default=fields.get("Default") == "YES",
                groups=None if fields.get("AllowGroups", "ALL") == "ALL" else _names(fields),
                hidden=fields.get("Hidden") == "YES",
                longest=fields.get("MaxTime", "less"),
            )
            for fields in await self._show("partition", "PartitionName")
        ]

    async def nodes(self) -> list[Node]:
        """The nodes, from scontrol."""
        return [
            Node(
                name=fields["NodeName"],
                partitions=fields.get("Partitions", "").split(","),
                cpus=int(fields["CPUTot"]),
                memory=int(fields["RealMemory"]),
            )
            for fields in await self._show("node", "NodeName")
        ]

    async def reservations(self) -> list[Reservation]:
        """The reservations, from scontrol."""
        return [
            Reservation(
                name=fields["ReservationName"],
                active=fields.get("State") == "ACTIVE",
                start=fields.get("StartTime", ""),
                end=fields.get("EndTime", ""),
                partition=_set(fields.get("PartitionName")),
                nodes=_set(fields.get("Nodes")) or "",
            )
            for fields in await self._show("reservation", "ReservationName")
        ]

    async def groups(self) -> list[str]:
        """The user's groups, from id."""
        # A group without a name is told as its number, and id then ends with 1.
        return _last_line(await self._transport.run(["id", "-Gn"])).split()

    async def close(self) -> None:
        """Let go of the transport."""
        await self._transport.close()

    async def _show(self, what: str, key: str) -> Iterator[dict[str, str]]:
        done = _checked(
            await self._transport.run(["scontrol", "--oneliner", "--all", "show", what])
        )
        lines = (dict(_FIELD.findall(line)) for line in done.out.splitlines())
        return (fields for fields in lines if key in fields)


def options(submission: Submission) -> list[str]:
    """The options of sbatch for an array."""
    config = submission.config
    given: dict[str, object] = {
        "--job-name": submission.name,
        "--comment": submission.comment,
        "--array": submission.array,
        "--chdir": submission.chdir,
        "--output": submission.output,
        "--error": submission.error,
        "--time": submission.time_limit,
        "--partition": submission.partition,
        "--reservation": submission.reservation,
        "--dependency": "afterany:" + ":".join(submission.after) if submission.after else None,
        "--nodelist": config.explicit_node,
        "--account": config.account,
        "--qos": config.qos,
        "--nodes": config.nodes,
        "--ntasks": config.ntasks,
        "--cpus-per-task": config.cpus_per_task,
        "--mem": config.memory,
        "--mail-type": config.mail_type,
        "--mail-user": config.mail_user,
    }
    set_ = [f"{name}={value}" for name, value in given.items() if value is not None]
    # An attempt is claimed once: one that is put back would find itself taken.
    always = ["--parsable", "--no-requeue", "--open-mode=append", "--input=/dev/null"]
    return [*always, *set_, *config.additional_options]


def _ended(
    batch: str, array: str, index: int, number: str, state: str, fields: dict[str, str]
) -> SlurmJob:
    """A job by what scontrol or sacct say of it: a state as "CANCELLED by 1000", a code as 0:9."""
    word, _, by = state.partition(" by ")
    code, _, number_of_signal = fields.get("ExitCode", "").partition(":")
    reason = fields.get("Reason", "")
    return SlurmJob(
        batch=batch,
        array=array,
        index=index,
        number=number,
        state=word.strip("+"),
        reason="" if reason == "None" else reason,
        exit_code=int(code) if code.isdecimal() else None,
        signal=int(number_of_signal) if number_of_signal.isdecimal() else None,
        by=by,
    )


def _set(value: str | None) -> str | None:
    return None if value in (None, "", "(null)") else value


def _names(fields: dict[str, str]) -> list[str]:
    return fields["AllowGroups"].split(",")


def _checked(done: Output) -> Output:
    if done.code != 0:
        raise NoAnswer(_words(done))
    return done


def _last_line(done: Output) -> str:
    """What a program has printed in one line: a login over SSH may greet before it."""
    return done.out.strip().rpartition("\n")[2]


def _words(done: Output) -> str:
    """What a program said about what went wrong, in one line."""
    lines = [line.strip() for line in (done.err or done.out).splitlines() if line.strip()]
    return "; ".join(lines) or f"exit code {done.code} without a word"
