import asyncio
import logging
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_helpers import make_event

from daemon.database import Database
from daemon.events.inbox import Inbox
from daemon.jobs.changes import UnknownJob
from daemon.jobs.job import Work
from daemon.jobs.parts import Later
from daemon.jobs.queue import RETRY_PAUSE, Queue
from daemon.jobs.records import Records
from daemon.jobs.states import OldAttempt, Refused, State, Who
from daemon.jobs.tables import MIGRATIONS

LOG = logging.getLogger("queue")


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def db(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    yield database
    await database.close()


@pytest.fixture
def inbox(db):
    return Inbox(db)


@pytest.fixture
def queue(db, clock):
    return make_queue(db, clock)


def make_queue(db, clock):
    numbers = count(1)
    return Queue(db, log=LOG, now=clock, new_id=lambda now: f"j{next(numbers)}")


def work(run=42, data="raw", **extra):
    return Work(
        **{"proposal": 1234, "run": run, "data": data, "source": "test", "live": False} | extra
    )


async def arrive(inbox, queue, *events):
    for event in events:
        await inbox.store(event)
    return [await queue.take(stored) for stored in await inbox.pending()]


CLUSTER = (Later("cluster"),)


async def end(queue, job, to=State.FINISHED, later=()):
    return await queue.finish(job, to, "", offsets={}, later=later)


async def test_an_event_becomes_a_job_once(inbox, queue):
    (job,) = await arrive(inbox, queue, make_event())
    assert (job.proposal, job.run, job.data, job.live) == (1234, 42, "raw", True)
    assert job.state is State.QUEUED
    assert await inbox.pending() == []
    (row,) = await inbox.recent(1)
    assert (row["state"], row["job"]) == ("done", job.id)
    (line,) = await queue.history(job.id)
    assert (line["was"], line["became"], line["who"]) == ("launching", "queued", "server")


async def test_a_queued_job_absorbs_and_a_running_one_is_followed(inbox, queue):
    first, same = await arrive(inbox, queue, make_event(key="1"), make_event(key="2"))
    assert first.id == same.id
    assert "absorbed event 2" in (await queue.history(first.id))[-1]["why"]
    running = await queue.claim()
    (following,) = await arrive(inbox, queue, make_event(key="3"))
    assert following.id != running.id == first.id
    assert await queue.claim() is None
    await end(queue, running)
    assert (await queue.claim()).id == following.id


async def test_only_the_same_work_absorbs(inbox, queue):
    await queue.create(
        [
            work(variables=("a",)),
            work(match=("x",)),
            work(mock=True),
            work(data="all"),
            work(data="proc"),
            work(43),
            work(proposal=99),
            work(params={"low": 5}),
        ]
    )
    (job,) = await arrive(inbox, queue, make_event())
    assert job.id == "j9"
    assert (await queue.get("j8")).params == {"low": 5}


async def test_a_backfill_that_absorbs_an_event_is_live(inbox, queue):
    (backfill,) = await queue.create([work()])
    (job,) = await arrive(inbox, queue, make_event())
    assert job.id == backfill.id
    assert (await queue.get(job.id)).live


async def test_a_job_with_results_absorbs_nothing(inbox, queue, clock):
    (first,) = await arrive(inbox, queue, make_event(key="1"))
    await queue.lose(await queue.claim(), "the node went down", max_attempts=3)
    (second,) = await arrive(inbox, queue, make_event(key="2"))
    assert second.id != first.id
    assert (await queue.claim()).id == first.id  # in their order, newer data last


async def test_a_job_that_was_given_back_untouched_absorbs(inbox, queue):
    (first,) = await arrive(inbox, queue, make_event(key="1"))
    await queue.give_back(await queue.claim(), "context.py is broken", ran=False)
    (second,) = await arrive(inbox, queue, make_event(key="2"))
    assert second.id == first.id
    assert second.waiting_reason == "context.py is broken"
    await queue.give_back(await queue.claim(), "context.py is broken", ran=True)
    (third,) = await arrive(inbox, queue, make_event(key="3"))
    assert third.id != first.id


@pytest.mark.parametrize("at_once", [1, 3])
async def test_at_most_so_many_of_some_works_run_at_once(queue, at_once):
    works = [work(run) for run in range(7)]
    jobs = await queue.create(works, at_once=at_once)
    assert [job.run for job in jobs] == list(range(7))
    done = []
    while len(done) < len(works):
        running = []
        while (job := await queue.claim()) is not None:
            running.append(job)
        assert 1 <= len(running) <= at_once
        for job in running:
            await queue.finish(job, State.FINISHED, "", offsets={})
        done += [job.run for job in running]
    assert done == list(range(7))


async def test_live_newest_first_then_backfill_in_order(inbox, queue):
    await queue.create([work(1), work(2), work(3)])
    await arrive(inbox, queue, make_event(10), make_event(11, key="x"), make_event(12, key="y"))
    order = [(await queue.claim()).run for _ in range(6)]
    assert order == [12, 11, 10, 1, 2, 3]
    assert await queue.claim() is None


async def test_never_two_of_the_same_run_and_data(queue, db):
    await queue.create([work(1), work(1), work(1, "proc"), work(1, "all"), work(2)])
    raw, proc, other = [await queue.claim() for _ in range(3)]
    assert (raw.id, proc.id, other.id) == ("j1", "j3", "j5")
    assert await queue.claim() is None
    told = {job["id"]: job["waiting_reason"] for job in await Records(db).recent(9)}
    assert told["j2"] == "waits for job j1, which is dispatched"
    assert told["j4"].startswith("waits for job j")
    assert told["j1"] == told["j5"] == ""
    await end(queue, raw)
    second = await queue.claim()
    assert second.id == "j2"
    await end(queue, second)
    assert await queue.claim() is None  # "all" is also proc
    await end(queue, proc)
    assert (await queue.claim()).id == "j4"


async def test_after_another_job(queue, db):
    (first,) = await queue.create([work(1)])
    await queue.create([work(2, after=first.id), work(3)])
    assert [(await queue.claim()).run for _ in range(2)] == [1, 3]
    assert await queue.claim() is None
    told = (await Records(db).job("j2"))["waiting_reason"]
    assert told == "waits for job j1, which is dispatched"
    await end(queue, await queue.get(first.id), State.FAILED)
    assert (await queue.claim()).run == 2


async def test_lost_attempts_are_used_up(queue, clock):
    (job,) = await queue.create([work()])
    await queue.create([work(43)])
    first = await queue.claim()
    assert await queue.lose(first, "killed", max_attempts=3) is State.QUEUED
    second = await queue.claim()
    assert (second.id, second.attempt) == (job.id, 2)  # at once
    await queue.lose(second, "killed", max_attempts=3)
    assert (await queue.claim()).run == 43  # others are not held up by the pause
    assert await queue.claim() is None
    clock.time += RETRY_PAUSE
    third = await queue.claim()
    assert await queue.lose(third, "killed", max_attempts=3) is State.FAILED
    failed = await queue.get(job.id)
    assert failed.reason == "killed (the last of 3 attempts that were lost)"
    assert failed.lost == 3


async def test_reports_of_an_old_attempt_are_refused(queue):
    await queue.create([work()])
    first = await queue.claim()
    await queue.lose(first, "lost from sight", max_attempts=3)
    await queue.claim()
    with pytest.raises(OldAttempt):
        await queue.transition(first, State.RUNNING, Who.OWNER, "here again")
    with pytest.raises(OldAttempt):
        await end(queue, first)
    with pytest.raises(OldAttempt):
        await queue.lose(first, "lost", max_attempts=3)


async def test_a_refused_change_changes_nothing(queue):
    await queue.create([work()])
    job = await queue.claim()
    before = await queue.history(job.id)
    with pytest.raises(Refused):
        await queue.finish(job, State.STOPPED, "", offsets={"a": 1}, later=CLUSTER)
    assert await queue.history(job.id) == before
    assert (await queue.get(job.id)).state is State.DISPATCHED
    assert await queue.progress(job) == (None, {})
    assert len(await queue.recent(10)) == 1


async def test_the_cluster_job_is_made_with_the_end_and_once(queue):
    await queue.create([work(variables=("a", "b"), match=("x",))])
    job = await queue.claim()
    await end(queue, job, later=CLUSTER)
    await end(queue, job, later=CLUSTER)  # the same report again
    follow_up = await queue.claim()
    assert follow_up.id == f"{job.id}-cluster"
    assert (follow_up.part, follow_up.backend) == ("cluster", "cluster")
    assert follow_up.inputs == (job.id,)
    assert (follow_up.variables, follow_up.match) == (("a", "b"), ("x",))
    assert len(await queue.recent(10)) == 2


async def test_jobs_are_found_with_those_that_follow_from_them(queue):
    await queue.create([work(), work(43)])
    job, other = await queue.claim(), await queue.claim()
    await end(queue, job, later=CLUSTER)
    follow_up = await end(queue, await queue.claim())
    await queue.set_combined(follow_up, again=["a"])
    found = [one.id for one in await queue.with_following([job.id])]
    assert found == [job.id, f"{job.id}-cluster", f"{job.id}-cluster-again"]
    assert [one.id for one in await queue.with_following([other.id, "none"])] == [other.id]


async def test_what_a_command_leaves_is_done_by_the_daemon(queue):
    await queue.create([work(backend="sequential")])
    job = await queue.claim()
    await end(queue, job, later=CLUSTER)
    await queue.set_combined(job, again=["a"])
    cluster = await queue.claim()
    assert (cluster.id, cluster.backend) == (f"{job.id}-cluster", "cluster")
    await queue.lose(cluster, "no process had begun with it", max_attempts=3)
    left = {one.id: one.backend for one in await queue.recent(10)}
    assert left == {
        job.id: "sequential",
        f"{job.id}-cluster": "cluster",
        f"{job.id}-again": "local",
    }


async def test_parts_run_beside_each_other_unless_one_needs_the_other(queue):
    await queue.create([work()])
    job = await queue.claim()
    later = [Later("gpu"), Later("cluster"), Later("gpu+2", ("cluster",))]
    await end(queue, job, later=later)
    assert await queue.waiting_for() == ["cluster", "gpu"]
    await queue.create([work()])
    first = [await queue.claim() for _ in range(3)]
    assert [j and (j.id, j.backend) for j in first] == [
        (f"{job.id}-gpu", "gpu"),
        (f"{job.id}-cluster", "cluster"),
        None,
    ]
    await end(queue, first[1])
    last = await queue.claim()
    assert last.inputs == (job.id, f"{job.id}-cluster")
    assert (last.part, last.backend) == ("gpu+2", "gpu")
    await end(queue, first[0])
    assert await queue.claim() is None  # the run again, after all its parts
    await end(queue, last)
    assert (await queue.claim()).part == ""


async def test_backends_without_room_hold_up_only_their_own(queue):
    works = [work(run, backend=b) for run, b in enumerate(["slow", "local", "slow", "gpu"])]
    ids = [job.id for job in await queue.create([*works, work(9, backend="slow", live=True)])]
    assert await queue.waiting_for() == ["gpu", "local", "slow"]
    assert (await queue.claim(["local", "gpu"])).id == ids[1]
    assert (await queue.claim(["local"])) is None
    assert (await queue.claim(["gpu", "slow"])).id == ids[4]  # live ones first, whatever for
    assert (await queue.claim(["gpu", "slow"])).id == ids[0]
    assert (await queue.claim(["gpu"])).id == ids[3]
    assert await queue.waiting_for() == ["slow"]
    await queue.hold_back("its controller is away", "slow")
    assert (await queue.get(ids[2])).waiting_reason == "its controller is away"


async def to_clean(queue):
    """The ids of the jobs whose fragments nobody needs."""
    found, place = [], 0

    def stays(job):
        found.append(job.id)
        return False

    while place is not None:
        place = await queue.clean(stays, place)
    return found


async def test_what_cannot_be_removed_is_not_in_the_way_of_the_rest(queue, monkeypatch):
    monkeypatch.setattr("daemon.jobs.endings.AT_ONCE", 2)
    ids = []
    for job in await queue.create([work(run) for run in range(5)]):
        await queue.set_combined(await end(queue, await queue.claim()))
        ids.append(job.id)
    assert await to_clean(queue) == ids
    place = await queue.clean(lambda _: False)
    await queue.clean(lambda _: True, place)
    assert await to_clean(queue) == [*ids[:2], ids[4]]


async def test_fragments_stay_while_the_cluster_job_needs_them(queue):
    await queue.create([work(), work(43)])
    job, other = await queue.claim(), await queue.claim()
    await end(queue, job, later=CLUSTER)
    await end(queue, other)
    assert [one.id for one in await queue.to_combine()] == [job.id, other.id]
    assert await to_clean(queue) == []
    await queue.set_combined(job)
    await queue.set_combined(other)
    assert await to_clean(queue) == [other.id]
    follow_up = await end(queue, await queue.claim())
    assert await to_clean(queue) == [other.id]
    assert not (await queue.get(follow_up.id)).settled
    await queue.set_combined(follow_up)
    assert await to_clean(queue) == [job.id, other.id, follow_up.id]
    await queue.clean(lambda _: True)
    assert await to_clean(queue) == []
    assert (await queue.get(job.id)).settled


async def test_results_that_cannot_be_combined_keep_their_fragments(queue):
    await queue.create([work(), work(43)])
    one = await end(queue, await queue.claim())
    two = await queue.finish(await queue.claim(), State.FAILED, "bad", offsets={})
    for job in (one, two):
        await queue.set_combined(job, "the file is damaged")
    assert [(await queue.get(job.id)).reason for job in (one, two)] == [
        "the file is damaged",
        "bad; the file is damaged",
    ]
    assert await to_clean(queue) == await queue.to_combine() == []
    assert (await queue.get(one.id)).settled


async def test_offsets_and_handle_belong_to_the_attempt(queue):
    await queue.create([work()])
    first = await queue.claim()
    await queue.save_offsets(first, {"journal.1.jsonl": 10})
    await queue.save_handle(first, "slurm:7")
    assert await queue.progress(first) == ("slurm:7", {"journal.1.jsonl": 10})
    await queue.lose(first, "", max_attempts=3)
    assert await queue.progress(await queue.claim()) == (None, {})


async def test_what_is_held_back_is_told_once(inbox, queue):
    await queue.create([work(1)])
    await arrive(inbox, queue, make_event(2))
    live, news = await queue.hold_back("broken")
    assert ([job.run for job in live], news) == ([2], True)
    assert await queue.hold_back("broken") == ([], False)
    await queue.create([work(3)])
    assert await queue.hold_back("broken") == ([], True)
    assert {job.waiting_reason for job in await queue.recent(9)} == {"broken"}
    assert (await queue.claim()).waiting_reason == ""


@pytest.mark.parametrize(
    ("column", "nonsense"), [("match", "{"), ("inputs", "7"), ("variables", "[1]")]
)
async def test_a_row_that_makes_no_sense_is_canceled_and_stops_nobody(
    queue, inbox, db, caplog, column, nonsense
):
    await queue.create([work(1), work(2), work(1)])
    await end(queue, await queue.claim())
    query = f"UPDATE jobs SET {column} = ? WHERE run = 2"
    await db.write(lambda connection: connection.execute(query, (nonsense,)))
    await queue.set_combined(await queue.get("j1"))
    assert [job.run for job in await queue.recent(9)] == [1, 1]
    assert len(await to_clean(queue)) == 1
    (job,) = await arrive(inbox, queue, make_event(2))
    assert job.id != "j2"
    await queue.cancel_unreadable()
    assert "the row of job j2 cannot be read" in caplog.text
    assert [(await queue.claim()).id for _ in range(2)] == [job.id, "j3"]
    assert await queue.counts() == {"canceled": 1, "dispatched": 2, "finished": 1}
    assert (await queue.history("j2"))[-1]["became"] == "canceled"


async def test_claiming_passes_over_a_row_that_makes_no_sense(queue, db):
    await queue.create([work(1), work(2)])
    change = "UPDATE jobs SET match = '{' WHERE run = 1"
    await db.write(lambda connection: connection.execute(change))
    assert (await queue.claim()).run == 2
    assert await queue.claim() is None


async def test_canceled_before_it_ran_is_settled(queue):
    (job,) = await queue.create([work()])
    await queue.transition(job, State.CANCELED, Who.OPS, "not needed")
    assert (await queue.get(job.id)).settled
    assert await queue.to_combine() == []


async def test_unknown_job(queue):
    with pytest.raises(UnknownJob, match="there is no job nope"):
        await queue.get("nope")


async def test_everything_outlives_the_daemon(queue, db, inbox, clock):
    await arrive(inbox, queue, make_event())
    job = await queue.claim()
    await db.close()
    again = Database(db.path, migrations=MIGRATIONS, wal=True)
    assert await make_queue(again, clock).active() == [job]
    await again.close()


async def test_choosing_stays_quick_in_a_long_queue(queue, db):
    works = [work(run, after=None) for run in range(5000)]
    await queue.create(works)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(20):
        await queue.claim()
    assert loop.time() - began < 5  # a scan of all rows for each would take far longer


deliveries = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(1, 2), st.sampled_from(["raw", "proc"])),
        st.tuples(st.just("claim"), st.none(), st.none()),
        st.tuples(st.just("end"), st.sampled_from(["finish", "lose", "give back"]), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(deliveries)
def test_whatever_comes_each_event_is_followed_by_a_whole_run(tmp_path_factory, steps):
    """After its last event, every run and data is computed from the start at least once."""
    path = tmp_path_factory.mktemp("queue") / "daemon.sqlite"

    async def play():
        database, clock = Database(path, migrations=MIGRATIONS, wal=True), Clock()
        inbox, queue = Inbox(database), make_queue(database, clock)
        last_event, last_start, running, fresh = {}, {}, [], {}
        try:
            for number, step in enumerate(
                [*steps, *[("claim",) * 3, ("end", "finish", None)] * 60]
            ):
                clock.time += RETRY_PAUSE * 10
                if step[0] == "event":
                    await arrive(inbox, queue, make_event(step[1], step[2], key=str(number)))
                    last_event[step[1:]] = number
                elif step[0] == "claim":
                    job = await queue.claim()
                    if job is not None:
                        assert all((j.run, j.data) != (job.run, job.data) for j in running)
                        running.append(job)
                        fresh.setdefault(job.id, number)
                elif running:
                    job = running.pop(0)
                    if step[1] == "lose":
                        await queue.lose(job, "", max_attempts=100)
                    elif step[1] == "give back":
                        await queue.give_back(job, "", ran=False)
                        if job.lost == 0:
                            del fresh[job.id]
                    else:
                        await end(queue, job)
                        last_start[job.run, job.data] = fresh[job.id]
            assert running == []
            for run, number in last_event.items():
                assert last_start[run] > number
        finally:
            await database.close()

    asyncio.run(play())


async def test_ids_that_were_given_out_are_not_given_again(db, clock, inbox):
    ids = iter(["j1", "j1", "j2", "j2", "j1", "j3"])
    queue = Queue(db, log=LOG, now=clock, new_id=lambda now: next(ids))
    first, second = await queue.create([work(1), work(2)])
    (third,) = await arrive(inbox, queue, make_event(3))
    assert [first.id, second.id, third.id] == ["j1", "j2", "j3"]
    assert [(await queue.get(f"j{n}")).run for n in (1, 2, 3)] == [1, 2, 3]


async def test_what_is_asked_often_reads_no_long_queue(db, queue):
    await queue.create([work(run) for run in range(10)])
    asked = []
    await db.read(lambda connection: connection.set_trace_callback(asked.append))
    await queue.next_due()
    await db.read(lambda connection: connection.set_trace_callback(None))
    (query,) = [text for text in asked if text.startswith("SELECT")]
    ((*_, plan),) = await db.read(lambda c: c.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    assert plan == "SEARCH jobs USING INDEX due_jobs"


async def test_the_history_says_who_did_it(db, clock):
    queue = Queue(db, log=LOG, now=clock, by="amore@exfl1")
    await queue.create([work()])
    job = await queue.claim()
    await queue.transition(job, State.RUNNING, Who.OWNER, "claimed", "amore@exfl2")
    await queue.lose(job, "gone", max_attempts=3)
    job = await queue.claim()
    await queue.finish(job, State.FINISHED, "", offsets={}, by="amore@exfl3")
    told = [(row["became"], row["who"], row["by"]) for row in await queue.history(job.id)]
    assert told == [
        ("queued", "server", "amore@exfl1"),
        ("dispatched", "claim", "amore@exfl1"),
        ("running", "owner", "amore@exfl2"),
        ("queued", "lease", "amore@exfl1"),
        ("dispatched", "claim", "amore@exfl1"),
        ("running", "owner", "amore@exfl3"),
        ("finished", "owner", "amore@exfl3"),
    ]


async def test_a_state_that_is_no_text_is_counted(queue, db):
    await queue.create([work(1), work(2)])
    query = "UPDATE jobs SET state = X'6261FF' WHERE run = 1"
    await db.write(lambda connection: connection.execute(query))
    assert await queue.counts() == {"ba\ufffd": 1, "queued": 1}


async def test_a_job_that_pauses_is_due_when_the_clock_has_stepped_back(queue, clock):
    await queue.create([work()])
    for _ in range(2):
        await queue.lose(await queue.claim(), "the node went down", max_attempts=9)
    assert await queue.claim() is None
    clock.time -= 3600
    assert await queue.claim() is not None
