"""`runtable backends`: types and files listed, checked and made, with the documented exit codes."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from daemon.backends.configurations import LocalConfig, SlurmConfig, files
from daemon.backends.configurations.registry import kinds
from daemon.cli import main

TYPES = sorted(kinds())


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["backends", *map(str, arguments)])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_types_are_listed_with_their_state() -> None:
    lines = run("list").output.splitlines()
    by_name = {line.split()[0]: line for line in lines[1:]}
    assert set(TYPES) <= set(by_name)
    assert " ready " in by_name["local"]
    assert "runtable" in by_name["slurm-rest"]


def test_configurations_of_a_database_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "db" / "backends"
    files.save(folder / "night.yml", "type: local\n")
    files.save(folder / "wrong.yml", "type: local\ntimeout: 1\n")
    files.save(folder / "far.uri", f"local:working-dir={tmp_path}/none")
    result = run("list", "--in", tmp_path / "db")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.partition("\n\n")[2].splitlines()}
    assert lines["night"].split() == ["night", "local", "ready"]
    assert "greater than or equal to 60" in lines["wrong"]
    assert "Working directory does not exist" in lines["far"]


def test_a_right_file(tmp_path: Path) -> None:
    path = tmp_path / "my.yml"
    path.write_text(
        "type: local\ntimeout: 7200\ncommand: make\nenv_vars: {API_KEY: s3cret, B: '4'}\n"
    )
    result = run("validate", path)
    assert result.exit_code == 0
    for words in ("is right", "type: local", "timeout: 7200", "env_vars: API_KEY, B"):
        assert words in result.output
    assert "s3cret" not in result.output
    assert run("validate", "--backend-type", "local", "my.yml").exit_code == 0
    result = run("validate", "my.yml", "--backend-type", "docker")
    assert result.exit_code == 2
    assert "type: is local, not docker" in result.stderr


def test_what_only_this_machine_lacks_is_no_fault(tmp_path: Path) -> None:
    result = run("validate", 'docker:image=a|volumes=["/nowhere:/data:ro"]')
    assert result.exit_code == 0
    assert "On this machine: Host path does not exist: /nowhere" in result.stderr


def test_named_ones_and_lines_are_checked_too(tmp_path: Path) -> None:
    files.save(tmp_path / "backends" / "gpu.yml", "type: local\n")
    assert run("validate", "gpu").exit_code == 0
    assert run("validate", "local:timeout=60").exit_code == 0
    assert run("validate", "local:timeout=59").exit_code == 2
    for given in ("gpu", "local:"):
        assert run("validate", "--backend-type", "local", given).exit_code == 0
        wrong = run("validate", "--backend-type", "slurm", given)
        assert (wrong.exit_code, "type: is local, not slurm" in wrong.stderr) == (2, True)


def test_what_is_wrong_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text('{"type": "docker", "cpu": 0, "memory": "1.5g", "colour": 1}')
    result = run("validate", path)
    assert result.exit_code == 2
    for words in ("cpu: Input should be greater", "memory: must be", "colour: Extra inputs"):
        assert words in result.stderr
    for arguments in (
        ["validate"],
        ["validate", "none.yml"],
        ["validate", "none"],
        ["validate", str(path), "--backend-type", "none"],
        ["schema"],
        ["schema", "--backend-type", "none"],
        ["create", "--backend-type", "none"],
    ):
        assert run(*arguments).exit_code == 2, arguments


def test_what_fails_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "there.yml").write_text("mine")
    result = run("create", "--backend-type", "local", "--output", "there.yml")
    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert (tmp_path / "there.yml").read_text() == "mine"
    assert run("list", "--in", tmp_path / "none").exit_code == 1
    assert run("create", "--backend-type", "local", "--output", "/proc/x/y.yml").exit_code == 1


@pytest.mark.parametrize("name", TYPES)
def test_schemas(name: str) -> None:
    schema = json.loads(run("schema", "--backend-type", name).output)
    assert schema["properties"]["type"]["const"] == name
    assert "examples" not in schema
    result = run("schema", "--backend-type", name, "--format", "yaml", "--examples")
    assert yaml.safe_load(result.output)["examples"]


@pytest.mark.parametrize("name", TYPES)
def test_what_is_made_is_right(name: str, tmp_path: Path) -> None:
    for number, spelling in enumerate(files.SPELLINGS):
        for extra in ([], ["--with-examples"]):
            arguments = ["create", "--backend-type", name, "--format", spelling, *extra]
            result = run(*arguments)
            assert result.exit_code == 0, result.stderr
            config = files.loads(result.output, spelling)
            assert config.type == name
            path = tmp_path / f"{number}{len(extra)}"
            assert run(*arguments, "--output", path).exit_code == 0
            assert path.read_text() == result.output
            assert path.stat().st_mode & 0o007 == 0
    made = run("create", "--backend-type", name, "--output", "new.json").output
    assert "`main backends validate new.json`" in made
    every = json.loads((tmp_path / "new.json").read_text())
    assert set(every) == set(kinds()[name].config.model_fields)  # type: ignore[union-attr]


def test_a_template_says_what_each_field_means() -> None:
    text = run("create", "--backend-type", "local").output
    assert files.loads(text) == LocalConfig()
    assert "# seconds after which a job is ended\ntimeout: 3600\n" in text
    assert "\n# command:\n" in text
    text = run("create", "--backend-type", "slurm", "--with-examples").output
    assert isinstance(files.loads(text), SlurmConfig)


PACKAGE = '''
from pydantic import Field
from daemon.backends.configurations import BackendConfig

class HPCConfig(BackendConfig):
    """Jobs of the big machine."""

    model_config = {"json_schema_extra": {"examples": [{"type": "hpc", "queue": "long"}]}}
    queue: str = Field(..., description="queue to wait in")
    nodes: int = Field(1, ge=1, le=100, description="nodes")

    @classmethod
    def manager_class(cls):
        from hpc_backend_manager import HPCManager
        return HPCManager
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that has types of its own: one good, three not."""
    site = tmp_path / "site"
    info = site / "hpc_backend-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hpc-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[runtable.backends]\nhpc = hpc_backend:HPCConfig\ngone = hpc_missing:Config\n"
        "other = hpc_backend:HPCConfig\nslurm = hpc_backend:HPCConfig\nfield = hpc_backend:Field\n"
    )
    (site / "hpc_backend.py").write_text(PACKAGE)
    (site / "hpc_backend_manager.py").write_text("class HPCManager:\n    pass\n")
    return site


WRONG = '''
from pydantic import field_validator
from daemon.backends.configurations import BackendConfig

class WrongConfig(BackendConfig):
    """Jobs that nothing comes of."""

    secret: str = ""

    @field_validator("secret", mode="before")
    @classmethod
    def _look_up(cls, value):
        return {"": ""}[value]

    def check_host(self):
        raise RuntimeError("no such host")

    @classmethod
    def manager_class(cls):
        import no_such_module
'''


def test_what_is_wrong_in_a_package_is_its_own(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "wrong_backend.py").write_text(WRONG)
    (package / "hpc_backend-1.0.dist-info/entry_points.txt").write_text(
        "[runtable.backends]\nwrong = wrong_backend:WrongConfig\n"
    )
    monkeypatch.syspath_prepend(package)
    files.save(tmp_path / "backends" / "one.yml", "type: wrong\n")
    files.save(tmp_path / "backends" / "two.yml", "type: wrong\nsecret: s3cret\n")
    listed = run("list")
    assert listed.exit_code == 0
    assert "No module named 'no_such_module'" in listed.stdout
    assert "its package cannot check this host: RuntimeError: no such host" in listed.stdout
    assert "type wrong: its package cannot check it: KeyError" in listed.stdout
    checked = run("validate", "one")
    assert checked.exit_code == 0
    assert "cannot run jobs: ModuleNotFoundError" in checked.stderr
    checked = run("validate", "two")
    assert (checked.exit_code, "s3cret" in checked.stderr) == (2, False)


def test_a_type_of_an_installed_package_works_everywhere(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    files.save(tmp_path / "backends" / "big.yml", "type: hpc\nqueue: short\n")
    types, _, named = run("list").stdout.partition("\n\n")
    lines = {line.split("  ")[0]: line for line in types.splitlines()}
    assert lines["hpc"].split()[:4] == ["hpc", "hpc-backend", "ready", "Jobs"]
    assert "No module named 'hpc_missing'" in lines["gone"]
    assert "its type is 'hpc'" in lines["other"]
    assert "is no subclass of BackendConfig" in lines["field"]
    assert "runtable has a type of that name" in lines["slurm (hpc-backend)"]
    assert lines["slurm"].split()[1] == "runtable"
    assert named.splitlines()[2].split() == ["big", "hpc", "ready"]

    made = run("create", "--backend-type", "hpc", "--output", "made.yml", "--with-examples")
    assert made.exit_code == 0, made.stderr
    for given in ("made.yml", "big", "hpc:queue=long|nodes=3"):
        checked = run("validate", given)
        assert (checked.exit_code, checked.stderr) == (0, ""), given
    assert run("validate", "hpc:queue=long|nodes=101").exit_code == 2
    assert run("validate", "gone:").exit_code == 2
    schema = json.loads(run("schema", "--backend-type", "hpc").stdout)
    assert schema["properties"]["type"]["const"] == "hpc"
    assert schema["required"] == ["type", "queue"]
    every = yaml.safe_load(run("create", "--backend-type", "hpc").stdout)
    assert every["queue"] == "long"
    assert every["nodes"] == 1
