"""The group: names, help, versions, errors, and what is not imported."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_fake import Run
from click.testing import CliRunner

from daemon import __version__
from daemon.cli import COMMANDS, main

HEAVY = ("h5py", "numpy", "xarray", "pydantic", "zmq", "rich", "asyncio", "sqlite3")

CHECK = """
import sys
import daemon.cli
from click.testing import CliRunner
for arguments in [["--help"], *([name, "--help"] for name in daemon.cli.COMMANDS)]:
    result = CliRunner().invoke(daemon.cli.main, arguments)
    assert result.exit_code == 0, (arguments, result.output)
print(*sorted(set(%r) & set(sys.modules)))
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK % (HEAVY,)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", ["runtable", "damnit"])
def test_the_program_is_named_as_it_was_called(name: str) -> None:
    result = CliRunner().invoke(main, ["status", "--help"], prog_name=name)
    assert f"Usage: {name} status" in result.output


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.output == f"runtable {__version__}\n"


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", "jobs", "--help"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_command_names_the_nearest() -> None:
    result = CliRunner().invoke(main, ["reproces", "5"])
    assert result.exit_code == 2
    assert "Did you mean 'reprocess'?" in result.stderr


def test_a_system_error_is_one_line(cli_folder: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/x/runs.sqlite")

    result = CliRunner().invoke(main, ["jobs", str(cli_folder)], obj=fail)
    assert result.exit_code == 1
    assert result.stderr == "Error: /x/runs.sqlite: Permission denied\n"


def test_a_folder_without_a_database_says_how_to_make_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["status", str(tmp_path)], prog_name="damnit")
    assert result.exit_code == 1
    assert f"no database in {tmp_path}" in result.stderr
    assert "`damnit proposal N`" in result.stderr


def test_a_missing_folder_and_a_missing_proposal_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    result = CliRunner().invoke(main, ["status", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert f"{tmp_path / 'nowhere'} is no folder" in result.stderr
    result = CliRunner().invoke(main, ["status", "1234"])
    assert result.exit_code == 1
    assert f"proposal 1234 was not found as {tmp_path}/*/*/p001234" in result.stderr


def test_a_proposal_number_is_a_folder(
    cli: Run,
    cli_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path_factory.mktemp("root")
    shared = root / "MID" / "202601" / "p001234" / "usr" / "Shared"
    shared.mkdir(parents=True)
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(root))
    result = cli("status", "1234")
    assert f"{shared / 'amore'} is no folder" in result.stderr


def test_commands_have_help_texts_that_fit_the_list() -> None:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        assert not command.get_short_help_str(limit=64).endswith("..."), name
