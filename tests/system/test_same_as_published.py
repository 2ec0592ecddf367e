"""`RunTable` gives what the published package gives of the same folder."""

import json
import sqlite3
from contextlib import closing

import pytest
from described import everything
from example_results import make_folder
from peer import ask, needs_peer

from ctxlib import RunTable

pytestmark = [pytest.mark.system, needs_peer]

MISSING = {"NAType", "NoneType", "NaT"}
BETTER = {
    # Arrays of texts and times have no plain form that the published one reads: it has DataArrays.
    ("read", "texts"),
    ("read", "times"),
    ("read", "durations"),
    ("preview", "durations"),
    ("type_hint", "texts"),
    ("type_hint", "times"),
    ("type_hint", "durations"),
    # Moments, which it gives as a number of nanoseconds.
    ("read", "moment"),
    # Attributes that NetCDF cannot hold, which it does not see.
    ("read", "dataset"),
}
"""What reads as it was returned here, and in another form there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every kind of result, and what people filled in."""
    folder = tmp_path_factory.mktemp("amore")
    make_folder(folder)
    with closing(sqlite3.connect(folder / "runs.sqlite")) as database, database:
        database.executescript(
            """
            INSERT INTO variables (name, type, title) VALUES ('note', 'string', 'My note'),
                ('good', 'boolean', 'Good?'), ('count', 'integer', 'Count'), ('new', NULL, 'New');
            INSERT INTO run_variables (proposal, run, name, version, value, timestamp) VALUES
                (1234, 1, 'note', 1, 'old', 1.0), (1234, 1, 'note', 2, 'hello', 1.0),
                (1234, 1, 'good', 1, 1, 1.0), (1234, 2, 'count', 1, 5, 1.0),
                (1234, 1, 'comment', 1, 'a comment', 1.0), (1234, 9, 'count', 1, 6, 1.0);
            INSERT INTO run_info VALUES (1234, 3, NULL, 1.7e9), (5678, 1, 1.5e9, 1.7e9);
            """
        )
    return folder


@pytest.fixture(scope="module", params=[1, 2])
def both(folder, request):
    ours = json.loads(json.dumps(everything(RunTable(folder), request.param)))
    return ours, ask(folder, request.param)


def test_keys_and_titles(both):
    ours, theirs = both
    assert ours["keys"] == theirs["keys"]
    assert ours["titles"] == theirs["titles"]


def test_each_variable(both):
    ours, theirs = both
    for name in theirs["keys"]:
        for what, there in theirs["variables"][name].items():
            here = ours["variables"][name][what]
            if isinstance(there, dict) and there["type"] == "raised":
                continue  # what people filled in has no type and no preview there
            if (what, name) not in BETTER:
                assert str(here) == str(there), (name, what)  # as texts, NaN is equal to itself


def test_what_we_read_better_is_as_it_was_returned(both):
    ours, theirs = both
    if "texts" not in theirs["keys"]:
        return
    read = {name: ours["variables"][name]["read"] for _, name in BETTER}
    assert (read["texts"]["type"], read["texts"]["values"]) == ("ndarray", ["a", "bc"])
    assert read["times"]["dtype"] == "<M8[ns]"
    assert read["durations"]["dtype"] == "<m8[s]"
    assert read["moment"]["dtype"] == "<M8[ns]"
    attributes = read["dataset"]["attrs"]
    assert {name: attr["values"] for name, attr in attributes.items()} == {
        "note": "n",
        "flag": True,
    }


@pytest.mark.parametrize("kind", ["table", "names"])
def test_the_table(both, kind):
    ours, theirs = both
    assert set(ours[kind][0]) == set(theirs[kind][0])
    for here, there in zip(ours[kind], theirs[kind], strict=True):
        for column, value in there.items():
            if value["type"] in MISSING or str(value["values"]) == "nan":
                assert here[column]["type"] in MISSING, column
            else:
                assert here[column]["values"] == value["values"], column


def test_the_runs(folder):
    assert RunTable(folder).runs() == [1, 2, 1]
