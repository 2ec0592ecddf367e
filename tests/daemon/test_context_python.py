"""What `db-config context_python` finds out about a Python."""

import sys
from pathlib import Path

import pytest

from daemon import context_python
from daemon.context_python import check_python
from daemon.sandbox import Interpreter

LIBRARY = Path(__file__).parents[2]


async def check(python, source="euxfel"):
    return await check_python(Interpreter(str(python)), LIBRARY, source)


def python_that(tmp_path, first):
    """A Python that does something first; its standard library and packages are ours."""
    path = tmp_path / "python"
    code = f"import sys\n{first}\ndel sys.argv[1]\nexec(sys.argv.pop(1))"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    path.chmod(0o755)
    return path


HIDE = """
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in {names}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hide())
""".replace("'", '"')


def hiding(tmp_path, *names):
    listed = "(" + "".join(f'"{name}",' for name in names) + ")"
    return python_that(tmp_path, HIDE.replace("{names}", listed))


@pytest.mark.parametrize("source", ["euxfel", "hdf5", "mock"])
async def test_a_python_with_all_that_is_needed(source):
    assert await check(sys.executable, source) is None


async def test_all_that_is_missing_is_said_at_once(tmp_path):
    python = hiding(tmp_path, "extra_data", "h5py")
    found = await check(python)
    assert found == (
        f"{python} cannot run context files: it has no extra_data; it has no h5py; "
        f"{python} -m pip install -U extra_data h5py mends that"
    )


async def test_other_sources_need_no_extra_data(tmp_path):
    assert await check(hiding(tmp_path, "extra_data"), "hdf5") is None


async def test_what_a_library_itself_lacks_is_named(tmp_path):
    found = await check(hiding(tmp_path, "pandas"), "hdf5")
    assert "xarray: " in found
    assert "'pandas'" in found


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("sys.version_info = (3, 9, 18)", "it is Python 3.9.18, and 3.10 or newer is needed"),
        (
            'import xarray; xarray.__version__ = "0.20.1"',
            "its xarray is version 0.20.1, and 2024.1 or newer is needed; {python} -m pip",
        ),
        (
            'sys.modules["numpy"] = None',
            "it has no numpy",
        ),
    ],
)
async def test_what_is_too_old_is_said(tmp_path, first, words):
    python = python_that(tmp_path, first)
    assert words.format(python=python) in await check(python)


async def test_a_source_that_is_not_there(tmp_path):
    found = await check(sys.executable, "nexus")
    assert "no source of runs 'nexus' in the context's Python; there are euxfel, hdf5" in found


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0, "there is no file"),
        ("#!/bin/sh\n", 0o644, "cannot be started: Permission denied"),
        ("#!/bin/sh\necho I am a shell\nexit 3", 0o755, "(exit code 3): I am a shell"),
        ("#!/bin/sh\n", 0o755, "does not run as a Python does (exit code 0): it is no Python"),
        ("#!/no/such/python\n", 0o755, "cannot be started: No such file or directory"),
        ("nonsense", 0o755, "cannot be started: Exec format error"),
    ],
)
async def test_what_is_no_python(tmp_path, content, mode, words):
    path = tmp_path / "python"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    assert words in await check(path)


async def test_a_folder_is_no_python(tmp_path):
    assert "there is no file" in await check(tmp_path)


async def test_a_python_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(context_python, "TIMEOUT", 0.5)
    found = await check(python_that(tmp_path, "import time; time.sleep(1000)"))
    assert "no end within 0.5 s" in found
