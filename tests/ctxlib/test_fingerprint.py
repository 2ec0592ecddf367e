"""Fingerprints: what makes a result stale, row by row, and what does not."""

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxlib.graph import Graph
from ctxlib.reloading import load_anew
from ctxlib.staleness import complete, reasons

CONTEXT = '''\
import numpy as np
import functools
from damnit_ctx import Group, Parameter, Variable
from helping import calibrate, GAIN
import tools

LIMIT = 5.0
MASK = np.arange(4)
METHODS = {"sum": np.sum, "own": None}
threshold = Parameter(3)

def scale(x):
    """Makes it larger."""
    # by much
    return x * deeper(LIMIT)

def deeper(y):
    return y + 1

METHODS["own"] = deeper

class Peak:
    width = 2

    def fit(self, data):
        return data * self.width

PEAK = Peak()
PEAK.centre = 1

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@Variable(title="Energy", summary="mean", units="keV", version=1)
def energy(run):
    """The energy."""
    # a comment
    data = run["a"] + 1
    return data

@Variable(data="raw")
def ratio(run, energy: "var#energy", count: "var#count" = 2):
    return energy / count

@Variable()
def count(run):
    return 7

@Variable(tags="x")
def scaled(run):
    return scale(run)

@Variable()
def masked(run, other: "param#threshold" = 1):
    return run[MASK] * other

@Variable()
@logged
def wrapped(run):
    return METHODS["sum"](run)

@Variable()
def fitted(run):
    return PEAK.fit(run)

@Variable()
def imported(run):
    import late
    return calibrate(run) * GAIN

@Variable()
def tooled(run):
    return tools.correct(run)

@Group
class Detector:
    distance: float
    gain: float = 1.0
    note: str = ""

    @Variable()
    def image(self, run):
        return self.corrected(run)

    def corrected(self, data):
        return data * self.distance

    @Variable()
    def amplified(self, run):
        return run * self.gain

    @Variable()
    def whole(self, run):
        return use(self)

def use(detector):
    return detector

front = Detector(distance=1.5)

def make(factor):
    @Variable(title=f"Times {factor}")
    def times(run):
        return run * factor
    return times

double = make(2)
'''
HELPERS = {
    "helping.py": '''\
        """Help."""
        from more import deep
        GAIN = 3

        def calibrate(x):
            return deep(x)

        def unused(x):
            return x
        ''',
    "more.py": "def deep(x):\n    return x\n",
    "late.py": "VALUE = 1\n",
    "tools.py": "def correct(x):\n    return x - 1\n",
}


class Project:
    """A context file and its helper modules, that a test edits."""

    def __init__(self, folder):
        self.folder = folder
        for name, text in {"context.py": CONTEXT, **HELPERS}.items():
            self.write(name, text)

    def write(self, name, text):
        (self.folder / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def edit(self, name, old, new):
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (old, text.count(old))
        self.write(name, text.replace(old, new))

    def fingerprints(self, **params):
        context = load_anew(self.folder / "context.py")
        graph = Graph(context)
        described = graph.describe()
        return complete(described, context.set_parameters(params), list(graph.nodes))

    def stale_since(self, before, **params):
        now = self.fingerprints(**params)
        found = {name: reasons(before.get(name, {}), now[name]) for name in now}
        return {name: words for name, words in found.items() if words}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.delitem(sys.modules, "damnit_ctx", raising=False)
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.modules.pop("damnit_ctx", None)


STALE = {
    "its own source": (
        ("context.py", "+ 1\n    return data", "+ 2\n    return data"),
        {
            "energy": ["its source changed"],
            "ratio": ["'energy', which it needs, changed"],
        },
    ),
    "what its argument means": (
        ("context.py", 'count: "var#count"', 'count: "var#double"'),
        {"ratio": ["its source changed"]},
    ),
    "the default of an argument": (
        ("context.py", '"var#count" = 2', '"var#count" = 3'),
        {"ratio": ["its source changed"]},
    ),
    "summary": (
        ("context.py", 'summary="mean"', 'summary="max"'),
        {
            "energy": ["its setting summary was 'mean', is 'max'"],
            "ratio": ["'energy', which it needs, changed"],
        },
    ),
    "units": (
        ("context.py", 'units="keV"', 'units="eV"'),
        {
            "energy": ["its setting units was 'keV', is 'eV'"],
            "ratio": ["'energy', which it needs, changed"],
        },
    ),
    "data": (
        ("context.py", '@Variable(tags="x")', '@Variable(tags="x", data="proc")'),
        {"scaled": ["its setting data was 'raw', is 'proc'"]},
    ),
    "transient": (
        ("context.py", '@Variable(tags="x")', '@Variable(tags="x", transient=True)'),
        {"scaled": ["its setting transient was not set, is True"]},
    ),
    "version": (
        ("context.py", "version=1", "version=2"),
        {
            "energy": ["its version was 1, is 2"],
            "ratio": ["'energy', which it needs, changed"],
        },
    ),
    "a dependency's": (
        ("context.py", "return 7", "return 8"),
        {"count": ["its source changed"], "ratio": ["'count', which it needs, changed"]},
    ),
    "a dependency that goes": (
        ("context.py", "def count(run)", "def counts(run)"),
        {
            "counts": ["no"],
            "ratio": ["there is a problem with it now", "'count', which it needs, is gone"],
        },
    ),
    "a helper function's": (
        ("context.py", "return x * deeper", "return x / deeper"),
        {"scaled": ["function scale changed"]},
    ),
    "a function that a helper function calls, and one in a constant": (
        ("context.py", "return y + 1", "return y + 2"),
        {"scaled": ["function deeper changed"], "wrapped": ["function deeper changed"]},
    ),
    "a decorator of the project's": (
        ("context.py", "return function(*args)", "return -function(*args)"),
        {"wrapped": ["function logged changed"]},
    ),
    "a constant's": (
        ("context.py", "LIMIT = 5.0", "LIMIT = 6.0"),
        {"scaled": ["constant LIMIT changed"]},
    ),
    "an array's": (
        ("context.py", "np.arange(4)", "np.arange(4.0)"),
        {"masked": ["constant MASK changed"]},
    ),
    "an object's": (
        ("context.py", "PEAK.centre = 1", "PEAK.centre = 2"),
        {"fitted": ["constant PEAK changed"]},
    ),
    "a class's": (
        ("context.py", "return data * self.width", "return data + self.width"),
        {"fitted": ["class Peak changed"]},
    ),
    "a helper module's": (
        ("helping.py", "return deep(x)", "return deep(x) + 1"),
        {"imported": ["helper module helping.py changed"]},
    ),
    "a module that a helper module imports": (
        ("more.py", "return x", "return x + 1"),
        {"imported": ["helper module more.py changed"]},
    ),
    "a module that is imported inside of the function": (
        ("late.py", "1", "2"),
        {"imported": ["helper module late.py changed"]},
    ),
    "a module by whose name its functions are called": (
        ("tools.py", "x - 1", "x - 2"),
        {"tooled": ["helper module tools.py changed"]},
    ),
    "a group's field": (
        ("context.py", "distance=1.5", "distance=1.6"),
        {
            "front.image": ["field distance of its group changed"],
            "front.whole": ["field self of its group changed"],
        },
    ),
    "the default of a group's field": (
        ("context.py", "gain: float = 1.0", "gain: float = 1.1"),
        {
            "front.amplified": ["field gain of its group changed"],
            "front.whole": ["class Detector changed", "field self of its group changed"],
        },
    ),
    "a method that it calls": (
        ("context.py", "return data * self.distance", "return data / self.distance"),
        {
            "front.image": ["function corrected changed"],
            "front.whole": ["class Detector changed"],
        },
    ),
    "what a function around it was given": (
        ("context.py", "make(2)", "make(3)"),
        {"double": ["constant factor changed"]},
    ),
    "a parameter's default": (
        ("context.py", "Parameter(3)", "Parameter(4)"),
        {"masked": ["parameter threshold was 3, is 4"]},
    ),
    "a problem that comes": (
        ("context.py", '@Variable(tags="x")', '@Variable(tags="x", colour=1)'),
        {"scaled": ["there is a problem with it now"]},
    ),
}


@pytest.mark.parametrize("row", STALE)
def test_stale(project, row):
    edit, expected = STALE[row]
    before = project.fingerprints()
    project.edit(*edit)
    found = project.stale_since(before)
    new = found.keys() - before.keys()
    assert {name: ["no"] if name in new else words for name, words in found.items()} == expected


def test_the_value_that_a_parameter_has_counts(project):
    before = project.fingerprints()
    words = {"masked": ["parameter threshold was 3, is 'high'"]}
    assert project.stale_since(before, threshold="high") == words
    assert project.stale_since(project.fingerprints(threshold=3)) == {}


CURRENT = {
    "a comment": ("context.py", "# a comment", "# another comment"),
    "a docstring": ("context.py", '"""The energy."""', '"""The energy of it."""'),
    "a docstring that goes": ("context.py", '    """Makes it larger."""\n', ""),
    "the layout": ("context.py", "return energy / count", "return (\n        energy/count )"),
    "quotes": ("context.py", 'run["a"]', "run['a']"),
    "title": ("context.py", 'title="Energy"', 'title="Photon energy"'),
    "a title that comes": ("context.py", 'data="raw"', 'data="raw", title="R"'),
    "description": ("context.py", 'data="raw"', 'data="raw", description="R"'),
    "tags": ("context.py", 'tags="x"', 'tags=["x", "y"]'),
    "cluster": ("context.py", 'tags="x"', 'tags="x", cluster=True'),
    "limits": ("context.py", 'tags="x"', 'timeout=5, retries=2, cpus=3, memory="1G"'),
    "a variable that nothing needs": ("context.py", "double = make(2)", "double = make(2)\nx = 1"),
    "a field that it does not use": ("helping.py", "\ndef unused", "# a comment\n\ndef unused"),
    "a comment in a module": ("more.py", "return x", "return x  # deep"),
    "a docstring of a module": ("helping.py", '"""Help."""', '"""Help me."""'),
    "a parameter's description": ("context.py", "Parameter(3)", 'Parameter(3, description="x")'),
    "a module that is not used": ("context.py", "import tools", "import tools\nimport late"),
}


@pytest.mark.parametrize("row", CURRENT)
def test_not_stale(project, row):
    before = project.fingerprints()
    project.edit(*CURRENT[row])
    assert project.stale_since(before) == {}


def disturbed(text, chance):
    """Give the same file with other comments, docstrings, blank lines and spaces."""
    lines = []
    for line in text.splitlines():
        if line.strip().startswith('"""'):
            if chance.random() < 0.5:
                continue
            line = line.replace('"""', "'" * 3).replace(".", f" {chance.random()}.")
        while chance.random() < 0.3:
            lines.append(chance.choice(["", "   ", "# x = 1", "        # return 2"]))
        lines.append(line + chance.choice(["", "  ", "  # and so on"]))
    return "\n".join(lines)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_comments_order_and_layout_never_count(project, seed):
    chance = random.Random(seed)
    project.write("context.py", CONTEXT)
    before = project.fingerprints()
    start, end = CONTEXT.index('@Variable(title="Energy"'), CONTEXT.index("@Group")
    variables = CONTEXT[start:end].rstrip().split("\n\n@")
    variables = [variables[0], *(f"@{text}" for text in variables[1:])]
    chance.shuffle(variables)
    text = CONTEXT[:start] + "\n\n".join(variables) + "\n\n" + CONTEXT[end:]
    project.write("context.py", disturbed(text, chance))
    assert project.stale_since(before) == {}


def test_the_order_in_a_module_does_not_count(project):
    before = project.fingerprints()
    project.write(
        "helping.py",
        """
        GAIN = 3

        def unused(x):
            return x

        def calibrate(x):
            return deep(x)

        from more import deep
        """,
    )
    assert project.stale_since(before) == {}
    project.write("more.py", "def deep(x):\n    return 2\ndef deep(x):\n    return x\n")
    before = project.fingerprints()
    project.write("more.py", "def deep(x):\n    return x\ndef deep(x):\n    return 2\n")
    assert set(project.stale_since(before)) == {"imported"}, "here the later one counts"


def test_everything_can_be_told_of_every_variable(project):
    assert not [name for name, parts in project.fingerprints().items() if "unknown" in parts]


ODD = """
import datetime, re, threading
from collections import namedtuple
from damnit_ctx import Group, Variable
from fractions import Fraction

LOCK = threading.Lock()
NAMES = {"b", "a", "c", (1, 2)}
PATTERN = re.compile("a+" * 100)
WHEN = datetime.date(2026, 11, 21)
Point = namedtuple("Point", "x y")
POINT = Point(1, {2, "z"})
LOOP = []
LOOP.append(LOOP)
pick = lambda x: x + 1

class Broken:
    @property
    def __dict__(self):
        raise RuntimeError("no")

BROKEN = Broken()

@Variable()
def constants(run):
    return LOCK, NAMES, PATTERN, WHEN, POINT, LOOP, BROKEN, Fraction(1, 3), pick(2)

anonymous = Variable(title="A")(lambda run: NAMES)
built_in = Variable(title="B")(len)

class Callable:
    def __call__(self, run):
        return LOCK

called = Variable(title="C")(Callable())

@Group
class Holder:
    lock: object

    @Variable()
    def held(self, run):
        return self.lock

holder = Holder(lock=threading.Lock())
"""


def test_odd_values_have_the_same_fingerprint_in_every_process(tmp_path):
    context = tmp_path / "context.py"
    context.write_text(ODD)
    found = []
    for seed in ("1", "2"):
        result = tmp_path / f"{seed}.json"
        command = [sys.executable, "-m", "ctxlib.context", str(context), str(result)]
        subprocess.run(
            command,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        variables = json.loads(result.read_text())["variables"]
        found.append({each["name"]: each["fingerprint"] for each in variables})
    assert found[0] == found[1]
    assert found[0].keys() == {"constants", "anonymous", "built_in", "called", "holder.held"}
    assert not [name for name, parts in found[0].items() if "unknown" in parts]
    assert {f"constant:{name}" for name in ("LOCK", "NAMES", "LOOP")} < found[0]["constants"].keys()


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("LOCK = threading.Lock()", "LOCK = threading.RLock()", {"constants", "called"}),
        ('"c", (1, 2)', '"c", (1, 3)', {"constants", "anonymous"}),
        ("x + 1", "x + 2", {"constants"}),
        ("lambda run: NAMES", "lambda run: (NAMES,)", {"anonymous"}),
        ("return LOCK\n", "return not LOCK\n", {"called"}),
        ("lock=threading.Lock()", "lock=threading.RLock()", {"holder.held"}),
    ],
)
def test_changes_of_odd_values_count(project, old, new, stale):
    project.write("context.py", ODD)
    before = project.fingerprints()
    project.edit("context.py", old, new)
    assert set(project.stale_since(before)) == stale


def test_what_cannot_be_told_is_always_stale():
    said = reasons({"source": "a"}, {"source": "a", "unknown": "OSError: no"})
    assert said == ["what its result depends on cannot be told: OSError: no"]
