import json

from ctxlib import claim
from ctxlib.files import write_fragment
from ctxlib.journal import JournalWriter
from ctxlib.summaries import prepare
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary
from daemon.store.outcomes import picture_beside, placeholders
from daemon.store.results import collect


def journal(job_dir, attempt, *entries, number=1):
    folder = job_dir / str(attempt)
    folder.mkdir(parents=True, exist_ok=True)
    writer = JournalWriter(folder / f"journal.{number}.jsonl")
    for kind, fields in entries:
        writer.write(kind, **fields)
    writer.close()
    return folder


def finished(variable, value=None, fragment=None, **changes):
    fields = {
        "variable": variable,
        "summary": Summary(value).to_json(),
        "data": None,
        "fragment": fragment,
        "objtype": None,
        "origin": {"job": "j"},
        **changes,
    }
    return "finished", fields


def failed(variable, cls="ValueError", message="no"):
    error = {"type": cls, "message": message, "traceback": ""}
    return "failed", {"variable": variable, "error": error, "duration": 0.0}


def plan(**transient):
    variables = [{"name": name, "transient": value} for name, value in transient.items()]
    return "plan", {"variables": variables, "order": list(transient), "later": []}


def test_later_attempts_and_lines_win(tmp_path):
    journal(tmp_path, 1, finished("a", 1), failed("b"), finished("c", 3))
    died = {"n": 1, "variable": "c", "reason": "killed", "code": "timeout"}
    journal(tmp_path, 2, finished("b", 2), ("died", died))
    journal(tmp_path, 10, failed("a", "Skip", "no beam"))
    results = {result.name: result for result in collect(tmp_path).results}
    assert results["a"].error == ("Skip", "no beam")
    assert results["a"].summary is None
    assert results["b"].summary.value == 2
    assert results["b"].error is None
    assert results["b"].origin == {"job": "j"}
    assert results["c"].error == ("Timeout", "killed")


def test_transient_variables_are_not_in_the_file(tmp_path):
    nothing = ("finished", {"variable": "t", "summary": None, "data": None, "fragment": None})
    journal(tmp_path, 1, plan(t=True, u=True, a=False), nothing, finished("a", 1))
    journal(tmp_path, 2, failed("u"))
    assert [result.name for result in collect(tmp_path).results] == ["a"]


def test_a_fragment_is_named_with_its_folder(tmp_path):
    folder = journal(tmp_path, 1, finished("a", 1, "a.h5"), finished("n", data={"int": 5}))
    [a, n] = collect(tmp_path).results
    assert a.fragment == folder / "fragments" / "a.h5"
    assert (n.fragment, n.data) == (None, {"int": 5})


def test_fragments_from_before_a_boot_are_lost_until_computed_again(tmp_path):
    folder = journal(tmp_path, 1, finished("a", 1, "a.h5"), finished("b", 2))
    assert claim.make(folder, "fork") is not None
    assert collect(tmp_path).lost == []
    made = json.loads((folder / "claim").read_text())
    (folder / "claim").write_text(json.dumps({**made, "boot_id": "another"}))
    collected = collect(tmp_path)
    assert collected.lost == ["a"]
    assert [result.name for result in collected.results] == ["b"]
    journal(tmp_path, 2, finished("a", 7, "a.h5"))
    collected = collect(tmp_path)
    assert collected.lost == []
    assert {result.name: result.summary.value for result in collected.results} == {"a": 7, "b": 2}


def test_a_drawn_picture_takes_the_place_of_the_placeholder(tmp_path):
    folder = journal(tmp_path, 1, finished("f", PLOTLY_PLACEHOLDER, "f.h5"), finished("a", 1))
    fragment = folder / "fragments" / "f.h5"
    fragment.parent.mkdir()
    prepared = prepare(1, log=print)
    write_fragment(fragment, "f", prepared, None)
    assert placeholders(tmp_path) == {"f": fragment}
    assert collect(tmp_path).results[0].summary.value == PLOTLY_PLACEHOLDER
    picture_beside(fragment).write_bytes(b"picture")
    assert collect(tmp_path).results[0].summary.value == b"picture"
    journal(tmp_path, 2, finished("f", 5))
    assert placeholders(tmp_path) == {}


def test_a_job_without_attempts_has_no_results(tmp_path):
    assert collect(tmp_path / "missing").results == []


def test_fragments_that_would_lie_elsewhere_are_lost(tmp_path):
    journal(tmp_path, 1, finished("a", 1, fragment="../../../secret.h5"), finished("b", 2))
    collected = collect(tmp_path)
    assert [result.name for result in collected.results] == ["b"]
    assert collected.lost == ["a"]


def test_pictures_are_not_drawn_of_fragments_that_would_lie_elsewhere(tmp_path):
    journal(tmp_path, 1, finished("a", PLOTLY_PLACEHOLDER, fragment="../secret.h5"))
    assert placeholders(tmp_path) == {}


def test_what_is_expected_and_not_mentioned_is_lost(tmp_path):
    passing = ("finished", {"variable": "t", "summary": None, "data": None, "fragment": None})
    journal(tmp_path, 1, plan(t=True, a=False), passing, finished("a", 1), failed("b"))
    assert collect(tmp_path, ["a", "b", "t"]).lost == []
    assert collect(tmp_path, ["a", "torn"]).lost == ["torn"]
    assert collect(tmp_path / "deleted", ["b", "a"]).lost == ["a", "b"]
