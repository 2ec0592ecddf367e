"""Typed configurations: fields, defaults, ranges, and what each refuses, wherever it is read."""

import copy
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from daemon.backends.configurations import (
    AgentConfig,
    BackendConfig,
    ContainerConfig,
    DockerConfig,
    LocalConfig,
    NoManager,
    Secret,
    SecretError,
    SequentialConfig,
    SlurmConfig,
    SlurmRestConfig,
    SlurmSshConfig,
)
from daemon.backends.configurations.managers import manager_at
from daemon.backends.configurations.registry import kinds, without_manager
from daemon.backends.local import LocalManager


def refusal(config: type[BackendConfig], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**values)
    return str(caught.value)


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="Can't instantiate abstract class BackendConfig"):
        BackendConfig()  # type: ignore[abstract]


def test_what_all_have_in_common() -> None:
    config = LocalConfig()
    assert (config.type, config.timeout, config.env_vars, config.working_dir) == (
        "local",
        3600,
        {},
        None,
    )
    assert LocalConfig(timeout=60).timeout == 60
    assert LocalConfig(timeout=86400).timeout == 86400
    for timeout in (30, 59):
        assert "greater than or equal to 60" in refusal(LocalConfig, timeout=timeout)
    for timeout in (86401, 100000):
        assert "less than or equal to 86400" in refusal(LocalConfig, timeout=timeout)
    assert "Extra inputs are not permitted" in refusal(LocalConfig, colour="red")
    assert "valid dictionary" in refusal(LocalConfig, env_vars="A=1")
    assert "valid string" in refusal(LocalConfig, env_vars={"OMP_NUM_THREADS": 1})
    for key in ("", " "):
        assert "keys cannot be empty" in refusal(LocalConfig, env_vars={key: "x"})
    for key in ("A=B", "A;id", "1A", "A\n"):
        refusal(LocalConfig, env_vars={key: "x"})
        refusal(LocalConfig, secret_env_vars={key: "env:X"})
    refusal(LocalConfig, env_vars={"A": "\0"})
    refusal(LocalConfig, type="slurm")


def test_assignment_is_checked_as_construction_is() -> None:
    config = DockerConfig(image="swan:latest")
    for name, value in [
        ("timeout", 30),
        ("image", None),
        ("dockerfile", "Dockerfile"),
        ("memory", "1x"),
        ("env_vars", {"A": 1}),
        ("type", "local"),
    ]:
        with pytest.raises(ValidationError):
            setattr(config, name, value)
    assert config == DockerConfig(image="swan:latest")
    assert config.model_fields_set == {"image"}
    config.timeout = 120
    assert config.timeout == 120


def test_what_depends_on_the_host_is_told_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    config = LocalConfig(working_dir=str(missing))
    assert config.check_host() == [f"Working directory does not exist: {missing}"]
    missing.write_text("")
    assert config.check_host() == [f"Working directory is not a directory: {missing}"]
    assert LocalConfig(working_dir=str(tmp_path)).check_host() == []
    volumes = [f"{tmp_path}:/data:ro", f"{tmp_path}/none:/none"]
    told = ContainerConfig(image="a", volumes=volumes).check_host()
    assert told[-1] == f"Host path does not exist: {tmp_path}/none"
    assert not any(str(tmp_path) == words.split(": ")[-1] for words in told)


def test_fields_of_commands() -> None:
    config = LocalConfig(command="make fit")
    assert (config.shell, config.capture_output, LocalConfig().command) == (True, True, None)
    assert config.command_fields() == ["command"]
    assert LocalConfig(env_vars={"A": "b"}).command_fields() == []
    assert DockerConfig(image="a", mpiexec="mpirun -np 8").command_fields() == ["mpiexec"]
    assert DockerConfig(image="a").executable == "/usr/local/bin/run.sh"
    refusal(LocalConfig, command="")
    assert "command" not in SequentialConfig.model_fields


@pytest.mark.parametrize(
    "image",
    [
        "swan",
        "swan:latest",
        "rompy/swan:latest",
        "registry.example.org:5000/group/my_image:v1.0-rc1",
        "localhost/swan@sha256:" + "0a" * 32,
    ],
)
def test_images(image: str) -> None:
    assert ContainerConfig(image=image).image == image


@pytest.mark.parametrize(
    "image", ["", ":::", "a b", "Swan", "a:b:c", "swan@sha256:12", "-a", "a;b"]
)
def test_no_images(image: str) -> None:
    refusal(ContainerConfig, image=image)


def test_image_or_dockerfile() -> None:
    assert "Either 'image' or 'dockerfile' must be provided" in refusal(DockerConfig)
    both = refusal(DockerConfig, image="a", dockerfile="Dockerfile")
    assert "Cannot specify both 'image' and 'dockerfile'" in both
    absolute = refusal(DockerConfig, dockerfile="/x/Dockerfile")
    assert "must be relative to build context" in absolute
    refusal(DockerConfig, dockerfile="../Dockerfile")
    refusal(DockerConfig, image="a", build_args={"A": "1"})
    refusal(DockerConfig, dockerfile="Dockerfile", build_args={"A": 1})
    refusal(DockerConfig, image="a", engine="podman")
    sif = ContainerConfig(engine="apptainer", image="/software/python.sif")
    assert sif.build_from() is None
    refusal(ContainerConfig, engine="docker", image="/software/python.sif")


def test_limits_of_containers() -> None:
    config = DockerConfig(image="a", cpu=128, memory="512m")
    assert (DockerConfig(image="a").cpu, DockerConfig(image="a").memory) == (1, None)
    assert (config.cpu, config.remove_container) == (128, True)
    for cpu in (0, 129, True):
        refusal(DockerConfig, image="a", cpu=cpu)
    for memory in ("2g", "512m", "1024", "3K"):
        assert DockerConfig(image="a", memory=memory).memory == memory
    for memory in ("1x", "1.5g", "", "0", "-1g"):
        refusal(DockerConfig, image="a", memory=memory)
    for user in ("modeluser", "1000:1000"):
        assert DockerConfig(image="a", user=user).user == user
    refusal(DockerConfig, image="a", user="--privileged")


def test_volumes() -> None:
    volumes = ["/data:/app", "/data/input:/app/input:ro", "./out:/out:rw,Z"]
    config = DockerConfig(image="a", volumes=volumes)
    assert [str(v.host) + ">" + str(v.container) + ">" + v.mode for v in config.mounts()] == [
        "/data>/app>rw",
        "/data/input>/app/input>ro",
        "out>/out>rw,Z",
    ]
    assert "must contain ':' separator" in refusal(DockerConfig, image="a", volumes=["/data"])
    for wrong in ("/a:b", "/a:/b:rx", "/a:/b:ro:c", "/a:/b:ro,rw", "name:/b", "/a:/b/../c", "/a:"):
        refusal(DockerConfig, image="a", volumes=[wrong])


def test_where_a_container_is_built_from(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM scratch\n")
    values: dict[str, Any] = {"engine": "docker"}
    for given in (
        {"dockerfile": "./docker/Dockerfile", "build_context": "./docker"},
        {"dockerfile": "Dockerfile", "build_context": "docker"},
        {"dockerfile": "docker/Dockerfile"},
    ):
        config = DockerConfig(**values, **given).located(tmp_path)
        assert config.build_from() == (tmp_path / "docker/Dockerfile", tmp_path / "docker")
        assert not any("Dockerfile" in words for words in config.check_host())
    gone = DockerConfig(dockerfile="No", build_context="docker").located(tmp_path)
    assert gone.check_host()[-1] == f"Dockerfile does not exist: {tmp_path}/docker/No"


def test_slurm() -> None:
    config = SlurmConfig()
    assert (config.nodes, config.ntasks, config.time_limit) == (1, 1, "1:00:00")
    assert SlurmConfig(queue="upex") == SlurmConfig(partition="upex")
    for time in ("0:05:00", "100:00:00", "2-12", "1-12:30:00"):
        assert SlurmConfig(time_limit=time).time_limit == time
    for wrong in (
        {"nodes": 0},
        {"nodes": 101},
        {"ntasks": 0},
        {"cpus_per_task": 129},
        {"time_limit": "60"},
        {"time_limit": "1:99:00"},
        {"mail_user": "a@b.de"},
        {"mail_type": "SOMETIMES"},
        {"concurrent_jobs": 0},
    ):
        refusal(SlurmConfig, **wrong)


@pytest.mark.parametrize("text", ["a b", "a;b", "a\nb", "$(id)", "--wrap=x", ""])
def test_nothing_slips_into_a_job_script(text: str) -> None:
    for name in ("partition", "reservation", "account", "qos", "job_name", "explicit_node"):
        refusal(SlurmConfig, **{name: text})
    refusal(SlurmConfig, additional_options=[f"{text}\nrm"])
    refusal(SlurmConfig, mail_type="END", mail_user=text)


def test_options_that_are_ours() -> None:
    options = ["--exclusive", "--gres=gpu:1", "-C A100"]
    assert SlurmConfig(additional_options=options).additional_options == options
    for option in ("--array=1-3", "--comment=x", "-p upex", "-pupex", "exclusive", "--wrap id"):
        refusal(SlurmConfig, additional_options=[option])


def test_slurm_over_ssh(tmp_path: Path) -> None:
    assert "must be provided" in refusal(SlurmSshConfig)
    refusal(SlurmSshConfig, host="-oProxyCommand=id")
    refusal(SlurmSshConfig, beamtime_id="../../etc")
    metadata = tmp_path / "beamtime-metadata-11012345.json"
    metadata.write_text(
        '{"beamtimeId": "11012345", "onlineAnalysis": {"reservedNodes": ["max-p3a001", "max-p3a2"],'
        '"slurmPartition": "ponline", "slurmReservation": "ponline_p11", "userAccount": "bttest03",'
        '"sshPrivateKeyPath": "shared/id_rsa"}}'
    )
    config = SlurmSshConfig(beamtime_metadata=str(metadata), partition="mine").resolved()
    assert (config.host, config.user, config.partition, config.reservation, config.key_file) == (
        "max-p3a001",
        "bttest03",
        "mine",
        "ponline_p11",
        str(tmp_path / "shared/id_rsa"),
    )
    # What nobody has given is still left to the settings, and to ~/.ssh/config.
    assert not {"time_limit", "port"} & config.model_fields_set
    assert config.check_host() == [f"key_file does not exist: {tmp_path}/shared/id_rsa"]
    metadata.write_text('{"onlineAnalysis": {}}')
    bare = SlurmSshConfig(beamtime_metadata=str(metadata)).resolved()
    assert bare.host == "max-display001.desy.de"
    [problem] = SlurmSshConfig(beamtime_id="110").check_host()
    assert "beamtime-metadata-110.json is not there" in problem


def test_slurm_over_http() -> None:
    config = SlurmRestConfig(host="slurm.example.org")
    assert (config.url, config.version) == ("https://slurm.example.org/slurm", None)
    config = SlurmRestConfig(host="h", use_http=True, port=6820, path="/api/slurm/v0.0.38/")
    assert (config.url, config.version) == ("http://h:6820/api/slurm", "v0.0.38")
    assert SlurmRestConfig(host="h", api_version="v0.0.40").version == "v0.0.40"
    for wrong in (
        {},
        {"host": "http://h"},
        {"host": "h:80"},
        {"host": "h", "port": 0},
        {"host": "h", "path": "slurm"},
        {"host": "h", "path": "/v0.0.38", "api_version": "v0.0.40"},
        {"host": "h", "portal_token": "env:T"},
    ):
        refusal(SlurmRestConfig, **wrong)


def test_agents() -> None:
    assert AgentConfig().preferred_host is None
    assert AgentConfig(preferred_host="gpu-1", require_host=True).require_host
    assert "needs preferred_host" in refusal(AgentConfig, require_host=True)
    refusal(AgentConfig, preferred_host="a/b")


def test_secrets_are_read_when_they_are_used(tmp_path: Path) -> None:
    place = tmp_path / "token"
    secret = Secret(f"file:{place}")
    with pytest.raises(SecretError, match=f"{place} cannot be read: No such file"):
        secret.read()
    place.write_text("first\n")
    place.chmod(0o600)
    assert (secret.read(), secret.check_host()) == ("first", [])
    place.write_text("second\n")
    place.chmod(0o644)
    assert secret.read() == "second"
    assert secret.check_host() == [f"everybody may read {place}: `chmod o-rwx {place}`"]
    place.write_text("\n")
    with pytest.raises(SecretError, match="is empty"):
        secret.read()
    with pytest.raises(SecretError, match="A_TOKEN is not set"):
        Secret("env:A_TOKEN").read({})
    assert Secret("env:A_TOKEN").read({"A_TOKEN": "x"}) == "x"


def test_secrets_never_appear(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cret")
    config = SlurmRestConfig(
        host="h",
        token="env:A_TOKEN",
        secret_env_vars={"KEY": "env:A_TOKEN"},
    )
    logging.getLogger().warning("with %s %r", config, config.token)
    assert config.token is not None
    assert config.token.read() == "s3cret"
    assert config.environment() == {"KEY": "s3cret"}
    shown = [str(config), repr(config), config.model_dump_json(), str(config.model_dump())]
    assert "s3cret" not in " ".join([*shown, caplog.text])
    assert config.model_dump(mode="json")["token"] == "env:A_TOKEN"
    assert copy.deepcopy(config) == config
    text = refusal(SlurmRestConfig, host="h", token="s3cret")
    assert "file:/path" in text
    assert "s3cret" not in text
    text = refusal(LocalConfig, secret_env_vars={"KEY": "s3cret"})
    assert "s3cret" not in text
    text = repr(LocalConfig(env_vars={"KEY": "s3cret"}))
    assert "s3cret" not in text


def test_every_type_has_a_schema_whose_examples_are_right() -> None:
    names = ["local", "sequential", "slurm", "slurm-ssh", "slurm-rest", "container", "docker"]
    found = kinds()
    assert {*names, "agent", "dummy"} <= set(found)
    for kind in found.values():
        assert kind.config is not None, kind.problem
        schema = kind.config.model_json_schema()
        assert schema["properties"]["timeout"]["minimum"] == 60
        assert schema["additionalProperties"] is False
        assert schema["examples"]
        for field, about in schema["properties"].items():
            assert about.get("description") or field == "type", (kind.name, field)
        for example in schema["examples"]:
            config = kind.config.model_validate(example)
            assert kind.config.model_validate(config.model_dump()) == config
            assert kind.config.model_validate_json(config.model_dump_json()) == config


class HPCConfig(BackendConfig):
    """Document's own example of a type, with the manager that it brings."""

    queue: str = Field(..., description="SLURM queue name")
    nodes: int = Field(1, ge=1, le=100)
    partition: str = Field("compute")

    @classmethod
    def manager_class(cls) -> Any:
        return LocalManager


def test_a_type_of_ones_own() -> None:
    config = HPCConfig(queue="long")
    assert (config.type, config.partition, config.timeout) == ("hpc", "compute", 3600)
    assert config.manager_class().__name__ == "LocalManager"
    refusal(HPCConfig, queue="long", nodes=101)
    assert HPCConfig.model_validate(config.model_dump()) == config


def raise_missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named 'asyncssh', for {name}", name="asyncssh")


def test_a_type_without_a_manager_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoManager, match="cannot run jobs in this way yet"):
        manager_at("not_there", "NotThereManager")
    with pytest.raises(NoManager, match="cannot run jobs in this way yet"):
        manager_at("not_there.manager", "NotThereManager")
    monkeypatch.delitem(sys.modules, "daemon.backends.dummy", raising=False)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ctxlib.journal", None)
        with pytest.raises(ModuleNotFoundError):
            manager_at("dummy", "DummyManager")
    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", raise_missing)
        with pytest.raises(NoManager, match="asyncssh is not installed: `pip install asyncssh`"):
            manager_at("dummy", "DummyManager")
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        words = "asyncssh is not installed: `pip install 'runtable[ssh]'`"
        assert without_manager(SlurmSshConfig) == words
        assert without_manager(SlurmRestConfig) == words.replace("asyncssh", "httpx").replace(
            "ssh]", "rest]"
        )
    monkeypatch.setattr(LocalConfig, "manager_class", lambda: 1 / 0)
    assert without_manager(LocalConfig) == "ZeroDivisionError: division by zero"


def test_the_manager_is_found_where_there_is_one() -> None:
    assert LocalConfig.manager_class().__name__ == "LocalManager"
    assert without_manager(LocalConfig) == ""
