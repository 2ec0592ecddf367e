import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ctxlib.errors import Skip, VariableError
from ctxlib.evaluate import evaluate
from ctxlib.graph import Graph
from ctxlib.metadata import MetadataError
from ctxlib.protect import protected

META = {"run_number": 42, "proposal": 1234, "proposal_path": "/p"}


class Journal:
    """Remembers what the recorder is told; `refuse` is the type that it cannot save."""

    def __init__(self, refuse=()):
        self.lines, self.values, self.errors, self.refuse = [], {}, {}, refuse

    def started(self, node):
        self.lines.append(("started", node.name))

    def finished(self, node, value):
        if isinstance(value, self.refuse):
            raise TypeError(f"{type(value).__name__} cannot be saved")
        self.lines.append(("finished", node.name))
        self.values[node.name] = value

    def retried(self, node, error, left):
        self.lines.append(("retried", node.name, str(error), left))

    def failed(self, node, error):
        self.lines.append(("failed", node.name))
        self.errors[node.name] = error

    @property
    def texts(self):
        return {name: str(error) for name, error in self.errors.items()}


class Past:
    """What is known from before: values and errors by name."""

    def __init__(self, values=(), errors=(), nothing=()):
        self.values, self.errors, self.nothing = dict(values), dict(errors), set(nothing)

    def value(self, name):
        if isinstance(self.values[name], Exception):
            raise self.values[name]
        return self.values[name]

    def error(self, name):
        return self.errors.get(name)

    def done(self, name):
        return name in self.values or name in self.errors or name in self.nothing


def evaluated(loaded, *, past=None, refuse=(), only=None, run="the run", **more):
    graph, journal = Graph(loaded), Journal(refuse)
    nodes = [graph.nodes[name] for name in graph.order if only is None or name in only]
    evaluate(nodes, run, META, journal, known=past or Past(), **more)
    return journal


def test_arguments_reach_the_functions(context):
    journal = evaluated(
        context("""
    @Variable
    def foo(run, number: "meta#run_number", where: "meta#proposal_path"):
        return run, number, where
    @Variable
    def bar(run, value: "var#foo", *, proposal: "meta#proposal", unused=7):
        return value[1] * 2 + proposal + unused
    @Variable
    def baz(run, every: "var#ba[rz]"):
        return every
    """)
    )
    assert journal.values == {
        "foo": ("the run", 42, "/p"),
        "bar": 84 + 1234 + 7,
        "baz": {"bar": 84 + 1234 + 7},
    }
    assert journal.lines[:3] == [("started", "foo"), ("finished", "foo"), ("started", "bar")]


def test_errors_stop_dependents_with_the_chain_of_reasons(context):
    journal = evaluated(
        context("""
    import sys
    @Variable
    def wrong(run): raise ValueError("no beam")
    @Variable
    def skipped(run): raise Skip("Run is not a scan")
    @Variable
    def empty(run): return None
    @Variable
    def exits(run): sys.exit(3)
    @Variable
    def a(run, x: "var#wrong"): ...
    @Variable
    def b(run, x: "var#a"): ...
    @Variable
    def c(run, x: "var#skipped"): ...
    @Variable
    def d(run, x: "var#empty"): ...
    @Variable
    def e(run, x: "var#exits"): ...
    @Variable
    def silent(run): raise Skip
    @Variable
    def f(run, x: "var#silent"): ...
    @Variable
    def fine(run): return 1
    """)
    )
    assert journal.values == {"empty": None, "fine": 1}
    assert {type(journal.errors[name]) for name in "abcdef"} == {Skip}
    assert journal.texts["a"] == "needs 'wrong', which failed: ValueError: no beam"
    assert journal.texts["b"] == (
        "needs 'a', which was skipped: needs 'wrong', which failed: ValueError: no beam"
    )
    assert journal.texts["c"] == "needs 'skipped', which was skipped: Run is not a scan"
    assert journal.texts["d"] == "needs 'empty', which returned nothing"
    assert journal.texts["e"] == "needs 'exits', which failed: SystemExit: 3"
    assert journal.texts["f"] == "needs 'silent', which was skipped: no reason given"
    assert isinstance(journal.errors["exits"], SystemExit)
    assert not {("started", name) for name in "abcdef"} & set(journal.lines)


def test_defaults_stand_for_what_gave_nothing(context):
    journal = evaluated(
        context("""
    @Variable
    def wrong(run): 1 / 0
    @Variable
    def empty(run): return Cell(summary_value="nothing to see")
    @Variable
    def fine(run): return 1
    @Variable
    def all(run, a: "var#wrong" = 42, b: "var#empty" = None, c: "var#fine" = 3): return a, b, c
    @Variable
    def some(run, x: "var#[wef]*"): return x
    @Variable
    def none(run, x: "var#wron*" = "default"): return x
    @Variable
    def nothing(run, x: "var#wron*"): ...
    """)
    )
    assert journal.values["all"] == (42, None, 1)
    assert journal.values["some"] == {"fine": 1}
    assert journal.values["none"] == "default"
    assert "which failed: ZeroDivisionError" in journal.texts["nothing"]


def test_a_variable_with_a_problem_is_not_called(context):
    journal = evaluated(
        context("""
    @Variable(data="x")
    def bad(run): raise SystemError("was called")
    @Variable
    def after(run, x: "var#bad"): ...
    @Variable
    def other(run, x: "var#bad" = 5): return x
    """)
    )
    assert isinstance(journal.errors["bad"], VariableError)
    assert journal.texts["bad"].startswith("line 2: bad: data='x' is not possible")
    assert "needs 'bad', which failed: VariableError: line 2" in journal.texts["after"]
    assert journal.values == {"other": 5}
    assert ("started", "bad") not in journal.lines


def test_what_cannot_be_saved_is_the_variables_error(context):
    journal = evaluated(
        context("""
    @Variable
    def odd(run): return {1, 2}
    @Variable
    def after(run, x: "var#odd"): ...
    """),
        refuse=set,
    )
    assert journal.texts["odd"] == "set cannot be saved"
    assert journal.texts["after"] == "needs 'odd', which failed: TypeError: set cannot be saved"


def test_dependents_get_the_data_of_a_cell(context):
    journal = evaluated(
        context("""
    @Variable
    def cell(run): return Cell(5, summary_value="five")
    @Variable
    def after(run, x: "var#cell"): return x
    """)
    )
    assert journal.values["after"] == 5
    assert journal.values["cell"].summary_value == "five"


def test_an_interrupt_passes(context):
    loaded = context("@Variable\ndef foo(run): raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        evaluated(loaded)


def test_an_interrupt_is_the_variables_own_where_nobody_may_interrupt(context):
    loaded = context("@Variable\ndef foo(run): raise KeyboardInterrupt('by itself')\n")
    journal = evaluated(loaded, interruptible=False)
    assert str(journal.errors["foo"]) == "by itself"
    assert type(journal.errors["foo"]) is KeyboardInterrupt


@pytest.mark.parametrize(
    "error", ["GeneratorExit", "MemoryError('x')", "type('Odd', (BaseException,), {})()"]
)
def test_everything_else_is_the_variables_own_error(context, error):
    journal = evaluated(
        context(f"@Variable\ndef foo(run): raise {error}\n@Variable\ndef bar(run): return 1\n")
    )
    assert list(journal.errors) == ["foo"]
    assert journal.values == {"bar": 1}


# protection


def test_dependents_cannot_change_what_another_one_gets(context):
    journal = evaluated(
        context("""
    import numpy as np
    @Variable
    def array(run): return np.zeros(3)
    @Variable
    def nested(run, x: "var#array"): return {"list": [x, (x,)]}
    @Variable
    def spoil(run, a: "var#array", b: "var#nested"):
        a += 1
        b["list"][0][:] = 7
        b["list"].clear()
        b.clear()
    @Variable
    def check(run, a: "var#array", b: "var#nested"):
        return a.sum(), len(b["list"]), b["list"][0].sum()
    @Variable
    def twice(run, a: "var#array", b: "var#array"):
        a += 1
        return b.sum()
    """)
    )
    assert journal.values["check"] == (0, 2, 0)
    assert journal.values["twice"] == 0


def test_values_are_let_go_when_nothing_needs_them_any_more(context):
    class Forgetful(Journal):
        def finished(self, node, value):
            self.values[node.name] = value if isinstance(value, bool) else None

    loaded = context("""
    import gc, weakref
    import numpy as np
    seen = []
    @Variable
    def big(run):
        made = np.zeros(10)
        seen.append(weakref.ref(made))
        return made
    @Variable
    def nothing(run): return None
    @Variable
    def needs(run, x: "var#big", y: "var#nothing"): ...
    @Variable
    def uses(run, x: "var#big"): return seen[0]() is x
    @Variable
    def later(run):
        gc.collect()
        return seen[0]() is None
    """)
    graph, journal = Graph(loaded), Forgetful()
    nodes = [graph.nodes[name] for name in ("big", "nothing", "uses", "needs", "later")]
    evaluate(nodes, None, META, journal, known=Past())
    assert (journal.values["uses"], journal.values["later"]) == (False, True)


def test_a_copy_that_fails_costs_only_the_one_it_was_for(context):
    loaded = context("""
    import numpy as np
    class Big(np.ndarray):
        copies = 0
        def copy(self):
            Big.copies += 1
            if Big.copies == 1:
                raise MemoryError("too big")
            return np.array(self)
    @Variable
    def big(run): return np.zeros(3).view(Big)
    @Variable
    def first(run, x: "var#big"): return 1
    @Variable
    def second(run, x: "var#big"): return 2
    @Variable
    def third(run, x: "var#big"): return 3
    """)
    journal = evaluated(loaded)
    assert journal.texts == {"first": "too big"}
    assert (journal.values["second"], journal.values["third"]) == (2, 3)


def test_copies():
    inner = np.arange(3)
    circle = [inner, inner]
    circle.append(circle)
    copied = protected(circle)
    assert copied[2] is copied
    assert copied[0] is copied[1]
    assert copied[0] is not inner
    table = pd.DataFrame({"a": [1, 2]})
    array = xr.DataArray(inner.copy(), dims="x", attrs={"units": "m"})
    for value in (
        array,
        array.to_dataset(name="v"),
        table,
        table["a"],
        np.ma.masked_less(inner, 1),
    ):
        copied = protected(value)
        assert type(copied) is type(value)
        assert copied is not value
    other = protected(array)
    other += 1
    xr.testing.assert_identical(array, xr.DataArray([0, 1, 2], dims="x", attrs={"units": "m"}))
    things = {1, 2}
    assert protected(things) == things
    assert protected(things) is not things
    assert protected("text") == "text"
    figure = object()
    assert protected(figure) is figure


# what is known from before

CHAIN = """
@Variable
def a(run): raise AssertionError("computed again")
@Variable(transient=True)
def t(run, x: "var#a"): return x + 1
@Variable
def b(run, x: "var#t"): return x + 1
@Variable
def c(run, x: "var#b", y: "var#a"): return x, y
"""


def test_what_is_done_is_not_computed_again(context):
    journal = evaluated(context(CHAIN), past=Past({"a": 1}))
    assert journal.values == {"t": 2, "b": 3, "c": (3, 1)}
    # A transient result that only done variables needed is not needed again.
    journal = evaluated(context(CHAIN), past=Past({"a": 1, "b": 3}, nothing=["t"]))
    assert journal.values == {"c": (3, 1)}
    journal = evaluated(context(CHAIN), past=Past({"a": 1, "c": 3}, nothing=["t"]))
    assert journal.values == {"t": 2, "b": 3}


def test_errors_from_before_reach_dependents(context):
    killed = Past({"a": 1}, {"t": ("Killed", "killed: used more than 25 GB")})
    journal = evaluated(context(CHAIN), past=killed)
    assert "t" not in journal.texts
    assert journal.texts["b"] == "needs 't', which failed: Killed: killed: used more than 25 GB"
    assert "needs 'b', which was skipped: needs 't'" in journal.texts["c"]

    skipped = Past(errors={"a": ("Skip", "no scan")})
    assert evaluated(context(CHAIN), past=skipped).texts["t"] == (
        "needs 'a', which was skipped: no scan"
    )


def test_inputs_of_another_job_that_are_not_there(context):
    loaded = context(CHAIN)
    assert evaluated(loaded, only=["t"]).texts["t"] == "needs 'a', which was not computed"
    nothing = Past(nothing=["a"])
    assert evaluated(loaded, only=["t"], past=nothing).texts["t"] == (
        "needs 'a', which returned nothing"
    )
    damaged = Past({"a": OSError("truncated")})
    assert evaluated(loaded, only=["t"], past=damaged).texts["t"] == (
        "needs 'a', which cannot be read: OSError: truncated"
    )


# tries, and what catalogues know


def test_a_function_that_raises_is_called_again_with_what_it_was_given(context):
    journal = evaluated(
        context("""
    import numpy as np
    tries = []
    @Variable
    def data(run):
        return np.zeros(2)
    @Variable(retries=3)
    def settles(run, data: "var#data"):
        data += 1
        tries.append(data[0])
        if len(tries) < 3:
            raise OSError(f"no {len(tries)}")
        return data, tries
    @Variable(retries=1)
    def never(run):
        tries.append("never")
        raise ValueError("no beam")
    @Variable(retries=5)
    def skips(run):
        raise Skip("dark")
    @Variable(retries=5)
    def exits(run):
        raise SystemExit(3)
    """)
    )
    data, tries = journal.values["settles"]
    assert data.tolist() == [1.0, 1.0]
    assert tries == [1.0, 1.0, 1.0, "never", "never"]
    assert [line for line in journal.lines if line[0] == "retried"] == [
        ("retried", "settles", "no 1", 3),
        ("retried", "settles", "no 2", 2),
        ("retried", "never", "no beam", 1),
    ]
    assert journal.texts == {"never": "no beam", "skips": "dark", "exits": "3"}
    assert journal.lines.count(("started", "settles")) == 1


class Catalogues:
    """Knows a sample, no run type, and is asked in vain for the rest."""

    def value(self, catalogue, field):
        if field == "techniques":
            raise MetadataError("myMdC does not answer")
        return {"sample_name": "lysozyme", "run_type": None}[field]


MYMDC = """
    @Variable
    def sample(run, name: "mymdc#sample_name"): return name
    @Variable
    def kind(run, kind: "mymdc#run_type"): return kind
    @Variable
    def kind_or(run, kind: "mymdc#run_type" = "unknown"): return kind
    @Variable
    def techniques(run, found: "mymdc#techniques"): return found
    @Variable
    def techniques_or(run, found: "mymdc#techniques" = ()): return len(found)
    @Variable
    def after(run, x: "var#techniques"): ...
"""


def test_what_catalogues_know_reaches_the_functions(context):
    graph, journal = Graph(context(MYMDC)), Journal()
    nodes = [graph.nodes[name] for name in graph.order]
    evaluate(nodes, "run", META, journal, known=Past(), metadata=Catalogues())
    assert journal.values == {"sample": "lysozyme", "kind_or": "unknown", "techniques_or": 0}
    assert journal.texts == {
        "kind": "needs mymdc#run_type, which has no value for this run",
        "techniques": "myMdC does not answer",
        "after": "needs 'techniques', which failed: MetadataError: myMdC does not answer",
    }
    assert isinstance(journal.errors["kind"], Skip)
    assert isinstance(journal.errors["techniques"], MetadataError)


def test_without_a_proposal_no_catalogue_knows_anything(context):
    journal = evaluated(context(MYMDC))
    assert journal.values == {"kind_or": "unknown", "techniques_or": 0}
    assert journal.texts["sample"] == "mymdc#sample_name is only known for a run of a proposal"
