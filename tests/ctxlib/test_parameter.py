"""Parameters: declared in a context file, set from outside, given to variables."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from notes import evaluated

from ctxlib.errors import VariableError
from ctxlib.graph import Graph
from ctxlib.parameter import Parameter, is_name, is_scalar, parse_value

HEAD = "from damnit_ctx import Cell, Group, Parameter, Skip, Variable\n"


def computed(loaded, **given):
    params = loaded.set_parameters(given)
    return evaluated(Graph(loaded), "run", params=params)


SIMPLE = """
    threshold = Parameter(3.5, title="Threshold", description="Counts above it are hits.")
    method = Parameter()

    @Variable
    def hits(run, threshold: "param#threshold"):
        return threshold

    @Variable
    def way(run, method: "param#method" = "fast", other: "param#undeclared" = None):
        return method, other
"""


def test_values_come_from_outside_then_the_declaration_then_the_argument(context):
    loaded = context(SIMPLE, head=HEAD)
    assert not loaded.problems
    assert computed(loaded).values == {"hits": 3.5, "way": ("fast", None)}
    given = {"threshold": 5, "method": "slow", "undeclared": True}
    assert computed(loaded, **given).values == {"hits": 5, "way": ("slow", True)}
    assert computed(loaded, threshold=None).values["hits"] is None


def test_one_without_a_value_is_the_problem_of_the_variables_that_need_it(context):
    notes = computed(
        context(
            """
    threshold = Parameter(3.5)
    method = Parameter()

    @Variable
    def misspelt(run, x: "param#treshold"): ...

    @Variable
    def unset(run, x: "param#method"): ...

    @Variable
    def fine(run, x: "param#threshold", y: "var#unset" = 7):
        return y
    """,
            head=HEAD,
        )
    )
    assert notes.values == {"fine": 7}
    assert {type(error) for error in notes.errors.values()} == {VariableError}
    assert str(notes.errors["misspelt"]) == (
        "argument 'x': the parameter 'treshold' has no value (did you mean 'threshold'?)"
    )
    assert "or set it with db-config param.method VALUE" in str(notes.errors["unset"])


GROUPS = """
    shared = Parameter(10)

    @Group
    class Detector:
        gain: float = Parameter(1.0, description="Per pixel.")
        offset: float = 0.0

        @Variable
        def corrected(self, run):
            return self.gain, self.offset

    @Group
    class Station:
        detector: object = None
        scale = Parameter(2)

        @Variable
        def total(self, run):
            return self.scale, self.detector.gain

    near = Detector()
    far = Detector(gain=7.0, offset=shared)
    station = Station(detector=Detector(offset=shared))
    linked = Station(detector=near)
"""


def test_fields_of_groups_are_replaced_by_their_values(context):
    loaded = context(GROUPS, head=HEAD)
    assert not loaded.problems
    assert list(loaded.declared.parameters) == [
        *("shared", "near.gain", "station.scale", "station.detector.gain", "linked.scale"),
    ]
    assert computed(loaded).values == {
        "near.corrected": (1.0, 0.0),
        "far.corrected": (7.0, 10),
        "station.total": (2, 1.0),
        "station.detector.corrected": (1.0, 10),
        "linked.total": (2, 1.0),
    }
    given = {"shared": 11, "near.gain": 4, "station.scale": 5}
    assert computed(loaded, **given).values == {
        "near.corrected": (4, 0.0),
        "far.corrected": (7.0, 11),
        "station.total": (5, 1.0),
        "station.detector.corrected": (1.0, 11),
        "linked.total": (2, 4),
    }
    # The values of one evaluation are not those of the next.
    assert computed(loaded).values["near.corrected"] == (1.0, 0.0)


def test_nodes_know_which_parameters_reach_them(context):
    graph = Graph(context(GROUPS + SIMPLE, head=HEAD))
    assert graph.nodes["station.total"].parameters == (
        *("station.scale", "station.detector.gain", "shared"),
    )
    assert graph.nodes["far.corrected"].parameters == ("shared",)
    assert graph.nodes["way"].describe()["parameters"] == ["method", "undeclared"]


def test_a_group_in_a_class_body_has_its_parameters_in_each_copy(context):
    loaded = context(
        """
    @Group
    class Inner:
        level: int = Parameter(1)

        @Variable
        def here(self, run):
            return self.level

    top = Inner()

    @Group
    class Outer:
        mine = Inner()
        linked = top

        @Variable
        def both(self, run):
            return self.mine.level, self.linked.level

    a = Outer()
    b = Outer()
    """,
        head=HEAD,
    )
    assert not loaded.problems
    values = computed(loaded, **{"top.level": 5, "b.mine.level": 6}).values
    assert values["a.both"] == (1, 5)
    assert values["b.both"] == (6, 5)
    assert values["b.mine.here"] == 6
    assert values["top.here"] == 5


def test_a_field_without_a_value_costs_the_variables_of_its_group(context):
    loaded = context(
        """
    @Group
    class Detector:
        gain: float = Parameter()

        @Variable
        def corrected(self, run):
            return self.gain

    d = Detector()

    @Variable
    def other(run):
        return 1
    """,
        head=HEAD,
    )
    notes = computed(loaded)
    assert notes.values == {"other": 1}
    assert "the parameter 'd.gain' of its group has no value" in str(notes.errors["d.corrected"])
    assert computed(loaded, **{"d.gain": 2}).values == {"d.corrected": 2, "other": 1}


def test_wrong_declarations_are_listed_with_their_lines(context):
    loaded = context(
        """
    a = Parameter([1, 2])
    b = Parameter(float("nan"))
    c = Parameter(1, title=5, description=None)
    d = e = Parameter(2)
    """,
        head=HEAD,
    )
    assert [str(problem) for problem in loaded.problems] == [
        "line 2: the parameter 'a': default=[1, 2] is not possible "
        "(give a finite number, a text, True, False or None)",
        "line 3: the parameter 'b': default=nan is not possible "
        "(give a finite number, a text, True, False or None)",
        "line 4: the parameter 'c': title=5 is not possible (give a text)",
        "line 4: the parameter 'c': description=None is not possible (give a text)",
        "line 5: the parameter has two names, 'd' and 'e' (use 'd' alone)",
    ]
    assert list(loaded.declared.parameters) == ["a", "b", "c", "d"]


def test_a_parameter_of_a_helper_module_counts_where_it_is_imported(context, tmp_path):
    (tmp_path / "helper_with_parameters.py").write_text(
        "from damnit_ctx import Parameter\nlow = Parameter([])\n"
    )
    loaded = context("from helper_with_parameters import low\n", head=HEAD)
    (problem,) = loaded.problems
    assert problem.line is None
    assert "the parameter 'low': default=[]" in str(problem)


def test_they_are_described_for_the_settings(context):
    assert Graph(context(SIMPLE, head=HEAD)).describe_parameters() == [
        {
            "name": "threshold",
            "title": "Threshold",
            "description": "Counts above it are hits.",
            "default": 3.5,
        },
        {"name": "method", "title": "", "description": ""},
        {"name": "undeclared", "title": "", "description": ""},
    ]
    assert repr(Parameter(3)) == "Parameter(3)"
    assert repr(Parameter()) == "Parameter()"


# what a user types

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@given(scalars)
def test_any_value_comes_back_from_its_json(value):
    found = parse_value(f" {json.dumps(value)} ")
    assert found == value
    assert type(found) is type(value)


@given(st.text())
@example("1e999")
@example("NaN")
@example("-Infinity")
@example("[" * 100_000)
@example("9" * 5000)
@example('{"a": 1}')
@example("3.5 mm")
@example("")
def test_everything_that_can_be_typed_is_a_value(text):
    value = parse_value(text)
    assert is_scalar(value)
    json.dumps(value, allow_nan=False)
    if isinstance(value, str) and not text.strip().startswith('"'):
        assert value == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("-0.5", -0.5), ("1e3", 1000.0), ("true", True), ("null", None), ("abc", "abc")],
)
def test_values_as_they_are_typed(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_names():
    assert all(map(is_name, ["a", "a.b_c", "grün", "_x1"]))
    assert not any(map(is_name, ["", "a.", "1a", "a-b", "a b", ".a", "a..b"]))
    assert not is_scalar(math.inf)
