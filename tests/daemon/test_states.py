import sqlite3

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from daemon.database import run_script
from daemon.jobs import changes
from daemon.jobs.job import Work
from daemon.jobs.states import (
    ACTIVE,
    TERMINAL,
    TRANSITIONS,
    OldAttempt,
    Refused,
    State,
    Who,
    next_state,
)
from daemon.jobs.tables import MIGRATIONS

# As the design has it: from, to, who.
TABLE = """
launching queued server
queued dispatched claim
queued canceled server,ops
queued failed ops
dispatched running owner
dispatched failed owner,lease,ops
dispatched queued lease
dispatched stop_requested server,ops
dispatched canceled server,ops
running finished owner
running failed owner,lease,ops
running queued lease
running stop_requested server,ops
stop_requested stopped owner
stop_requested finished owner
stop_requested failed owner,lease,ops
stopped queued ops
finished queued ops
failed queued ops
canceled queued ops
"""
ALLOWED = {
    (State(was), State(to), Who(who))
    for was, to, whos in (line.split() for line in TABLE.strip().splitlines())
    for who in whos.split(",")
}


def test_the_table_is_the_design():
    assert {(*pair, who) for pair, whos in TRANSITIONS.items() for who in whos} == ALLOWED


@pytest.mark.parametrize("who", Who)
@pytest.mark.parametrize("to", State)
@pytest.mark.parametrize("was", State)
def test_every_change_is_granted_or_refused_by_the_table(was, to, who):
    if was is to or (was, to, who) in ALLOWED:
        assert next_state(was, to, who) is to
    elif (was, to, who) == (State.STOP_REQUESTED, State.RUNNING, Who.OWNER):
        assert next_state(was, to, who) is State.STOP_REQUESTED
    else:
        with pytest.raises(Refused, match=f"{was}.*{to}"):
            next_state(was, to, who)


def test_ended_is_for_ever_and_from_everywhere_there_is_an_end():
    out = {
        (pair[1], who) for pair, whos in TRANSITIONS.items() if pair[0] in TERMINAL for who in whos
    }
    assert out == {(State.QUEUED, Who.OPS)}
    for state in set(State) - TERMINAL:
        reachable, found = {state}, True
        while found:
            found = {to for was, to in TRANSITIONS if was in reachable} - reachable
            reachable |= found
        assert reachable & TERMINAL


def connect():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    for script in MIGRATIONS:
        run_script(connection, script)
    return connection


class StoredJob(RuleBasedStateMachine):
    """One stored job, and anyone asking anything of it in any order."""

    MAX_ATTEMPTS = 3

    @initialize()
    def make(self):
        self.connection, self.now = connect(), 100.0
        work = Work(proposal=1, run=2, data="raw", source="test", live=True)
        changes.insert(self.connection, work, "j", changes.Stamp(self.now))
        self.state, self.attempt, self.lost = State.QUEUED, 0, 0
        self.trail = [(State.LAUNCHING, State.QUEUED)]

    def teardown(self):
        if hasattr(self, "connection"):
            self.connection.close()

    def moved(self, to):
        if to is not self.state:
            self.lost = 0 if self.state in TERMINAL else self.lost
            self.trail.append((self.state, to))
            self.attempt += to is State.DISPATCHED
            self.state = to

    @rule(to=st.sampled_from(State), who=st.sampled_from(Who), behind=st.integers(0, 2))
    def ask(self, to, who, behind):
        self.now += 1
        reported = self.attempt - behind
        asked = (self.connection, "j", reported, to, who, "why", changes.Stamp(self.now, "me"))
        if behind:
            with pytest.raises(OldAttempt):
                changes.move(*asked)
        elif (self.state, to, who) in ALLOWED or to is self.state:
            assert changes.move(*asked) is to
            self.moved(to)
        elif (self.state, to, who) == (State.STOP_REQUESTED, State.RUNNING, Who.OWNER):
            assert changes.move(*asked) is State.STOP_REQUESTED
        else:
            with pytest.raises(Refused):
                changes.move(*asked)

    @rule()
    def lose(self):
        lose = {"max_attempts": self.MAX_ATTEMPTS, "pause": 5.0, "longest": 60.0}
        if self.state not in ACTIVE:
            with pytest.raises(Refused):
                changes.lose(
                    self.connection, "j", self.attempt, "gone", changes.Stamp(self.now), **lose
                )
            return
        state = changes.lose(
            self.connection, "j", self.attempt, "gone", changes.Stamp(self.now), **lose
        )
        self.lost += 1
        last = self.lost >= self.MAX_ATTEMPTS or self.state is State.STOP_REQUESTED
        assert state is (State.FAILED if last else State.QUEUED)
        self.moved(state)

    @rule(ran=st.booleans())
    def give_back(self, ran):
        if self.state in (State.DISPATCHED, State.RUNNING):
            changes.give_back(
                self.connection, "j", self.attempt, "not now", changes.Stamp(self.now), ran=ran
            )
            self.moved(State.QUEUED)

    @invariant()
    def stored_as_told(self):
        if not hasattr(self, "connection"):
            return
        row = changes.row_of(self.connection, "j")
        assert (row["state"], row["attempt"], row["lost"]) == (self.state, self.attempt, self.lost)
        assert (row["ended"] is not None) is (self.state in TERMINAL)
        history = self.connection.execute("SELECT * FROM history ORDER BY id").fetchall()
        assert [(line["was"], line["became"]) for line in history] == self.trail
        open_attempts = self.connection.execute(
            "SELECT number FROM attempts WHERE outcome IS NULL"
        ).fetchall()
        present = [self.attempt] if self.state in ACTIVE else []
        assert [row["number"] for row in open_attempts] == present


StoredJob.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
TestStoredJob = StoredJob.TestCase
