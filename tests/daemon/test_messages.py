import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.events import MigrationEvent
from daemon.events.messages import BadMessage, parse_message


def parse(payload, **extra):
    return parse_message(payload, source="notify", key="delivery", now=7.0, **extra)


def test_own_format():
    event = parse('{"proposal": 1234, "run": 42, "data": "proc", "key": "mine"}')
    assert event == MigrationEvent(1234, 42, "proc", "notify", "mine", 7.0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("migration_complete", "raw"),
        ("daq_run_complete", "raw"),
        ("run_corrections_complete", "proc"),
        ("online_correction_complete", "proc"),
    ],
)
def test_kafka_events(name, data):
    payload = json.dumps({"event": name, "proposal": "p001234", "run": "r0042", "x": 1}).encode()
    assert parse(payload) == MigrationEvent(1234, 42, data, "notify", "delivery", 7.0)


@pytest.mark.parametrize("run", [42, "42", "r0042", "R42", " 0042 "])
@pytest.mark.parametrize("proposal", [1234, "1234", "p001234", "P1234"])
def test_numbers_as_they_are_written(run, proposal):
    event = parse({"proposal": proposal, "run": run, "data": "raw"})
    assert (event.proposal, event.run) == (1234, 42)


def test_proposal_of_the_folder():
    assert parse({"run": 1, "data": "raw"}, proposal=99).proposal == 99
    assert parse({"run": 1, "data": "raw", "proposal": 5}, proposal=99).proposal == 5


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        ("[1]", "a JSON object is needed, this is [1]"),
        ("null", "a JSON object is needed"),
        ("[" * 100_000, "not JSON"),
        ({"run": 1, "data": "raw"}, '"proposal" is missing'),
        ({"proposal": 1, "data": "raw"}, '"run" is missing'),
        ({"proposal": 1, "run": None, "data": "raw"}, '"run" is missing'),
        ({"proposal": 1, "run": "x", "data": "raw"}, '"run" is "x"; it must be a number'),
        ({"proposal": 1, "run": True, "data": "raw"}, '"run" is true'),
        ({"proposal": 1, "run": 1.5, "data": "raw"}, '"run" is 1.5'),
        ({"proposal": 1, "run": -1, "data": "raw"}, '"run" is -1'),
        ({"proposal": 1, "run": 2**70, "data": "raw"}, '"run" is 1180591620717411303424'),
        ({"proposal": "r0001", "run": 1, "data": "raw"}, '"proposal" is "r0001"'),
        ({"proposal": 1, "run": 1, "data": "RAW"}, '"data" is "RAW"; it must be "raw" or "proc"'),
        ({"proposal": 1, "run": 1, "data": ["raw"]}, '"data" is ["raw"]'),
        ({"proposal": 1, "run": 1}, 'neither "data"'),
        ({"proposal": 1, "run": 1, "event": "lunch"}, '"event" is "lunch"; known events are'),
        ({"proposal": 1, "run": 1, "event": ["lunch"]}, '"event" is ["lunch"]'),
        ({"proposal": 1, "run": 1, "data": "raw", "key": ""}, '"key" is ""'),
        ({"proposal": 1, "run": 1, "data": "raw", "key": 7}, '"key" is 7'),
    ],
)
def test_bad_messages_say_why(payload, reason):
    with pytest.raises(BadMessage) as caught:
        parse(payload)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
fields = st.sampled_from(["proposal", "run", "data", "event", "key", "other"])


@given(st.binary() | st.text() | st.dictionaries(fields, json_values))
def test_anything_is_an_event_or_a_bad_message(payload):
    with suppress(BadMessage):
        event = parse(payload)
        assert event.data in ("raw", "proc")
        assert 0 <= event.run < 2**31
