"""The documentation is true: its commands and context files work as they stand.

Each page is followed in order from a proposal of its own: its bash blocks are run in one shell, its
Python blocks are added to context.py. Blocks of `{code-block} python` are a notebook's: those of a
page are one program, run when everything else has been done. A block after a comment
`<!-- not run by the tests: ... -->` is left out. The facility's /gpfs/exfel/exp is a temporary
folder.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_runs import make_proc, make_raw

from ctxlib.places import DATA_ROOT
from daemon.cli import COMMANDS
from daemon.settings import Settings
from daemon.supervisor import shutdown

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEMPLATE = ROOT / "templates" / "context.py"
BLOCK = re.compile(
    r"(?P<untested><!-- not run by the tests: .+? -->\n)?"
    r"^```(?P<language>bash|python|\{code-block\} python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUNS = [41, 42, 43]


def script_of(page: Path) -> str:
    """What a reader of `page` would type, as a script."""
    parts, cells = [], []
    for block in BLOCK.finditer(page.read_text()):
        if block["untested"]:
            continue
        if block["language"] == "bash":
            parts.append(block["text"])
        elif block["language"] == "python":
            parts.append(f'printf %s {shlex.quote(block["text"])} >>"$DATABASE/context.py"')
        else:
            cells.append(block["text"])
    if cells:
        parts.append(f"python -c {shlex.quote(chr(10).join(cells))}")
    return "\n".join(parts)


@pytest.fixture(scope="module")
def example_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and calibrated data of a few runs, made once and copied by link."""
    folder = tmp_path_factory.mktemp("data")
    for run in RUNS:
        make_raw(folder / "raw" / f"r{run:04d}", run)
        make_proc(folder / "proc" / f"r{run:04d}", run)
    return folder


@pytest.fixture
def database(tmp_path: Path, example_data: Path) -> Iterator[Path]:
    """The folder where proposal 1234 has its database, in a data root at `tmp_path`/exp."""
    proposal = tmp_path / "exp" / "SPB" / "202621" / "p001234"
    proposal.mkdir(parents=True)
    subprocess.run(["cp", "-rl", *example_data.iterdir(), proposal], check=True)
    folder = proposal / "usr" / "Shared" / "amore"
    yield folder
    shutdown(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [p for p in PAGES if script_of(p)], ids=lambda page: page.stem)
def test_what_a_page_says_works(page: Path, database: Path, tmp_path: Path) -> None:
    begin = f'cd "{tmp_path}"\nset -euxo pipefail\n'
    if "runtable init" not in script_of(page):  # the page is about a folder that is there
        database.mkdir(parents=True)
        starter = "" if "@Variable" in script_of(page) else TEMPLATE.read_text()
        (database / "context.py").write_text(starter)
        begin += f'cd "{database}"\nruntable proposal 1234\n'
    script = begin + script_of(page).replace(DATA_ROOT, str(tmp_path / "exp"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EXTRA_DATA_DATA_ROOT": str(tmp_path / "exp"),
        "DATABASE": str(database),
        "BROWSER_PATH": str(tmp_path / "none"),  # each command that draws would start one
    }
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_every_setting_has_its_line() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert [key for key in Settings.model_fields if f"`{key}`" not in page] == []


def test_every_command_is_shown() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in COMMANDS if f"runtable {name}" not in text] == []
