import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxlib.run_pattern import DEFAULT, KINDS, RunPattern

runs = st.integers(0, 999_999_999)
kinds = st.sampled_from(KINDS)
letters = st.text(
    st.characters(blacklist_categories=("C", "Z"), blacklist_characters="/{}*?\\"), max_size=4
)
names = letters.filter(lambda name: name not in ("", ".", ".."))
run_field = st.sampled_from(["{run}", "{run:d}", "{run:01d}", "{run:04d}", "{run:09d}"])
data_field = st.sampled_from(["", "{data}"])


@st.composite
def patterns(draw):
    """Patterns of all forms: {data} above, in, and below the folder that has the run's number."""
    number = f"{draw(letters)}{draw(data_field)}{draw(letters)}{draw(run_field)}{draw(letters)}"
    other = st.one_of(names, st.just("{data}"), names.map(lambda name: name + "{data}"))
    above, below = draw(st.lists(other, max_size=2)), draw(st.lists(other, max_size=2))
    return "/".join([*above, number + draw(data_field), *below])


@given(patterns(), runs, kinds)
def test_what_is_made_of_a_number_gives_the_number(text, run, data):
    pattern = RunPattern(text)
    assert pattern.run_number(data, pattern.name(data, run)) == run
    root = Path("/p")
    folder = root / pattern.folder(data, run)
    assert folder.is_relative_to(pattern.root(data, root) / pattern.name(data, run))
    assert ".." not in folder.parts
    assert PurePosixPath(pattern.folder(data, run)) == PurePosixPath(folder.relative_to(root))


@given(patterns(), st.one_of(st.text(max_size=12), st.from_regex(r"[a-z]?[0-9]{1,11}\Z")), kinds)
def test_a_name_that_gives_a_number_is_what_is_made_of_it(text, name, data):
    pattern = RunPattern(text)
    run = pattern.run_number(data, name)
    assert run is None or pattern.name(data, run) == name


@given(patterns(), runs, runs, kinds)
def test_two_runs_have_two_folders(text, one, other, data):
    pattern = RunPattern(text)
    assert (one == other) == (pattern.folder(data, one) == pattern.folder(data, other))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(text):
    try:
        pattern = RunPattern(text)
    except ValueError:
        return
    folder = pattern.folder("raw", 42)
    assert not folder.startswith("/")
    assert ".." not in folder.split("/")


@pytest.mark.parametrize(
    ("name", "number"),
    [("r0042", 42), ("r0000", 0), ("r9999", 9999), ("r10000", 10000)]
    + [
        (bad, None) for bad in ("r42", "r00042", "0042", "r004x", "R0042", "r0042.tmp", "r٠٠٤٢", "")
    ],
)
def test_names_of_runs(name, number):
    assert DEFAULT.run_number("raw", name) == number


@pytest.mark.parametrize(
    ("text", "raw", "proc"),
    [
        ("{data}/r{run:04d}", "raw/r0042", "proc/r0042"),
        ("scan_{run}", "scan_42", "scan_42"),
        ("visit/{run:06d}/{data}", "visit/000042/raw", "visit/000042/proc"),
        ("{data}/{data}_{run:d}.d/files", "raw/raw_42.d/files", "proc/proc_42.d/files"),
        ("2{run}1", "2421", "2421"),
    ],
)
def test_folders(text, raw, proc):
    pattern = RunPattern(text)
    assert (pattern.folder("raw", 42), pattern.folder("proc", 42)) == (raw, proc)
    assert pattern.kinds == (("raw", "proc") if raw != proc else ("raw",))
    assert pattern.nested == text.endswith("/{data}")
    assert pattern == RunPattern(text)
    assert len({pattern, RunPattern(text), DEFAULT}) == (1 if text == DEFAULT.text else 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/data/r{run}", "no path of names"),
        ("../r{run}", "no path of names"),
        ("a/../../r{run}", "no path of names"),
        ("r{run}/", "no path of names"),
        ("a//r{run}", "no path of names"),
        ("./r{run}", "no path of names"),
        ("", "needs {run}"),
        ("raw/r0042", "needs {run}"),
        ("{run}/{run}", "needs {run} or {run:04d} once"),
        ("{run.__class__}", "needs {run}"),
        ("{run!r}", "needs {run}"),
        ("{run:x}", "needs {run}"),
        ("{run:010d}", "needs {run}"),
        ("{run:4d}", "needs {run}"),
        ("{proposal}/{run}", "neither {run}, {data} nor"),
        ("{data!r}/{run}", "neither {run}, {data} nor"),
        ("*/r{run}", "neither {run}, {data} nor"),
        ("{{run}}", "neither {run}, {data} nor"),
        ("r{run}\n", "neither {run}, {data} nor"),
        ("r{run}\0", "neither {run}, {data} nor"),
        ("x" * 200 + "{run}", "longer than 200"),
    ],
)
def test_what_is_no_pattern(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        RunPattern(text)
