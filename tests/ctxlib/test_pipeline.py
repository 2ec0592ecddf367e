"""Pipelines: the variables of a context file in a notebook, a script, or a variable."""

import os
import sys
import textwrap

import numpy as np
import pytest

from ctxlib import Cell, Group, Pipeline, Skip, Variable
from ctxlib.context import load
from ctxlib.errors import ContextError, UnsavableError, VariableError
from ctxlib.execution import ItemError, LocalExecutionBackend
from ctxlib.graph import Graph
from ctxlib.sources import RunUnavailable

HEAD = "from damnit_ctx import *\n"


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if name in ("context", "damnit_ctx", "helper"):
            del sys.modules[name]


def pipeline(text: str, **more):
    return Pipeline.from_str(HEAD + textwrap.dedent(text).removeprefix("\n"), **more)


def written(folder, text: str):
    path = folder / "context.py"
    folder.mkdir(exist_ok=True)
    path.write_text(HEAD + textwrap.dedent(text).removeprefix("\n"))
    return path


SEVERAL = """
    @Variable(title="The Foo", summary="mean", units="mm")
    def foo(run): return [len(run), len(run)]
    @Variable(title="The Bar", data="proc")
    def bar(run, x: "var#foo"): return float(x[0] * 2)
    @Variable(cluster=True)
    def big(run, h: "var#hidden"): return 1
    @Variable(transient=True)
    def hidden(run): return object()
    @Variable(transient=True)
    def wrong_and_hidden(run): raise ValueError
    @Variable
    def bad(run): raise ValueError("no beam")
    @Variable
    def skipped(run): raise Skip("not a scan")
    @Variable
    def after(run, x: "var#bad"): return 1
    @Variable
    def nothing(run): return None
    @Variable
    def shown(run): return Cell(5, bold=True, units="m")
"""


# executing


def test_results_are_values_cells_and_errors():
    made = pipeline(SEVERAL)
    assert made.results is None
    results = made.execute(data=[1, 2, 3])
    assert made.results is results
    assert type(results.values.pop("hidden")) is object
    plain = {name: value for name, value in results.values.items() if name != "hidden"}
    assert plain == {"foo": [3, 3], "bar": 6.0, "big": 1, "nothing": None, "shown": 5}
    assert list(results.cells) == ["foo", "bar", "big", "nothing", "shown"]
    foo, shown = results.cells["foo"], results.cells["shown"]
    assert (foo.summary, foo.units) == ("mean", "mm")
    assert (shown.bold, shown.units, shown.summary) == (True, "m", None)
    errors = {name: (type(e), str(e)) for name, e in results.errors.items()}
    assert errors == {
        "bad": (ValueError, "no beam"),
        "skipped": (Skip, "not a scan"),
        "after": (Skip, "needs 'bad', which failed: ValueError: no beam"),
        "wrong_and_hidden": (ValueError, ""),
    }
    assert results.transient == {"hidden", "wrong_and_hidden"}


def test_results_can_be_looked_at():
    text = repr(pipeline(SEVERAL).execute(data=np.zeros((2, 3))))
    assert "  bar: 4.0\n" in text
    assert "  bad: ValueError: no beam\n" in text
    assert "  skipped: skipped: not a scan\n" in text
    assert "array of (2, 3)" in repr(pipeline("@Variable\ndef x(run): return run\n").execute(
        data=np.zeros((2, 3))))  # fmt: skip


def test_what_it_is_computed_with_can_be_any_object():
    made = pipeline("@Variable\ndef foo(run): return run * 2\n")
    assert made.execute(data=0).values == {"foo": 0}
    assert made.with_context(data="ab").execute().values == {"foo": "abab"}
    assert made.with_context(data=1).execute(data=2).values == {"foo": 4}
    with pytest.raises(ValueError, match=r"nothing to compute with: give execute\(data=...\)"):
        made.execute()


def test_the_run_is_opened_by_its_numbers(example_proposal, tmp_path, monkeypatch):
    place = tmp_path / "SPB" / "202601"
    place.mkdir(parents=True)
    (place / "p001234").symlink_to(example_proposal)
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    made = pipeline("""
        @Variable
        def trains(run): return len(run.train_ids)
        @Variable(data="proc")
        def detector(run): return "SPB_DET_AGIPD1M-1/DET/0CH0:xtdf" in run.all_sources
        @Variable
        def where(run, path: "meta#proposal_path", n: "meta#run_number", p: "meta#proposal"):
            return f"{path.name} {n} {p}"
    """).with_context(proposal=1234, run_number=1)
    assert made.execute().values == {"trains": 64, "where": "p001234 1 1234", "detector": True}
    raw = made.with_context(run_data="raw").execute()
    assert raw.values["trains"] == 64
    assert str(raw.errors["detector"]) == (
        "it needs proc data, and of the run there is only raw data"
    )
    with pytest.raises(RunUnavailable, match=r"there is no folder .*r0002"):
        made.with_context(run_number=2).execute()


def test_what_is_known_of_the_run_costs_only_those_who_ask_for_it():
    made = pipeline("""
        @Variable
        def number(run, n: "meta#run_number"): return n
        @Variable
        def default(run, n: "meta#run_number" = 3, p: "meta#proposal" = 4): return n + p
        @Variable
        def where(run, p: "meta#proposal_path"): return str(p)
        @Variable
        def sample(run, s: "mymdc#sample_name"): return s
        @Variable
        def other(run, s: "mymdc#sample_name" = "none"): return s
    """)
    results = made.execute(data=1)
    assert results.values == {"default": 7, "other": "none"}
    assert isinstance(results.errors["number"], VariableError)
    assert str(results.errors["number"]) == (
        "meta#run_number is not known here: say it with with_context(run_number=...)"
    )
    assert "with_context(proposal=...)" in str(results.errors["where"])
    told = made.with_context(run_number=7, proposal=999999).execute(data=1)
    assert told.values == {"number": 7, "default": 1000006, "other": "none"}
    assert "proposal 999999 was not found" in str(told.errors["where"])
    assert "proposal 999999 was not found" in str(told.errors["sample"])


def test_parameters_come_from_the_pipeline_or_the_call():
    made = pipeline("""
        factor = Parameter(2)
        @Variable
        def foo(run, k: "param#factor", m: "param#other" = 0): return run * k + m
        @Variable
        def needs(run, k: "param#unset"): return k
    """)
    assert made.execute(data=10).values == {"foo": 20}
    assert "the parameter 'unset' has no value" in str(made.results.errors["needs"])
    mine = made.with_context(param_values={"factor": 3}).with_context(param_values={"unset": 1})
    assert mine.execute(data=10).values == {"foo": 30, "needs": 1}
    assert mine.execute(data=10, param_values={"other": 5}).values == {"foo": 35, "needs": 1}
    assert mine.execute(data=10).values["foo"] == 30


def test_what_cannot_be_saved_is_an_error_here_too():
    results = pipeline("""
        @Variable
        def odd(run): return {1, 2}
        @Variable
        def after(run, x: "var#odd"): return 1
    """).execute(data=1)
    assert isinstance(results.errors["odd"], UnsavableError)
    assert str(results.errors["after"]).startswith("needs 'odd', which failed: UnsavableError")


def test_results_are_as_they_were_returned():
    results = pipeline("""
        import numpy as np
        @Variable
        def array(run): return Cell(np.zeros(2))
        @Variable
        def spoils(run, x: "var#array"):
            x += 1
            return x
    """).execute(data=1)
    assert results.values["array"].tolist() == [0, 0]
    assert results.values["spoils"].tolist() == [1, 1]


def test_a_failing_summary_is_logged_and_no_error(caplog):
    made = pipeline('@Variable(summary="mean")\ndef foo(run): return ["a"]\n')
    assert made.execute(data=1).errors == {}
    assert "foo: summary 'mean' failed" in caplog.text


def test_an_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        pipeline("@Variable\ndef foo(run): raise KeyboardInterrupt\n").execute(data=1)


# putting together


@Variable(title="A")
def a(run):
    return run + 1


@Variable
def b(run, x: "var#a"):  # type: ignore[valid-type]  # noqa: F821
    return x * 2


@Group
class Shifted:
    by: int = 0

    @Variable
    def value(self, run):
        return run + self.by

    @Variable
    def twice(self, run, x: "self#value"):  # type: ignore[valid-type]  # noqa: F821
        return 2 * x


def test_variables_and_groups_are_added():
    made = Pipeline()
    assert made.add(b) is made
    assert list(made.vars) == ["b"]
    assert "there is no such variable" in str(made.problems[0])
    made.add([a], {"left": Shifted(by=-1)}, Shifted(by=1, name="right"))
    assert made.add(a).problems == []
    assert made.execute(data=10).values == {
        "a": 11, "b": 22, "left.value": 9, "left.twice": 18, "right.value": 11, "right.twice": 22,
    }  # fmt: skip


def test_variables_of_other_pipelines_are_added():
    other = Pipeline().add(a, {"g": Shifted(by=3)})
    made = Pipeline().add(list(other.vars.values()), b)
    assert made.execute(data=1).values == {"a": 2, "b": 4, "g.value": 4, "g.twice": 8}
    assert made.vars["a"].title == "A"
    assert made.union(other).vars.keys() == made.vars.keys()


@pytest.mark.parametrize("item", [3, "a", len, {"x": 3}, {3: a}], ids=repr)
def test_other_things_cannot_be_added(item):
    made = Pipeline()
    with pytest.raises(TypeError, match="add takes"):
        made.add(item)
    assert made.vars == {}


def test_groups_need_a_name():
    made = Pipeline().add(a, Shifted())
    with pytest.raises(ValueError, match=r"a group Shifted has no name: make it with name=..., or"):
        made.execute(data=1)


def test_only_pipelines_can_be_united():
    with pytest.raises(TypeError, match="union takes a Pipeline, not <Variable 'a'>"):
        Pipeline().union(a)


def test_a_notebook_shows_what_is_in_it():
    assert repr(Pipeline()) == "<Pipeline: no variables>"
    assert repr(Pipeline(name="mine").add(a)) == "<Pipeline 'mine': a>"
    assert "Shifted has no name" in repr(Pipeline().add(Shifted()))
    many = Pipeline.from_str(
        "from ctxlib import Variable\n"
        + "".join(f"@Variable\ndef variable_{i}(run): pass\n" for i in range(100))
    )
    assert repr(many).endswith("...>")


def test_variables_of_lambdas_need_a_name():
    of_lambda = Variable(title="One")(lambda run: 1)
    with pytest.raises(ValueError, match=r"'<lambda>' has no name: add {name: variable}"):
        Pipeline().add(of_lambda).execute(data=1)
    assert Pipeline().add({"one": of_lambda}).execute(data=1).values == {"one": 1}


def test_a_file_names_variables_of_lambdas():
    made = Pipeline.from_str(
        "from ctxlib import Pipeline, Variable\n"
        "one = Variable(title='One')(lambda run: 1)\n"
        "Pipeline.set_default(Pipeline().add(one))\n"
    )
    assert made.execute(data=1).values == {"one": 1}


def test_two_of_one_name_are_refused_and_nothing_is_added():
    made = Pipeline().add(a)
    another = Variable(lambda run: 1)
    another.rename("a")
    with pytest.raises(ValueError, match="'a' is added twice"):
        made.add(another)
    assert made.add(b).execute(data=1).values == {"a": 2, "b": 4}


def test_a_pipeline_can_be_put_together_of_two():
    first = pipeline("@Variable\ndef foo(run): return 1\n@Variable\ndef one(run): return 1\n")
    text = '@Variable\ndef foo(run): return 2\n@Variable\ndef after(run, x: "var#foo"): return x\n'
    second = pipeline(text)
    with pytest.raises(ValueError, match=r"both have variables of these names.*'foo'"):
        first.union(second)

    def values(on_conflict):
        return first.union(second, on_conflict=on_conflict).execute(data=0).values

    assert values("keep") == values("left") == {"foo": 1, "one": 1, "after": 1}
    assert values("replace") == values("right") == {"foo": 2, "one": 1, "after": 2}
    assert list(first.vars) == ["foo", "one"]
    with pytest.raises(ValueError, match='give "error", "keep" or "replace"'):
        first.union(second, on_conflict="both")


def test_what_both_share_is_no_conflict_and_the_context_is_the_firsts():
    first = Pipeline(run_number=1, name="first").add(a)
    both = first.union(Pipeline(run_number=2, proposal=3).add(a, b))
    assert list(both.vars) == ["a", "b"]
    assert (both.run_number, both.proposal, both.name) == (1, None, "first")


def test_parameters_are_united_too():
    first = pipeline('k = Parameter(1)\n@Variable\ndef foo(run, k: "param#k"): return k\n')
    second = pipeline('k = Parameter(2)\n@Variable\ndef bar(run, k: "param#k"): return k\n')
    with pytest.raises(ValueError, match=r"both have parameters of these names.*'k'"):
        first.union(second)
    both = first.union(second, on_conflict="replace")
    assert both.execute(data=0).values == {"foo": 2, "bar": 2}


def test_problems_of_two_together_are_found():
    first = pipeline('@Variable(title="T")\ndef foo(run): return 1\n')
    both = first.union(pipeline('@Variable(title="T")\ndef bar(run): return 2\n'))
    assert "its title 'T' is also that of 'bar'" in str(both.execute(data=0).errors["foo"])
    assert both.select(variables="foo").execute(data=0).values == {"foo": 1}


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, "foo bar big hidden wrong_and_hidden bad skipped after nothing shown"),
        ({"variables": ["bar"]}, "foo bar"),
        ({"variables": "foo"}, "foo"),
        ({"variables": []}, ""),
        ({"match": "the b"}, "foo bar"),
        ({"match": ["ba", "shown"]}, "foo bar bad shown"),
        ({"variables": ["nothing"], "match": ["shown"]}, "nothing shown"),
        ({"run_data": "raw"}, "foo big hidden wrong_and_hidden bad skipped after nothing shown"),
        ({"run_data": "proc"}, "foo bar"),
        ({"variables": ["bar"], "run_data": "raw"}, ""),
        ({"cluster": True}, "big hidden"),
        ({"cluster": False, "match": ["ba"]}, "foo bar bad"),
    ],
)
def test_some_are_chosen_with_what_they_need(chosen, names):
    made = pipeline(SEVERAL)
    some = made.select(**chosen)
    assert list(some.vars) == names.split()
    assert not any(
        "was not computed" in str(e) or "no such variable" in str(e)
        for e in some.execute(data=[1]).errors.values()
    )
    assert len(made.vars) == 10


def test_wrong_choices_are_refused():
    with pytest.raises(KeyError, match=r"there is no variable 'fooo' .did you mean 'foo'"):
        pipeline(SEVERAL).select(variables=["fooo"])
    for wrong in (pipeline(SEVERAL).select, pipeline(SEVERAL).with_context, Pipeline):
        with pytest.raises(ValueError, match='run_data=\'row\': give "raw", "proc" or "all"'):
            wrong(run_data="row")


# from files and texts


def test_a_file_is_loaded_as_it_is_now(tmp_path):
    path = written(tmp_path, "import helper\n@Variable\ndef foo(run): return helper.X\n")
    (tmp_path / "helper.py").write_text("X = 1\n")
    first = Pipeline.from_context_file(path)
    (tmp_path / "helper.py").write_text("X = 2\n")
    second = Pipeline.from_context_file(str(path))
    assert (first.execute(data=0).values, second.execute(data=0).values) == ({"foo": 1}, {"foo": 2})
    assert "context" not in sys.modules


def test_files_in_two_folders_have_their_own_modules(tmp_path):
    made = []
    for name in ("one", "two", "one"):
        path = written(tmp_path / name, "import helper\n@Variable\ndef foo(run): return helper.X\n")
        (tmp_path / name / "helper.py").write_text(f"X = {name!r}\n")
        made.append(Pipeline.from_context_file(path))
    assert [p.execute(data=0).values["foo"] for p in made] == ["one", "two", "one"]


def test_what_is_wrong_has_its_line():
    with pytest.raises(ContextError, match="line 2: ZeroDivisionError"):
        pipeline("1 / 0\n")
    with pytest.raises(ContextError, match="line 2: SyntaxError"):
        pipeline("x =\n")
    made = pipeline("@Variable\ndef foo(run, x: 'var#bar'): ...\n", path="mine")
    assert str(made.problems[0]).startswith("line 3: foo: argument 'x'")
    assert str(made.execute(data=0).errors["foo"]).startswith("line 3: foo: argument 'x'")


def test_tracebacks_show_the_lines_of_a_text():
    import traceback

    error = pipeline("@Variable\ndef foo(run): raise ValueError('here')\n").execute(data=0).errors
    assert "raise ValueError('here')" in "".join(traceback.format_exception(error["foo"]))


def test_a_users_own_module_called_context_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "context", textwrap)
    pipeline("@Variable\ndef foo(run): return 1\n")
    assert sys.modules["context"] is textwrap


# in a context file


def test_a_file_can_consist_of_a_pipeline_alone(tmp_path):
    loaded = load(
        written(
            tmp_path,
            """
            @Variable
            def inner(run, n: "meta#run_number" = 0): return run * 10
            @Variable
            def outer(run):
                return part.execute(data=run + 1).values["inner"]
            @Group
            class Some:
                @Variable(units=3)
                def thing(self, run): return 1
            group = Some(title="Group")
            part = Pipeline().add(inner)
            Pipeline.set_default(Pipeline(name="all").add(outer, group))
            """,
        )
    )
    assert list(loaded.variables) == ["outer", "group.thing"]
    assert loaded.variables["group.thing"].title == "Group/thing"
    assert [str(p) for p in Graph(loaded).problems] == [
        "line 9: group.thing: units=3 is not possible (give a text)"
    ]
    made = Pipeline.from_context_file(tmp_path / "context.py")
    assert made.execute(data=1).values == {"outer": 20}


def test_the_default_pipeline_has_what_the_file_defines_and_what_is_added():
    made = pipeline("""
        @Variable
        def foo(run): return 1
        text = "from damnit_ctx import *\\n@Variable\\ndef bar(run): return 2\\n"
        other = Pipeline.from_str(text)
        Pipeline.default().add(foo, list(other.vars.values()))
        from dataclasses import dataclass
        @dataclass
        class After:
            x: "int"
    """)
    assert made.execute(data=0).values == {"foo": 1, "bar": 2}


def test_a_conflict_of_the_default_pipeline_is_a_problem_of_the_file():
    with pytest.raises(ContextError, match="both have variables of these names"):
        pipeline("""
            @Variable
            def foo(run): return 1
            other = Variable(lambda run: 2)
            other.rename("foo")
            Pipeline.default().add({"foo": other})
            del other
        """)


def test_outside_of_a_file_there_is_no_default():
    Pipeline.set_default(Pipeline().add(a))
    assert Pipeline.default().vars == {}
    with pytest.raises(TypeError, match="set_default takes a Pipeline, not 3"):
        Pipeline.set_default(3)


def test_a_pipeline_in_a_variable_leaves_the_parameters_of_a_group_as_they_are():
    made = pipeline("""
        @Group
        class Some:
            k: object = None
            @Variable
            def thing(self, run): return self.k
        group = Some(k=Parameter(1))
        part = Pipeline().add({"group": group}).with_context(param_values={"group.k": 5})
        @Variable
        def inner(run): return part.execute(data=0).values["group.thing"]
        @Variable
        def later(run, x: "var#inner"): return group.k
    """)
    assert made.execute(data=0).values == {"group.thing": 1, "inner": 5, "later": 1}


def test_only_what_computes_loads_large_libraries(tmp_path):
    import subprocess

    code = "import sys; from ctxlib import Pipeline; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# many runs, and saving


def test_many_runs_at_once():
    made = pipeline("""
        import os
        import numpy as np
        @Variable
        def number(run, n: "meta#run_number"):
            if n == 2:
                os._exit(1)
            return Cell(np.full(3, n), bold=True)
        @Variable(transient=True)
        def open_file(run): return open(os.devnull)
        @Variable
        def even(run, n: "meta#run_number"):
            if n % 2:
                raise Skip("odd")
            return n
    """)
    with LocalExecutionBackend(2) as backend:
        found = list(
            backend.map(
                lambda run: (run, made.with_context(run_number=run).execute(data=0)), [1, 2, 3, 4]
            )
        )
    (lost,) = (result for result in found if isinstance(result, ItemError))
    assert (lost.item, str(lost)) == (2, "ended by itself with exit code 1")
    runs = {r[0]: r[1] for r in found if not isinstance(r, ItemError)}
    assert {n: r.values["number"].tolist() for n, r in runs.items()} == {
        1: [1, 1, 1], 3: [3, 3, 3], 4: [4, 4, 4],
    }  # fmt: skip
    assert runs[1].cells["number"].bold is True
    assert (type(runs[3].errors["even"]), str(runs[3].errors["even"])) == (Skip, "odd")
    assert os.getpid() not in runs


def test_results_are_saved_by_submitting_them(tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(
        "ctxlib.submission.submit", lambda *args, **more: submitted.append((args, more))
    )
    results = pipeline(SEVERAL).execute(data=[1])
    results.save(tmp_path, 1234, 42)
    ((proposal, run, variables), more), = submitted  # fmt: skip
    assert (proposal, run, more["damnit_dir"], more["provenance"]) == (
        1234, 42, tmp_path, "pipeline",
    )  # fmt: skip
    assert list(variables) == ["foo", "bar", "big", "nothing", "shown"]
    assert isinstance(variables["foo"], Cell)
    assert list(more["errors"]) == ["bad", "skipped", "after"]
