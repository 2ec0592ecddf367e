import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ctxlib
from ctxlib.context import files_changed, load
from ctxlib.errors import ContextError, Problem
from ctxlib.graph import Graph


def broken(context, text, **options):
    with pytest.raises(ContextError) as caught:
        context(text, **options)
    (problem,) = caught.value.problems
    return problem


def problems(context, text):
    return [str(problem) for problem in Graph(context(text)).problems]


def run_python(*arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(ctxlib.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_what_is_collected_and_in_which_order(context, tmp_path):
    (tmp_path / "shared.py").write_text(
        "from damnit_ctx import Variable\n@Variable(title='Shared')\ndef shared(run): return 1\n"
    )
    loaded = context("""
    from shared import shared
    from shared import shared as again
    import numpy

    @Variable
    def zeta(run): return 2

    def make(title):
        @Variable(title=title)
        def inner(run): ...
        return inner

    one, two = make("One"), make("Two")
    square = Variable(title="Square")(lambda run: run**2)

    if __name__ == "__main__":
        raise RuntimeError("this is not the program")
    """)
    assert {name: v.title for name, v in loaded.variables.items()} == {
        "shared": "Shared",
        "zeta": "zeta",
        "one": "One",
        "two": "Two",
        "square": "Square",
    }
    assert [v.name for v in loaded.variables.values()] == list(loaded.variables)
    assert not loaded.problems
    assert len(loaded.sha256) == 64


def test_all_problems_come_at_once_with_their_lines(context):
    found = problems(
        context,
        """
        @Variable(data="prco", summary="meann")
        def one(run, number: "meta#run_numbr", z): ...

        @Variable
        def two(run, x: "var#tree", y: "self#one"): ...

        @Variable
        def three(run, x: "var#four"): ...

        @Variable(title="Late")
        def four(run, x: "var#three"): ...

        @Variable(title="Late", units=3)
        def five(run): ...

        @Variable(data="raw")
        def six(run, x: "var#seven"): ...

        @Variable(data="proc", tags=[""])
        def seven(): ...

        @Variable
        def start_time(run, x: "var#nothing*"): ...
        """,
    )
    expected = [
        ("line 2: one: ", "data='prco' is not possible (did you mean 'proc'?)"),
        ("line 2: one: ", "summary='meann' is not a function of NumPy"),
        ("line 3: one: ", "'meta#run_numbr' does not exist (did you mean 'run_number'?)"),
        ("line 3: one: ", "argument 'z' says nowhere where its value comes from"),
        ("line 6: two: ", "'var#tree': there is no such variable (did you mean 'three'?)"),
        ("line 6: two: ", "self# is for the variables of a group"),
        ("line 9: three: ", "it depends on itself: three → four → three"),
        ("line 12: four: ", "it depends on itself: four → three → four"),
        ("line 11: four: ", "its title 'Late' is also that of 'five' in line 14"),
        ("line 14: five: ", "units=3 is not possible"),
        ("line 17: six: ", "depends on 'seven', which needs proc data"),
        ("line 20: seven: ", "tags=[''] is not possible"),
        ("line 21: seven: ", "it does not take the run"),
        ("line 23: start_time: ", "every table has a column of this name"),
        ("line 24: start_time: ", "'var#nothing*': no variable matches"),
    ]
    for where, what in expected:
        assert [f for f in found if f.startswith(where) and what in f], (where, what)
    assert len(found) == len(expected)


def test_problems_cost_only_their_variables(context):
    graph = Graph(
        context("""
    @Variable(title="Same")
    def early(run): ...
    @Variable(title="Same")
    def late(run): ...
    @Variable
    def fine(run): ...
    """)
    )
    assert [name for name, node in graph.nodes.items() if node.problem] == ["early"]


def test_a_definition_that_another_one_replaces_is_reported(context):
    loaded = context("""
    import ctxlib
    @Variable
    def foo(run): ...
    @ctxlib.Variable(title="other")
    def foo(run): ...

    def plain(): ...
    def plain(): ...

    @Group
    class A:
        @Variable
        def v(self, run): ...
        @Variable
        def v(self, run): ...
    """)
    assert [str(problem) for problem in loaded.problems] == [
        "line 4: foo is defined again in line 6, and only that definition is used "
        "(rename one of the two)",
        "line 14: A.v is defined again in line 16, and only that definition is used "
        "(rename one of the two)",
    ]
    assert loaded.variables["foo"].title == "other"
    assert not any(node.problem for node in Graph(loaded).nodes.values())


def test_two_names_for_one_variable_name_both(context):
    loaded = context("""
    one = two = Variable(lambda run: 1)
    @Variable
    def foo(run): ...
    bar = foo
    """)
    (problem,) = loaded.problems
    assert "the variable has two names, 'one' and 'two'" in str(problem)
    assert list(loaded.variables) == ["one", "foo"]


@pytest.mark.parametrize("name", ["../../up", "a/b", ".reduced", "a b", ""])
def test_what_can_be_no_name_is_left_out(context, name):
    loaded = context(f"""
    globals()[{name!r}] = Variable(lambda run: 1)
    @Variable
    def good(run): return 1
    """)
    assert list(loaded.variables) == ["good"]
    [problem] = loaded.problems
    assert (problem.line, problem.message.startswith(f"{name!r} cannot be the name")) == (2, True)


def test_a_decorator_without_a_function_is_a_problem(context):
    assert "it has no function (write @Variable(...) above a function)" in str(
        context('foo = Variable("x")').problems[0]
    )


def test_problems_in_a_helper_module_name_that_file(context, tmp_path):
    (tmp_path / "shared.py").write_text(
        "from damnit_ctx import Variable\n@Variable(data='x')\ndef foo(run): ...\n"
    )
    (problem,) = context("from shared import foo\n").problems
    assert (problem.line, problem.variable) == (None, "foo")
    assert problem.message.endswith(f"in {tmp_path / 'shared.py'}, line 2")


# files that cannot be executed at all


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("def foo(:\n", 2, "SyntaxError: invalid syntax, in: def foo(:"),
        ("x = 1\n    y = 2\n", 3, "IndentationError: unexpected indent"),
        ("import nosuchmodule\n", 2, "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("x = 1\n1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", 3, "the file ends the process (SystemExit: 3)"),
        ("raise SystemExit\n", 2, "the file ends the process (SystemExit)"),
        ("raise GeneratorExit\n", 2, "GeneratorExit"),
        ("def foo():\n    raise ValueError('no')\nfoo()\n", 3, "ValueError: no"),
        ("from damnit_ctx import Banana\n", 2, "cannot import name 'Banana'"),
        ("import json\n\njson.loads('{')\n", 4, "JSONDecodeError"),
        ("Variable('t')(5)\n", 2, "@Variable is for functions, not for 5"),
    ],
)
def test_broken_files_say_where(context, text, line, message):
    problem = broken(context, text)
    assert problem.line == line
    assert message in problem.message
    assert problem.variable is None


@pytest.mark.parametrize("text", ["x = 1\n# Übung\n", "x = 1\ny = 'Übung'\n"])
def test_a_file_that_is_not_utf8_is_refused_as_python_does(context, tmp_path, text):
    path = tmp_path / "context.py"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ContextError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "line 2: SyntaxError: the byte 0xdc is not UTF-8 (save the file as UTF-8)"
    )
    path.write_text(f"# coding: latin-1\n{text}", encoding="latin-1")
    assert load(path).problems == []


def test_broken_helpers_say_where_in_both_files(context, tmp_path):
    (tmp_path / "helper.py").write_text("x = 1\nx / 0\n")
    (tmp_path / "typo.py").write_text("x = = 1\n")
    problem = broken(context, "x = 1\nimport helper\n")
    assert problem.line == 3
    assert f"(raised in {tmp_path / 'helper.py'}, line 2)" in problem.message
    problem = broken(context, "import typo\n")
    assert problem.line == 2
    assert "SyntaxError: invalid syntax (typo.py, line 1)" in problem.message


def test_a_missing_module_names_the_python_that_lacks_it(context):
    assert sys.executable in broken(context, "import nosuchmodule").mend


def test_files_that_are_no_text(context, tmp_path):
    path = tmp_path / "context.py"
    for content in (b"x = '\xff\xfe'\n", b"x = 1\0", b"(" * 500):
        path.write_bytes(content)
        with pytest.raises(ContextError):
            load(path)


def test_a_missing_file_or_a_folder(tmp_path):
    for path in (tmp_path / "context.py", tmp_path):
        with pytest.raises(ContextError) as caught:
            load(path)
        assert str(path) in caught.value.problems[0].message


def test_an_interrupt_passes(context):
    with pytest.raises(KeyboardInterrupt):
        context("raise KeyboardInterrupt")


# project files


def test_files_lists_what_the_context_imported_and_notices_changes(context, tmp_path):
    package = tmp_path / "tools"
    (package / "deep").mkdir(parents=True)
    helper = package / "deep" / "helper.py"
    helper.write_text("x = 1\n")
    (package / "__init__.py").touch()
    loaded = context("import numpy, xarray\nfrom tools.deep import helper\n")
    # A folder without __init__.py is no file.
    assert set(loaded.files) == {
        str(path) for path in (tmp_path / "context.py", package / "__init__.py", helper)
    }
    assert files_changed(loaded.files) == []
    helper.write_text("x = 12\n")
    assert files_changed(loaded.files) == [str(helper)]
    helper.unlink()
    assert files_changed(json.loads(json.dumps(loaded.files))) == [str(helper)]


def test_a_helper_edited_in_the_same_second_is_read_as_it_is(tmp_path):
    helper, path = tmp_path / "helper.py", tmp_path / "context.py"
    path.write_text("import helper\nprint(helper.x)\n")
    for value in (1, 2):
        helper.write_text(f"x = {value}\n")
        os.utime(helper, (1_000_000_000, 1_000_000_000))
        done = run_python("-m", "ctxlib.context", path, tmp_path / "out.json", folder="/")
        assert done.stdout == f"{value}\n"
    assert not (tmp_path / "__pycache__").exists()


def test_a_helper_can_import_the_context_and_dataclasses_know_it(context, tmp_path):
    (tmp_path / "helper.py").write_text("import context\nx = context.early\n")
    loaded = context(
        """
        from dataclasses import dataclass
        early = 5
        import helper

        @dataclass
        class Settings:
            x: int = helper.x

        @Variable
        def foo(run): return Settings().x
        """,
        head="from __future__ import annotations\nfrom damnit_ctx import Variable\n",
    )
    assert loaded.variables["foo"](None) == 5


def test_our_words_win_over_an_installed_damnit_ctx(context, tmp_path):
    (tmp_path / "damnit_ctx.py").write_text("raise RuntimeError('the wrong one')\n")
    loaded = context("import damnit_ctx\n@Variable\ndef foo(run): return damnit_ctx.__name__\n")
    assert loaded.variables["foo"](None) == "ctxlib"


# the program


def test_the_program_writes_what_is_in_the_file(tmp_path):
    path, result = tmp_path / "context.py", tmp_path / "out.json"
    path.write_text(
        "from damnit_ctx import Variable\n"
        "print('noise', open('context.py').read(4))\n"
        "@Variable(title='T', tags='t', units='mm', summary='mean', description='D', data='proc')\n"
        "def foo(run): ...\n"
        "@Variable\ndef bar(run, x: 'var#foo', y: 'var#fooo'): ...\n"
    )
    run_python("-m", "ctxlib.context", path, result, folder="/")
    answer = json.loads(result.read_text())
    fingerprint = answer["variables"][0].pop("fingerprint")
    assert set(fingerprint) == {"source", "setting:data", "setting:summary", "setting:units"}
    assert answer["variables"][0] == {
        "name": "foo",
        "title": "T",
        "description": "D",
        "tags": ["t"],
        "data": "proc",
        "backend": "",
        "transient": False,
        "units": "mm",
        "summary": "mean",
        "parameters": [],
        "version": None,
        "dependencies": [],
    }
    assert answer["variables"][1]["data"] == "proc"
    (problem,) = [Problem.from_json(problem) for problem in answer["problems"]]
    assert (problem.line, problem.variable, problem.mend) == (6, "bar", "did you mean 'foo'?")

    path.write_text("import sys; sys.exit()")
    run_python("-m", "ctxlib.context", path, result, folder="/")
    (problem,) = json.loads(result.read_text())["broken"]
    assert problem["line"] == 1


def test_loading_imports_nothing_heavy_of_its_own(tmp_path):
    (tmp_path / "context.py").write_text(
        "from damnit_ctx import *\n@Variable\ndef foo(run, x: 'var#bar' = 1): ...\n"
        "@Variable\ndef bar(run): ...\n"
    )
    code = (
        "import sys; from pathlib import Path; from ctxlib.context import load;"
        "from ctxlib.graph import Graph; import ctxlib.evaluate;"
        "assert not Graph(load(Path('context.py'))).problems;"
        "heavy = {'numpy', 'h5py', 'xarray', 'pandas', 'asyncio', 'daemon', 'difflib', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python("-c", code, folder=tmp_path).stdout == "[]\n"


def test_a_long_problem_is_shortened(context, tmp_path):
    path = tmp_path / "context.py"
    path.write_text("raise ValueError('x' * 1_000_000)\n")
    with pytest.raises(ContextError) as caught:
        load(path)
    assert len(str(caught.value)) < 11_000
