# ruff: noqa: F821  annotations here are the language of context files, not types
from dataclasses import replace
from functools import wraps

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxlib import Cell, Variable
from ctxlib.arguments import META, annotation_text, parse_arguments
from ctxlib.errors import ContextError, Problem, Skip, VariableError, describe
from ctxlib.metadata import FIELDS
from ctxlib.variable import parse_tags

MYMDC = FIELDS["mymdc"]


def messages(problems):
    return [str(problem) for problem in problems]


def test_with_and_without_parentheses():
    @Variable
    def bare(run):
        """What it
        says."""

    @Variable()
    def empty(run): ...

    @Variable("Title", "Words", tags="one", units="uJ", timeout=3)
    def full(run): ...

    assert (bare.name, bare.title, bare.description) == ("bare", "bare", "What it\nsays.")
    assert (empty.title, empty.description, empty.tags) == ("empty", None, ())
    assert (empty.summary, empty.data, empty.cluster, empty.transient) == (None, None, False, False)
    assert (full.title, full.description, full.tags) == ("Title", "Words", ("one",))
    assert (full.units, full.timeout) == ("uJ", 3.0)
    assert not bare.problems + empty.problems + full.problems


def test_what_a_variable_may_use_and_how_often_it_is_tried():
    @Variable(retries=3, cpus=2, memory="1.5 GiB", version="after the upgrade")
    def foo(run): ...

    assert (foo.retries, foo.cpus, foo.memory) == (3, 2, 3 << 29)
    assert foo.version == "after the upgrade"
    assert not foo.problems


def test_calling_it_calls_the_function():
    @Variable(title="Sum")
    def add(run, other: "var#x" = 2):
        return run + other

    assert add(1) == 3
    assert add(1, other=5) == 6
    assert add.line == add.func.__code__.co_firstlineno
    assert add.source == __file__


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "prco"}, "data='prco' is not possible (did you mean 'proc'?)"),
        ({"data": 3}, "data=3 is not possible (give 'raw' or 'proc')"),
        ({"title": 5}, "title=5 is not possible (give a text)"),
        ({"title": ""}, "title='' is not possible (give a text)"),
        ({"units": 1.5}, "units=1.5 is not possible (give a text)"),
        ({"cluster": "yes"}, "cluster='yes' is not possible (give True or False)"),
        ({"transient": 1}, "transient=1 is not possible (give True or False)"),
        ({"timeout": -1}, "timeout=-1 is not possible (give a number of seconds above 0)"),
        ({"timeout": True}, "timeout=True is not possible (give a number of seconds above 0)"),
        ({"timeout": float("nan")}, "timeout=nan is not possible"),
        ({"retries": -1}, "retries=-1 is not possible (give a whole number, 0 or more)"),
        ({"retries": True}, "retries=True is not possible"),
        ({"retries": None}, "retries=None is not possible"),
        ({"cpus": 0}, "cpus=0 is not possible (give a whole number, 1 or more)"),
        ({"cpus": 1.5}, "cpus=1.5 is not possible"),
        ({"memory": "4"}, "memory='4' is not possible (give an amount with its unit, '4G' or"),
        ({"memory": "1M"}, "memory='1M' is not possible"),
        ({"memory": 2**30}, "memory=1073741824 is not possible"),
        ({"version": 1.5}, "version=1.5 is not possible (give a text or a whole number)"),
        ({"version": True}, "version=True is not possible"),
        ({"tags": 5}, "tags=5 is not possible (give a text or a list of texts"),
        ({"tags": ["a", ""]}, "tags=['a', ''] is not possible"),
        ({"tags": [None]}, "tags=[None] is not possible"),
        ({"titel": "x"}, "@Variable has no argument 'titel' (did you mean 'title'?)"),
        ({"banana": 1}, "@Variable has no argument 'banana' (there are title, description"),
    ],
)
def test_a_wrong_decorator_is_the_variables_problem(given, message):
    @Variable(**given)
    def foo(run): ...

    assert len(foo.problems) == 1
    assert message in str(foo.problems[0])
    assert (foo.title, foo.data, foo.units, foo.timeout) == ("foo", None, None, None)
    assert (foo.retries, foo.cpus, foo.memory, foo.version) == (0, None, None, None)


def test_a_summary_that_is_a_function_says_to_give_its_name():
    @Variable(summary=np.mean)
    def foo(run): ...

    assert foo.summary is None
    assert "give the name of a NumPy function" in str(foo.problems[0])


@pytest.mark.parametrize("what", ["async def", "generator"])
def test_functions_that_return_no_result_are_reported(what):
    if what == "generator":

        @Variable
        def foo(run):
            yield 1
    else:

        @Variable
        async def foo(run): ...

    assert "write an ordinary function" in str(foo.problems[0])


def test_only_functions_can_be_decorated():
    with pytest.raises(TypeError, match="for functions, not for 5"):
        Variable("title")(5)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (None, ()),
        ("one", ("one",)),
        (["a", "b", "a"], ("a", "b")),
        (("b", "a"), ("b", "a")),
        ({"b", "a"}, ("a", "b")),
        ((t for t in "xy"), ("x", "y")),
    ],
)
def test_tags(tags, expected):
    assert parse_tags(tags) == (expected, None)


# arguments


def parsed(func, method=False):
    return parse_arguments(func, method=method)


def test_arguments():
    def foo(
        run,
        a: "var#x",
        b: "var#g.*",
        c: "self#y.z" = None,
        *,
        d: "meta#run_number",
        e: "'var#quoted'",
        f=3,
        g: int = 4,
        h: "param#group.low" = 1,
        i: "mymdc#techniques",
        **rest,
    ): ...

    arguments, problems = parsed(foo)
    assert [(a.name, a.kind, a.target, a.required, a.is_glob) for a in arguments] == [
        ("a", "var", "x", True, False),
        ("b", "var", "g.*", True, True),
        ("c", "self", "y.z", False, False),
        ("d", "meta", "run_number", True, False),
        ("e", "var", "quoted", True, False),
        ("h", "param", "group.low", False, False),
        ("i", "mymdc", "techniques", True, False),
    ]
    assert not problems


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (lambda: 1, "it does not take the run (begin its arguments with (run, ...))"),
        (lambda run, x: 1, "argument 'x' says nowhere where its value comes from"),
    ],
)
def test_wrong_arguments(func, message):
    assert message in " ".join(messages(parsed(func)[1]))


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("meta#run", "argument 'x': 'meta#run' does not exist"),
        ("meta#run_numbr", "did you mean 'run_number'?"),
        ("meta#banana", "there are run_number, proposal, proposal_path"),
        ("vra#foo", "'vra#foo' is not understood (did you mean 'var#'?)"),
        ("banana#foo", "use var#, self#, param#, meta# or mymdc#"),
        ("var#", "names nothing behind the #"),
        ("mymdc#run_typ", "'mymdc#run_typ' does not exist (did you mean 'run_type'?)"),
        ("mymdc#banana", "there are run_type, sample_name, techniques"),
        ("param#a b", "'param#a b' is not the name of a parameter (use letters, digits and _)"),
        (int, "says nowhere where its value comes from"),
        ("float", "says nowhere where its value comes from"),
        ("'var#", "says nowhere"),
    ],
)
def test_wrong_annotations(annotation, message):
    def foo(run, x): ...

    foo.__annotations__["x"] = annotation
    arguments, problems = parsed(foo)
    assert not arguments
    assert len(problems) == 1
    assert message in str(problems[0])


def test_a_function_without_the_run_names_both_forms():
    def missing(x: "var#y"): ...

    assert "begin its arguments with (run, ...)" in str(parsed(missing)[1][0])
    assert "begin its arguments with (self, run, ...)" in str(
        parsed(lambda self: 1, method=True)[1][0]
    )
    assert not parsed(lambda self, run: 1, method=True)[1]


def test_positional_only_arguments_are_refused():
    def foo(run, x: "var#y", /): ...

    assert "take the / out" in str(parsed(foo)[1][0])


def test_a_wrapped_function_shows_its_own_arguments():
    def loud(func):
        @wraps(func)
        def wrapper(*args, **kwargs):
            return func(*args, **kwargs)

        return wrapper

    @Variable
    @loud
    def foo(run, x: "var#y"):
        return run, x

    @Variable
    def plain(*args, **kwargs): ...

    assert [a.target for a in foo.arguments] == ["y"]
    assert foo(1, x=2) == (1, 2)
    assert not plain.argument_problems


names = st.from_regex(r"[a-z_][a-z0-9_.]*", fullmatch=True)


@given(names, st.sampled_from(["var", "self"]), st.booleans(), st.booleans())
def test_any_name_is_read_quoted_once_or_twice(name, kind, twice, default):
    text = f"{kind}#{name}"

    def foo(run, x): ...

    def bar(run, x=0): ...

    func = bar if default else foo
    func.__annotations__["x"] = repr(text) if twice else text
    (argument,), problems = parsed(func)
    assert (argument.kind, argument.target, argument.required) == (kind, name, not default)
    assert not problems


@given(st.text())
def test_any_annotation_gives_an_argument_or_a_problem(text):
    def foo(run, x): ...

    foo.__annotations__["x"] = text
    arguments, problems = parsed(foo)
    assert len(arguments) + len(problems) == 1
    if arguments:
        kind, _, target = annotation_text(text).partition("#")
        assert arguments[0].target == target.strip()
        assert kind.strip() in ("var", "self", "param") or target.strip() in (*META, *MYMDC)


# problems and errors


@given(st.text(), st.none() | st.integers(1, 10**6), st.none() | st.text(min_size=1), st.text())
def test_problems_survive_json(message, line, variable, mend):
    problem = Problem(message, line, variable, mend)
    assert Problem.from_json(problem.to_json()) == problem


def test_how_problems_and_errors_read():
    problem = Problem("it is wrong", 12, "foo", "mend it")
    assert str(problem) == "line 12: foo: it is wrong (mend it)"
    assert str(replace(problem, line=None, mend="")) == "foo: it is wrong"
    assert str(ContextError([problem, problem])).count("line 12") == 2
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(Skip()) == "Skip"
    assert not isinstance(VariableError("x"), Skip)


def test_an_error_whose_text_fails_is_still_named():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe(Odd()) == "Odd: (its text cannot be given: RuntimeError)"


# cells


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#ffcc00", (255, 204, 0)),
        ("#FC0", (255, 204, 0)),
        ([1, 2, 3], (1, 2, 3)),
        (np.array([0, 128, 255], dtype=np.uint8), (0, 128, 255)),
        (None, None),
    ],
)
def test_colours(colour, expected):
    assert Cell(1, background=colour).background == expected


@pytest.mark.parametrize(
    "colour", ["red", "#12345", "ffcc00", [1, 2], [1, 2, 256], [-1, 0, 0], [0.5, 1, 1], 7, "#ggg"]
)
def test_wrong_colours_name_the_mend(colour):
    with pytest.raises(ValueError, match='give "#rrggbb" or three whole numbers'):
        Cell(1, background=colour)


def test_other_fields_of_a_cell_are_checked():
    assert Cell(1, bold=np.bool_(True)).bold is True
    with pytest.raises(TypeError, match="bold='yes'"):
        Cell(1, bold="yes")
    with pytest.raises(TypeError, match=r"summary=.*give a text"):
        Cell(1, summary=np.mean)
    with pytest.raises(TypeError, match="units=5"):
        Cell(1, units=5)


def test_the_names_of_the_published_package_can_be_imported(context) -> None:
    loaded = context("""
        from damnit_ctx import Cell, Group, GroupError, Pipeline, RunData, Skip, Variable

        @Variable(data=RunData.PROC)
        def image(run):
            return 1
        """)
    assert loaded.problems == []
    assert loaded.variables["image"].data == "proc"
    assert type(loaded.variables["image"].data) is str
