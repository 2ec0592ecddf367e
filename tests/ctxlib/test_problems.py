"""Every kind of problem that a check of a context file reports, with its line and its mend."""

import json

import pytest

from ctxlib.context import main

HEAD = "from damnit_ctx import Cell, Group, Parameter, Variable\n"
OTHER = "@Variable\ndef other(run): return 1\n"
GROUP = "@Group\nclass A:\n    @Variable\n    def v(self, run): return 1\n"
ASSIGN = "assign it to one name at the top level"


def variable(decorator="@Variable", arguments="run", body="return 1"):
    return f"{decorator}\ndef foo({arguments}):\n    {body}\n"


# What the file says after its imports in line 1; and of each problem in it the line, the variable
# that it costs, the beginning or a part of its message, and the beginning of its mend.
PROBLEMS = {
    # decorators
    "data": (
        variable("@Variable(\n    title='T',\n    data='prco')"),
        [(4, "foo", "data='prco' is not possible", "did you mean 'proc'?")],
    ),
    "tags": (
        variable("@Variable(title='T',\n    tags=['a', ''])"),
        [(3, "foo", "tags=['a', ''] is", "give a text or a list of texts, none of them empty")],
    ),
    "units": (
        variable("@Variable(\n    units=3)"),
        [(3, "foo", "units=3 is not possible", "give a text")],
    ),
    "title": (variable("@Variable(5)"), [(2, "foo", "title=5 is not possible", "give a text")]),
    "flag": (
        variable("@Variable(\n    cluster='no')"),
        [(3, "foo", "cluster='no' is not possible", "give True or False")],
    ),
    "timeout": (
        variable("@Variable(timeout=-1)"),
        [(2, "foo", "timeout=-1 is not possible", "give a number of seconds above 0")],
    ),
    "retries": (
        variable("@Variable(\n    retries=-1)"),
        [(3, "foo", "retries=-1 is not possible", "give a whole number, 0 or more")],
    ),
    "cpus": (
        variable("@Variable(cpus=0)"),
        [(2, "foo", "cpus=0 is not possible", "give a whole number, 1 or more")],
    ),
    "memory": (
        variable("@Variable(memory=5)"),
        [(2, "foo", "memory=5 is not", "give an amount with its unit, '4G' or '512M'; 64M")],
    ),
    "version": (
        variable("@Variable(version=1.5)"),
        [(2, "foo", "version=1.5 is not possible", "give a text or a whole number")],
    ),
    "unknown argument of the decorator": (
        variable("@Variable(\n    titel='T')"),
        [(3, "foo", "@Variable has no argument 'titel'", "did you mean 'title'?")],
    ),
    "summary": (
        variable("@Variable(\n\n    summary='meann')"),
        [(4, "foo", "summary='meann' is not a function of NumPy", "did you mean 'mean'?")],
    ),
    "summary that is like none": (
        variable("@Variable(summary='pi')"),
        [(2, "foo", "summary='pi' is not", "use one such as 'mean' or 'nanmax'")],
    ),
    # functions and their arguments
    "without the run": (
        variable(arguments=""),
        [(3, "foo", "it does not take the run", "begin its arguments with (run, ...)")],
    ),
    "async": (
        "@Variable\nasync def foo(run): return 1\n",
        [(3, "foo", "is an async function", "write an ordinary function that returns one")],
    ),
    "generator": (
        variable(body="yield 1"),
        [(3, "foo", "yields its results", "write an ordinary function that returns one")],
    ),
    "argument without a source": (
        variable(arguments="run,\n    x", body="return x"),
        [(4, "foo", "argument 'x' says nowhere", 'annotate it, as in x: "var#other_variable"')],
    ),
    "misspelt kind": (
        OTHER + variable(arguments="run,\n    x: 'vra#other'", body="return x"),
        [(6, "foo", "argument 'x': 'vra#other' is not understood", "did you mean 'var#'?")],
    ),
    "nothing behind the kind": (
        variable(arguments="run,\n    x: 'var#'", body="return x"),
        [(4, "foo", "argument 'x': 'var#' names nothing behind the #", "as in ")],
    ),
    "misspelt dependency": (
        OTHER + variable(arguments="run,\n    x: 'var#othre'", body="return x"),
        [(6, "foo", "'var#othre': there is no such variable", "did you mean 'other'?")],
    ),
    "dependency that is like none": (
        OTHER + variable(arguments="run,\n    x: 'var#zzz'", body="return x"),
        [(6, "foo", "'var#zzz': there is no such variable", "see the names with read-context")],
    ),
    "glob without matches": (
        variable(arguments="run,\n    x: 'var#a*'", body="return x"),
        [(4, "foo", "'var#a*': no variable matches", "see the names with read-context")],
    ),
    "misspelt field of the run": (
        variable(arguments="run,\n    x: 'meta#run_numbr'", body="return x"),
        [(4, "foo", "'meta#run_numbr' does not exist", "did you mean 'run_number'?")],
    ),
    "misspelt field of a catalogue": (
        variable(arguments="run, x: 'mymdc#sample'", body="return x"),
        [(3, "foo", "'mymdc#sample' does not exist", "did you mean 'sample_name'?")],
    ),
    "no name of a parameter": (
        variable(arguments="run, x: 'param#a b'", body="return x"),
        [(3, "foo", "'param#a b' is not the name of a", "use letters, digits and _")],
    ),
    "positional only": (
        OTHER + variable(arguments="run, x: 'var#other', /", body="return x"),
        [(5, "foo", "can only be given by its position", "take the / out of the arguments")],
    ),
    "argument that is not used": (
        OTHER + variable(arguments="run,\n    x: 'var#other'"),
        [(6, None, "foo: argument 'x' is not used", "take it out, or call it '_x' if it is")],
    ),
    "self outside of a group": (
        variable(arguments="run,\n    x: 'self#other'", body="return x"),
        [(4, "foo", "self# is for the variables of a group", "use var#")],
    ),
    # variables together
    "cycle": (
        "@Variable\ndef a(run,\n    x: 'var#b'): return x\n"
        "@Variable\ndef b(run, x: 'var#a'): return x\n",
        [
            (4, "a", "it depends on itself: a → b → a", "take out one of these dependencies"),
            (6, "b", "it depends on itself: b → a → b", "take out one of these dependencies"),
        ],
    ),
    "raw on proc": (
        "@Variable(data='proc')\ndef other(run): return 1\n"
        + variable("@Variable(\n    data='raw')", "run, x: 'var#other'", "return x"),
        [(5, "foo", "depends on 'other', which needs proc", "leave data out, or write data=")],
    ),
    "titles": (
        variable("@Variable(\n    title='T')") + "@Variable('T')\ndef bar(run): return 1\n",
        [(3, "foo", "its title 'T' is also that of 'bar' in line 6", "give one of them another")],
    ),
    "replaced definition": (
        variable() + variable(),
        [(3, None, "foo is defined again in line 6", "rename one of the two")],
    ),
    "two names": (
        variable() + "bar, baz = foo, foo\ndel foo\n",
        [(2, "bar", "has two names, 'bar' and 'baz'", ASSIGN)],
    ),
    "a column that is there": (
        "@Variable\ndef comment(run): return 1\n",
        [(2, "comment", "every table has a column of this name", "choose another name")],
    ),
    "no name": (
        variable() + "globals()['a b'] = foo\ndel foo\n",
        [(2, None, "'a b' cannot be the name of a variable", "use letters, digits and _")],
    ),
    "no function": (
        "foo = Variable(title='T')\n",
        [(None, "foo", "it has no function", "write @Variable(...) above a function")],
    ),
    # groups
    "path in a group": (
        GROUP + "    @Variable\n    def w(self, run,\n        x: 'self#vv'): return x\na = A()\n",
        [(8, "a.w", "'self#vv': there is no such variable in this group", "did you mean 'v'?")],
    ),
    "group in a path": (
        GROUP + "@Group\nclass B:\n    a: A\n    @Variable\n"
        "    def w(self, run, x: 'self#a'): return x\nb = B(a=A())\n",
        [(10, "b.w", "'self#a': that is a group", "add a dot and the name of one of its var")],
    ),
    "glob in a group": (
        GROUP + "    @Variable\n    def w(self, run, x: 'self#z*'): return x\na = A()\n",
        [(7, "a.w", "'self#z*': nothing in this group matches", "see the names with read-con")],
    ),
    "group's own attribute": (
        "@Group\nclass A:\n    sep = 1\n    @Variable\n    def v(self, run): return 1\na = A()\n",
        [(4, "a.v", "cannot have an attribute 'sep'", "choose another name; sep is the group's")],
    ),
    "group's own init": (
        GROUP + "    def __init__(self): ...\na = A()\n",
        [(6, "a.v", "cannot have an __init__", "declare fields, and compute what follows from")],
    ),
    "argument of a group's decorator": (
        GROUP.replace("Group", "Group(tag='x')") + "a = A()\n",
        [(2, "a.v", "@Group has no argument 'tag'", "did you mean 'tags'?")],
    ),
    "field of an instance": (
        GROUP + "    device: str\n\na = A(devise='x')\n",
        [
            (8, "a.v", "A has no field 'devise'", "did you mean 'device'?"),
            (8, "a.v", "A needs its field 'device'", "give device=..., or a default in the class"),
        ],
    ),
    "name of an instance": (
        GROUP + "a = A(name='a-b')\n",
        [(6, "a.v", "the name 'a-b' of a group is not possible", "use letters, digits and _")],
    ),
    "title of a group": (
        GROUP + "\na = A(title=1)\n",
        [(7, "a.v", "the group's title=1 is not possible", "give a text")],
    ),
    "two names of a group": (
        GROUP + "a = A()\nb = a\n",
        [(4, "a.v", "the group has two names, 'a' and 'b'", ASSIGN)],
    ),
    "one name of two groups": (
        GROUP + "a = A('A', name='c')\nb = A('B', name='c')\n",
        [(4, None, "'c.v' is the name of two variables", "rename one of them")],
    ),
    # what else is in a file
    "parameter": (
        "\nlimit = Parameter([1])\n",
        [(3, None, "the parameter 'limit': default=[1]", "give a finite number, a text, True")],
    ),
    "two names of a parameter": (
        "a = b = Parameter(1)\n",
        [(2, None, "the parameter has two names, 'a' and 'b'", "use 'a' alone")],
    ),
    "colours": (
        variable(
            body="return [Cell(1, background='red'), Cell(1,\n background=(1, 2, 300) "
            "if run else '#abc'), Cell(2, background=run.colour)]"
        ),
        [
            (4, None, "Cell(background='red')", 'give "#rrggbb" or three whole numbers from 0 to'),
            (5, None, "Cell(background=(1, 2, 300))", 'give "#rrggbb" or three whole numbers'),
        ],
    ),
    "summary of a cell": (
        variable(body="return Cell(run, summary='medain')"),
        [(4, None, "Cell(summary='medain' is not a function of NumPy)", "did you mean 'median'?")],
    ),
}
BROKEN = {
    "syntax": ("\nfoo(\n", (3, None, "SyntaxError: '(' was never closed", "correct the line")),
    "a missing module": (
        "import json\nimport no_such_module\n",
        (3, None, "ModuleNotFoundError: No module named 'no_such_module'", "install it for /"),
    ),
    "an error at the top level": (
        "\n1 / 0\n",
        (3, None, "ZeroDivisionError: division by zero", "correct the line"),
    ),
    "the end of the process": (
        "raise SystemExit(3)\n",
        (2, None, "the file ends the process (SystemExit: 3)", "take out the exit"),
    ),
}


@pytest.fixture
def check(tmp_path, monkeypatch, context):
    """Give a function that checks a text as the program does; the text begins in line 2."""
    monkeypatch.chdir(tmp_path)

    def checked(text):
        (tmp_path / "context.py").write_text(HEAD + text)
        main(str(tmp_path / "context.py"), str(tmp_path / "result.json"))
        answer = json.loads((tmp_path / "result.json").read_text())
        return answer.get("broken") or answer["problems"]

    return checked


def assert_told(found, expected):
    assert [(p["line"], p["variable"]) for p in found] == [(e[0], e[1]) for e in expected]
    for problem, (_, _, message, mend) in zip(found, expected, strict=True):
        assert message in problem["message"]
        assert problem["mend"].startswith(mend)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_each_problem_has_its_line_and_its_mend(kind, check):
    text, expected = PROBLEMS[kind]
    assert_told(check(text), expected)


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_a_file_has_its_line_and_its_mend(kind, check):
    text, expected = BROKEN[kind]
    assert_told(check(text), [expected])


def test_what_is_not_written_yet_or_only_waited_for_uses_its_arguments(check):
    bodies = [
        "...",
        "pass",
        '"Later."',
        "raise NotImplementedError",
        "return [x for _ in run]",
        "return (lambda: x)()",
        "return locals()",
        "del x",
    ]
    text = OTHER + "".join(
        f"@Variable\ndef f{number}(run, x: 'var#other'):\n    {body}\n"
        for number, body in enumerate(bodies)
    )
    text += "@Variable\ndef g(run, _x: 'var#other'):\n    return 1\n"
    assert check(text + "h = Variable(title='H')(lambda run, x=1: 2)\n") == []
