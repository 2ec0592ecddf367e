from dataclasses import dataclass

from ctxlib.deferred import deferred, running_when_lost
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
    ]
    for number, said in enumerate(lines, 1):
        (tmp_path / str(number)).mkdir()
        journal = JournalWriter(tmp_path / str(number) / "journal.1.jsonl")
        for kind, variable in said:
            journal.write(kind, variable=variable)
        journal.close()
    assert running_when_lost(tmp_path / "1") == set()
    assert running_when_lost(tmp_path / "3") == {"b"}
    assert running_when_lost(tmp_path / "4") == {"b", "d"}
