import json
from contextlib import closing
from dataclasses import asdict, dataclass

from ctxlib import claim
from ctxlib.deferred import deferred, lost_errors, running_when_lost
from ctxlib.journal import JournalWriter


@dataclass
class Node:
    name: str
    dependencies: tuple[str, ...] = ()


def test_what_was_running_and_what_needs_it_go_last():
    nodes = [Node("a"), Node("b", ("a",)), Node("c", ("b",)), Node("d"), Node("e", ("c", "d"))]
    assert [node.name for node in deferred(nodes, {"b"})] == ["a", "d", "b", "c", "e"]
    assert deferred(nodes, set()) == nodes
    assert deferred(nodes, {"not there any more"}) == nodes


def test_each_earlier_attempt_tells_what_it_was_at(tmp_path):
    lines = [
        [("started", "a"), ("finished", "a"), ("started", "b")],
        [("started", "c"), ("failed", "c")],
        [("started", "d")],
        [("started", "b"), ("progress", "b")],
    ]
    for number, said in enumerate(lines, 1):
        (tmp_path / str(number)).mkdir()
        journal = JournalWriter(tmp_path / str(number) / "journal.1.jsonl")
        for kind, variable in said:
            journal.write(kind, variable=variable)
        journal.close()
    assert running_when_lost(tmp_path / "1") == {}
    assert running_when_lost(tmp_path / "3") == {"b": [1]}
    assert lost_errors(running_when_lost(tmp_path / "4"), 3) == {}
    lost = running_when_lost(tmp_path / "5")
    assert lost == {"b": [1, 4], "d": [3]}
    message = "its job was lost while it ran, in attempts 1 and 4"
    assert lost_errors(lost, 4) == {}
    assert lost_errors(lost, 3) == {"b": {"type": "Killed", "message": message, "traceback": ""}}


def test_a_restart_of_the_host_is_nobodys_doing(tmp_path):
    attempt = tmp_path / "1"
    attempt.mkdir()
    made = claim.make(attempt, "fork")
    with closing(JournalWriter(attempt / "journal.1.jsonl")) as journal:
        journal.write("started", variable="a")
    assert running_when_lost(tmp_path / "2") == {"a": [1]}
    (attempt / claim.NAME).write_text(json.dumps({**asdict(made), "boot_id": "another"}))
    assert running_when_lost(tmp_path / "2") == {}
