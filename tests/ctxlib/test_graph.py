from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxlib import Variable
from ctxlib.arguments import Argument
from ctxlib.components import components, cycle_through
from ctxlib.context import Context
from ctxlib.errors import Problem
from ctxlib.graph import Graph
from ctxlib.selection import Part


def variable(name, needs=(), **options):
    """Make a variable that needs others; a name with a question mark behind it has a default."""
    made = Variable(**options)(lambda run: 1)
    made.rename(name)
    made.arguments = tuple(
        Argument(f"a{number}", "var", need.rstrip("?"), *([0] if need.endswith("?") else []))
        for number, need in enumerate(needs)
    )
    return made


def graph_of(*variables, problems=(), backends=None):
    named = {v.name: v for v in variables}
    return Graph(Context(Path(__file__), "", named, list(problems), {}), backends)


def names(nodes):
    return [node.name for node in nodes]


def test_order_puts_dependencies_first_and_else_keeps_that_of_the_file():
    graph = graph_of(
        variable("c", ["b"]), variable("x"), variable("b", ["a?"]), variable("a"), variable("y")
    )
    assert graph.order == ["a", "b", "c", "x", "y"]
    assert list(graph.nodes) == ["c", "x", "b", "a", "y"]
    assert graph.nodes["b"].dependencies == ("a",)
    assert not graph.problems


def test_a_glob_takes_all_that_match_but_itself():
    graph = graph_of(variable("xgm_sum", ["xgm_*"]), variable("xgm_a"), variable("xgm_b"))
    assert graph.nodes["xgm_sum"].dependencies == ("xgm_a", "xgm_b")
    assert graph.nodes["xgm_sum"].inputs[0].names == ("xgm_a", "xgm_b")


def test_proc_and_backends_spread_to_dependents():
    graph = graph_of(
        variable("a", data="proc"),
        variable("b", ["a"]),
        variable("c", ["b?"], cluster=True),
        variable("d", ["c"]),
        variable("e"),
        variable("f", ["d", "e"], backend="gpu"),
        variable("g", ["f"]),
    )
    assert {n.name: (n.data, n.backend) for n in graph.nodes.values()} == {
        "a": ("proc", ""),
        "b": ("proc", ""),
        "c": ("proc", "cluster"),
        "d": ("proc", "cluster"),
        "e": ("raw", ""),
        "f": ("proc", "gpu"),
        "g": ("proc", "gpu"),
    }
    later = [Part("cluster", ("c", "d")), Part("gpu", ("f", "g"), needs=("cluster",))]
    assert graph.later(data="all") == later
    assert graph.later(data="all", home="cluster") == [Part("gpu", ("f", "g"))]
    assert names(graph.select(data="all", part="", home="cluster")) == ["a", "b", "c", "d", "e"]
    assert graph.later(data="all", home="gpu") == later


def test_a_backend_has_one_part_unless_its_variables_need_its_own():
    graph = graph_of(
        variable("first", backend="gpu"),
        variable("between", ["first", "small"], backend="cluster"),
        variable("last", ["between", "small"], backend="gpu"),
        variable("small", transient=True, backend="cluster"),
        variable("alone", backend="cluster"),
    )
    assert graph.later(data="all") == [
        Part("gpu", ("first",)),
        Part("cluster", ("between", "small", "alone"), needs=("gpu",)),
        Part("gpu+2", ("last",), frozenset({"small"}), needs=("cluster",)),
    ]
    assert graph.later(data="all")[2].backend == "gpu"
    assert names(graph.select(data="all", part="gpu+2")) == ["small", "last"]
    assert graph.select(data="all", part="gone") == []


def test_a_backend_that_there_is_not_costs_its_variable_alone():
    graph = graph_of(
        *(variable("a", backend="gpo"), variable("b", ["a"]), variable("c")),
        backends={"local": "", "gpu": "", "gpp": "is for commands"},
    )
    [problem] = graph.problems
    assert str(problem).endswith(
        "there is no backend 'gpo' (did you mean 'gpu'? There are: gpu, local)"
    )
    assert names(graph.select(data="all", part="")) == ["a", "b", "c"]
    assert graph.nodes["a"].problem is not None
    assert graph.with_backends({"local": "", "gpo": ""}).problems == []
    [problem] = graph.with_backends({"gpo": "is for commands"}).problems
    assert str(problem).endswith("backend 'gpo' is for commands (name another one)")
    other = graph_of(variable("a", backend="gpu"))
    assert other.with_backends({"gpu": ""}) is other
    assert other.with_backends(None) is other


def test_raw_on_proc_is_a_problem_at_any_distance():
    graph = graph_of(
        variable("a", data="proc"), variable("b", ["a"]), variable("c", ["b"], data="raw")
    )
    assert "depends on 'b', which needs proc data" in str(graph.nodes["c"].problem)
    assert graph.nodes["c"].data == "raw"


def test_several_problems_of_a_variable_become_one_text():
    graph = graph_of(
        variable("a", ["nope", "a"]), problems=[Problem("early", 1, "a"), Problem("beside", 9)]
    )
    text = str(graph.nodes["a"].problem)
    assert all(part in text for part in ("early", "'var#nope'", "a → a"))
    assert [p.message for p in graph.problems if p.variable is None] == ["beside"]
    assert len(graph.problems) == 4


def test_no_name_is_nearest_to_itself():
    assert graph_of(variable("fool", ["foo"])).problems[0].mend == "see the names with read-context"


SELECTABLE = (
    variable("raw1", title="Beam/Intensity"),
    variable("raw2", ["raw1"], title="Other"),
    variable("shared", transient=True),
    variable("proc1", ["raw1"], data="proc", title="Detector intensity"),
    variable("deep"),
    variable("temporary", ["deep", "shared"], transient=True),
    variable("big", ["temporary", "proc1"], cluster=True),
    variable("bigger", ["big", "raw2"]),
    variable("bad", ["big", "nope"], cluster=True),
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"data": "raw"}, ["raw1", "raw2", "shared", "deep", "temporary"]),
        ({"data": "proc"}, ["raw1", "raw2", "shared", "proc1", "deep", "temporary"]),
        ({"data": "all"}, ["raw1", "raw2", "shared", "proc1", "deep", "temporary"]),
        ({"data": "all", "variables": ["raw2"]}, ["raw1", "raw2"]),
        ({"data": "proc", "variables": ["raw2"]}, []),
        ({"data": "raw", "variables": []}, []),
        ({"data": "all", "match": ["INTENS"]}, ["raw1", "proc1"]),
        ({"data": "raw", "match": ["intens"], "variables": ["deep"]}, ["raw1", "deep"]),
        ({"data": "all", "match": ["banana"]}, []),
        (
            {"data": "all", "variables": ["big"]},
            ["raw1", "shared", "proc1", "deep", "temporary"],
        ),
        ({"data": "proc", "part": "cluster"}, ["shared", "temporary", "big", "bigger", "bad"]),
        ({"data": "raw", "part": "cluster"}, []),
        ({"data": "all", "variables": ["raw2"], "part": "cluster"}, []),
        ({"data": "all", "variables": ["bad"], "part": "cluster"}, ["bad"]),
        ({"data": "all", "variables": ["bad"]}, []),
    ],
)
def test_selection(asked, expected):
    graph = graph_of(*SELECTABLE)
    assert names(graph.select(**{"part": "", **asked})) == [
        name for name in graph.order if name in expected
    ]


def test_an_unknown_name_in_a_selection_names_the_nearest():
    with pytest.raises(KeyError, match=r"no variable 'raw3' \(did you mean 'raw[12]'\?\)"):
        graph_of(*SELECTABLE).select(data="all", variables=["raw3"])


# random graphs


@st.composite
def graphs(draw, *, acyclic):
    size = draw(st.integers(1, 12))
    edges = draw(st.sets(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))))
    if acyclic:
        edges = {(a, b) for a, b in edges if a > b}
    order = draw(st.permutations(range(size)))
    return {f"v{i}": [f"v{b}" for a, b in sorted(edges) if a == i] for i in order}


def reach(edges, start):
    found, waiting = set(), list(edges[start])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += edges[node]
    return found


@given(graphs(acyclic=True))
def test_the_order_is_topological(edges):
    graph = graph_of(*(variable(name, needs) for name, needs in edges.items()))
    assert sorted(graph.order) == sorted(edges)
    place = {name: number for number, name in enumerate(graph.order)}
    for name, needs in edges.items():
        assert all(place[need] < place[name] for need in needs)
    assert not graph.problems


@given(graphs(acyclic=False))
def test_exactly_the_variables_on_a_cycle_are_reported_each_with_its_path(edges):
    graph = graph_of(*(variable(name, needs) for name, needs in edges.items()))
    on_cycle = {name for name in edges if name in reach(edges, name)}
    assert {name for name, node in graph.nodes.items() if node.problem} == on_cycle
    for name in on_cycle:
        path = graph.nodes[name].problem.message.partition(": ")[2].split(" → ")
        assert path[0] == path[-1] == name
        assert all(after in edges[before] for before, after in pairwise(path))
    place = {name: number for number, name in enumerate(graph.order)}
    for name in edges:
        assert all(place[need] < place[name] for need in graph.nodes[name].dependencies)


@given(graphs(acyclic=False))
def test_components_come_after_what_they_point_to(edges):
    found = components(edges)
    assert sorted(name for component in found for name in component) == sorted(edges)
    place = {name: number for number, component in enumerate(found) for name in component}
    for name, needs in edges.items():
        for need in needs:
            assert place[need] <= place[name]
            assert (place[need] == place[name]) == (name == need or name in reach(edges, need))
        assert (cycle_through(name, edges) is None) == (name not in reach(edges, name))


@given(graphs(acyclic=True), st.data())
def test_a_selection_is_closed(edges, data):
    kinds = {name: data.draw(st.sampled_from(["plain", "proc", "transient"])) for name in edges}
    graph = graph_of(
        *(
            variable(
                name,
                needs,
                data="proc" if kinds[name] == "proc" else None,
                transient=kinds[name] == "transient",
                backend=data.draw(st.sampled_from([None, "cluster", "gpu"])),
            )
            for name, needs in edges.items()
        )
    )
    chosen = data.draw(st.sets(st.sampled_from(sorted(edges))))
    what = data.draw(st.sampled_from(["raw", "proc", "all"]))
    asked = {"data": what, "variables": chosen, "home": data.draw(st.sampled_from(["", "gpu"]))}
    computed = {"": names(graph.select(**asked, part=""))}
    own = list(computed[""])
    for part in graph.later(**asked):
        selected = computed[part.name] = names(graph.select(**asked, part=part.name))
        assert selected == [name for name in graph.order if name in selected]
        assert {*part.variables} <= {*selected}
        own += part.variables
        left = {name for each in ("", *part.needs) for name in computed[each]}
        for name in selected:
            node = graph.nodes[name]
            own_one = node.backend == part.backend and name in part.variables
            assert own_one or node.variable.transient
            for need in node.dependencies:
                # What a job does not compute itself, those before it have left.
                kept = need in left and not graph.nodes[need].variable.transient
                assert need in selected or kept
    assert len(own) == len({*own})
    triggered = {name for name in chosen if what in ("all", graph.nodes[name].data)}
    assert triggered <= {*own}
    assert {*own} == {*names(graph.select(**{**asked, "part": "*"}))}
    for name in computed[""]:
        assert graph.nodes[name].backend in ("", asked["home"])
        assert {*graph.nodes[name].dependencies} <= {*computed[""]}


def test_a_long_chain_and_a_large_cycle():
    size = 3000
    chain = {f"v{i}": [f"v{i + 1}"] if i + 1 < size else [] for i in range(size)}
    assert components(chain)[0] == [f"v{size - 1}"]
    chain[f"v{size - 1}"] = ["v0"]
    assert len(components(chain)) == 1
    assert len(cycle_through("v0", chain)) == size + 1
