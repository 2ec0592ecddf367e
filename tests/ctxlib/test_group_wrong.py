"""Wrong groups: what is said of them, and that they cost their own variables only."""

import pytest
from notes import results

from ctxlib.errors import ContextError
from ctxlib.graph import Graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"self#x"', "'self#x': there is no such variable in this group"),
        ('"self#energi"', "did you mean 'energy'?"),
        ('"self#energy.more"', "there is no such variable"),
        ('"self#inner"', "that is a group (add a dot and the name of one of its variables)"),
        ('"self#z*"', "nothing in this group matches"),
        ('"self#lost"', "it belongs to a group without a name"),
    ],
)
def test_wrong_paths_in_a_group(context, text, message):
    loaded = context(f"""
    @Group
    class Inner:
        @Variable
        def v(self, run): ...
    @Group
    class A:
        inner = Inner()
        lost: Variable = Inner().v
        @Variable
        def energy(self, run): ...
        @Variable
        def foo(self, run, x: {text}): ...
    a = A()
    """)
    (problem,) = loaded.problems
    assert (problem.variable, problem.line) == ("a.foo", 13)
    assert message in str(problem)


def test_self_outside_of_a_group_is_a_problem(context):
    loaded = context("""
    @Variable
    def foo(run, x: "self#y"): ...
    """)
    assert "self# is for the variables of a group (use var#)" in str(loaded.problems[0])


def test_two_names_for_one_group_name_both(context):
    loaded = context("""
    @Group
    class A:
        @Variable
        def v(self, run): ...
    @Group
    class B:
        a: A = None
    x = A()
    y = x
    one, two = (lambda a: (B("1", a=a), B("2", a=a)))(A())
    """)
    found = {problem.variable: str(problem) for problem in loaded.problems}
    assert "the group has two names, 'x' and 'y'" in found["x.v"]
    assert "the group has two names, 'one.a' and 'two.a'" in found["one.a.v"]
    assert list(loaded.variables) == ["x.v", "one.a.v"]


def test_two_groups_of_one_name_name_both(context):
    loaded = context("""
    @Group
    class A:
        x: int = 0
        @Variable
        def v(self, run): return self.x
    a = A(x=1, name="same")
    b = A(x=2, name="same")
    """)
    (problem,) = loaded.problems
    assert "'same.v' is the name of two variables" in str(problem)
    assert results(loaded) == {"same.v": 2}


def test_wrong_titles_and_tags_of_a_group_cost_its_variables_only(context):
    loaded = context("""
    @Group(title=5)
    class A:
        @Variable
        def v(self, run): ...
    a = A(tags=[1])
    @Variable
    def fine(run): ...
    """)
    assert {problem.variable for problem in loaded.problems} == {"a.v"}
    text = str(Graph(loaded).nodes["a.v"].problem)
    assert "the group's title=5 is not possible" in text
    assert "the group's tags=[1] is not possible" in text


FINE = "@Variable\ndef fine(run): return 1\n"
BODY = "    @Variable\n    def v(self, run): return 2\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f'@Group("Title")\nclass A:\n{BODY}a = A()', 4, "(write title='Title')"),
        (
            f"@Group\nclass A:\n{BODY}    title: str = 'x'\na = A()",
            8,
            "cannot have an attribute 'title' of its own (choose another name; title is",
        ),
        (f"@Group\nclass A:\n    sep = '-'\n{BODY}a = A(sep=' ')", 6, "attribute 'sep' of its own"),
        (
            f"@Group\nclass A:\n{BODY}    def __init__(self, x): self.y = 2 / x\na = A(0, x=1)",
            8,
            "cannot have an __init__ of its own (declare fields",
        ),
        (
            f"@Group\nclass A:\n{BODY}class B(A):\n    def __init__(self): ...\na = B(1, 2, 3, 4)",
            9,
            "group B cannot have an __init__ of its own",
        ),
        (
            f"class Mixin:\n    tags = 1\n@Group\nclass A(Mixin):\n{BODY}a = A()",
            6,
            "group A cannot have an attribute 'tags' of its own",
        ),
        (
            f"@Group\nclass A:\n    x: list = []\n{BODY}a = A()",
            4,
            "group A cannot have its fields: mutable default <class 'list'> for field x",
        ),
        (f"@Group\nclass A:\n{BODY}a = A(name='a b')", 8, "'a b' of a group is not possible (use"),
        (
            f"@Group\nclass A:\n    name_of: str = ''\n{BODY}a = (\n\nA(nane='a'))",
            11,
            "A has no field 'nane' (there are name_of)",
        ),
        (f"@Group\nclass A:\n{BODY}a = A(x=2)", 8, "A has no field 'x' (declare it in the class)"),
        (f"@Group\nclass A:\n    x: int\n{BODY}a = A()", 9, "A needs its field 'x' (give x=..."),
        (f"@Group\nclass A:\n{BODY}a = A('t', 'g', '/', 7)", 8, "A takes title, tags and sep"),
        (f"@Group(titel='x')\nclass A:\n{BODY}a = A()", 4, "no argument 'titel' (did you mean 't"),
        (f"@Group(cluster=True)\nclass A:\n{BODY}a = A()", 4, "(there are title, tags, sep)"),
        (f"@Group\nclass A:\n{BODY}a = A(title=3)", 8, "the group's title=3 is not possible (give"),
        (f"@Group\nclass A:\n{BODY}a = A(tags=3)", 8, "the group's tags=3 is not possible (give a"),
    ],
)
def test_a_wrong_group_costs_its_own_variables_only(context, text, line, message):
    loaded = context(FINE + text)
    (problem,) = loaded.problems
    assert message in str(problem)
    assert (problem.line, problem.variable) == (line, "a.v")
    assert list(loaded.variables) == ["fine", "a.v"]


def test_wrong_groups_without_variables_are_reported_too(context):
    loaded = context("""
    @Group
    class Unused:
        sep = "-"
        @Variable
        def v(self, run): ...
    class Heir(Unused): ...
    @Group
    class Empty: ...
    empty = Empty(x=1)
    """)
    assert [(problem.line, problem.variable) for problem in loaded.problems] == [
        (4, None),
        (10, None),
    ]


def test_a_wrong_group_in_a_helper_module_names_that_file(context, tmp_path):
    (tmp_path / "groups_beside.py").write_text(
        "from damnit_ctx import Group, Variable\n@Group\nclass A:\n    sep = 1\n"
        "    @Variable\n    def v(self, run): ...\n"
    )
    loaded = context("from groups_beside import A\na = A()\nb = A(x=1)\n")
    first, second = loaded.problems
    assert (first.line, second.line) == (None, None)
    assert f"of its own, in {tmp_path / 'groups_beside.py'}, line 4" in str(first)


def test_what_is_in_a_wrong_group_does_not_vanish(context):
    loaded = context("""
    @Group
    class Inner:
        @Variable
        def v(self, run): ...
    @Group
    class Outer:
        one: Inner
        two: Inner
        @Variable
        def w(self, run, x: "self#one.v"): ...
    a = Outer(one=Inner())
    """)
    assert list(loaded.variables) == ["a.w", "a.one.v"]
    assert {str(problem) for problem in loaded.problems} == {
        f"line 12: {name}: Outer needs its field 'two' (give two=..., or a default in the class)"
        for name in loaded.variables
    }


def test_only_classes_are_groups(context):
    with pytest.raises(ContextError, match=r"line 2: .*@Group is for classes, not for 5"):
        context("Group(5)")
