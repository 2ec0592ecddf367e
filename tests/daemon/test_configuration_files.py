"""Configurations as YAML, JSON and URIs: the same in each, read as people mean them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from daemon.backends.configurations import (
    AgentConfig,
    BackendConfig,
    ConfigurationError,
    ContainerConfig,
    DockerConfig,
    LocalConfig,
    Secret,
    SlurmConfig,
    SlurmRestConfig,
    SlurmSshConfig,
    files,
)

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
LINE = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    str.strip
)
NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,7}", fullmatch=True)
VARIABLES = st.dictionaries(NAME, TEXT, max_size=3)
SECRET = st.one_of(st.none(), NAME.map(lambda n: f"env:A{n}"), LINE.map(lambda n: f"file:/{n}"))
WORDS = st.sampled_from(["on", "no", "null", "~", "1:30:00", "12", "1e3", "0x1f", "2026-11-21"])
COMMON = {
    "timeout": st.integers(60, 86400),
    "env_vars": st.one_of(VARIABLES, st.dictionaries(NAME, WORDS, max_size=2)),
    "secret_env_vars": st.dictionaries(NAME, NAME.map(lambda n: f"env:A{n}"), max_size=2),
    "working_dir": LINE,
}
COMMAND = {
    "command": st.one_of(TEXT.filter(bool), WORDS),
    "shell": st.booleans(),
    "capture_output": st.booleans(),
}
SLURM = {
    "partition": NAME,
    "time_limit": st.sampled_from(["0:30:00", "1:00:00", "2-12", "10:00:00"]),
    "nodes": st.integers(1, 100),
    "additional_options": st.lists(LINE.map(lambda text: f"--x={text}"), max_size=3),
}
CONTAINER = {
    "image": st.sampled_from(["a", "swan:latest", "h.org:50/a/b@sha256:" + "0" * 64]),
    "memory": st.sampled_from(["512m", "1024", "2G"]),
    "volumes": st.lists(st.sampled_from(["/a:/b", "./c d|%7C:/e:ro"]), max_size=2),
    "mpiexec": st.sampled_from(["", "mpirun -np 8"]),
}
ALL: list[tuple[type[BackendConfig], set[str], dict[str, Any]]] = [
    (LocalConfig, set(), {**COMMON, **COMMAND}),
    (SlurmConfig, set(), {**COMMON, **COMMAND, **SLURM}),
    (SlurmSshConfig, {"host"}, {**COMMON, **SLURM, "host": NAME}),
    (
        SlurmRestConfig,
        {"host"},
        {
            **{**COMMON, **SLURM, "host": NAME.map(lambda n: f"h{n}h"), "token": SECRET},
            # Not every option can be said over HTTP.
            "additional_options": st.lists(NAME.map(lambda n: f"--gres={n}"), max_size=3),
        },
    ),
    (ContainerConfig, {"image"}, {**COMMON, **CONTAINER}),
    (DockerConfig, {"image"}, {**COMMON, **CONTAINER}),
    (AgentConfig, set(), {**COMMON, **COMMAND, "preferred_host": st.just("gpu-1")}),
]


@st.composite
def configurations(draw: st.DrawFn) -> BackendConfig:
    config, needed, fields = draw(st.sampled_from(ALL))
    values = {
        name: draw(strategy)
        for name, strategy in fields.items()
        if name in needed or draw(st.booleans())
    }
    made: BackendConfig = config.model_validate(values)
    return made


@settings(deadline=None)
@example(LocalConfig(env_vars={"A": "\x85\u2028", "B": " \ufeff"}))
@given(configurations())
def test_three_spellings_of_one_thing(config: BackendConfig) -> None:
    for spelling in files.SPELLINGS:
        text = files.dumps(config, spelling)
        assert files.loads(text, spelling) == config
        assert files.loads(text) == config, "its spelling is told by its look"
    assert type(config).model_validate_json(config.model_dump_json()) == config
    # Other programs that read YAML see the same values.
    assert yaml.safe_load(files.dumps(config)) == json.loads(files.dumps(config, "json"))
    assert "\n" not in files.dumps(config, "uri").removesuffix("\n")


def refused(text: str, **how: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        files.loads(text, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("local", "type:key=value"),
        (":a=b", "type is missing"),
        ("local:timeout", "without ="),
        ("local:=60", "key is missing"),
        ("local:timeout=60|timeout=70", "given twice"),
        ("slurm:explicit-node=a|explicit_node=b", "given twice"),
        ("loca:", "did you mean 'local'"),
        ("local:tiemout=60", "did you mean 'timeout'"),
        ("local:timeout=59", "greater than or equal to 60"),
        ("local:shell=perhaps", "valid boolean"),
        ("local:env-vars=A", "must be JSON"),
        ("slurm-rest:partition=a", "host: Field required"),
        ("maxwell-rest:user=x", "needs partition"),
        ("maxwell-rest:partition=a|host=b", "maxwell-rest takes partition"),
        ("petra3-slurm-remote:explicit-node=a", "needs beamtime-id or path"),
    ],
)
def test_uris_that_are_refused(text: str, words: str) -> None:
    assert words in refused(text, format="uri")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("maxwell-rset:partition=p", "(did you mean 'maxwell-rest'?); there are: "),
        ("nothing:a=1", "petra3-slurm-remote, maxwell-rest"),
        (":a=1", "the type is missing before the first colon"),
    ],
)
def test_lines_that_somebody_gives(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        files.given(line, tmp_path)
    assert words in str(caught.value)


def test_uris_as_documented() -> None:
    assert files.loads("local:") == LocalConfig()
    uri = (
        "slurm-rest:use-http=TRUE|partition=upex|host=h.org|port=6820|path=/slurm/v0.0.38|user=me|"
        "reservation=r|explicit-node=n1|token=env:TOKEN"
    )
    config = files.loads(uri)
    assert isinstance(config, SlurmRestConfig)
    assert (config.url, config.version) == ("http://h.org:6820/slurm", "v0.0.38")
    assert (config.partition, config.reservation, config.explicit_node) == ("upex", "r", "n1")
    assert (config.login, config.token) == ("me", Secret("env:TOKEN"))
    assert not files.loads(uri.replace("TRUE", "false")).model_dump()["use_http"]
    assert files.loads('local:env-vars={"A":"b=c%7Cd"}').env_vars == {"A": "b=c|d"}
    assert files.loads("local:command=echo 100%|shell=false") == LocalConfig(
        command="echo 100%", shell=False
    )


def test_presets() -> None:
    config = files.loads("maxwell-rest:partition=allcpu|user=me")
    assert isinstance(config, SlurmRestConfig)
    assert config.url == "https://max-portal.desy.de/sapi/slurm"
    assert config.token_command == "slurm_token -l 86400"
    with_portal = files.loads("maxwell-rest:partition=allcpu|portal-token=env:PORTAL")
    assert with_portal.model_dump()["portal_url"].startswith("https://max-portal.desy.de/")
    config = files.loads("petra3-slurm-remote:beamtime-id=11012345|path=/x.json")
    assert config == SlurmSshConfig(beamtime_id="11012345")
    config = files.loads(
        "petra3-slurm-remote:path=/x.json|explicit-node=n|use-additional-ssh-options=false"
    )
    assert config == SlurmSshConfig(
        beamtime_metadata="/x.json", explicit_node="n", use_additional_ssh_options=False
    )


def test_yaml_as_people_mean_it() -> None:
    config = files.loads("type: slurm\ntime_limit: 1:30:00\nenv_vars: {A: on, B: 2026-11-21}\n")
    assert config == SlurmConfig(time_limit="1:30:00", env_vars={"A": "on", "B": "2026-11-21"})
    assert files.loads("type: local\nshell: no\n") == LocalConfig(shell=False)
    assert files.loads("timeout: 60", expected=LocalConfig) == LocalConfig(timeout=60)
    assert files.loads("type: docker\nimage: a", expected=ContainerConfig) == DockerConfig(
        image="a"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is a mapping"),
        ("- a", "is a mapping"),
        ("timeout: 60", "must include a 'type' field"),
        ("type: loca", "there is no 'loca' (did you mean 'local'?)"),
        ("type: local\ntimeout: 60\ntimeout: 70", "given twice: timeout"),
        (
            "type: local\nenv_vars: {A: 1}",
            "env_vars.A: Input should be a valid string: put it in quotes",
        ),
        ("type: local\nenv_vars: [a", "line 2"),
        ("type: local\ntimeout: .nan", "timeout: Input should be a valid integer"),
        ("type: !!python/object/apply:os.system ['true']", "this is no YAML"),
        ('{"type": "local", "type": "slurm"}', "given twice: type"),
        ('{"type": "local", "timeout": NaN}', "NaN is no value"),
        ('{"type": "local",', "this is no JSON"),
        ('{"type": ' + "[" * 100_000, "this is no JSON"),
        ("type: local\nenv_vars: " + "[" * 3000, "this is no YAML"),
        ("type: local\n? [a]\n: b", "line 2: a key must be a word"),
        ('local:env-vars={"A": "1", "A": "2"}', "given twice: A"),
        ("type: local\ntimeout: 30", "greater than or equal to 60, not 30"),
        ("type: docker", "Either 'image' or 'dockerfile' must be provided"),
    ],
)
def test_files_that_are_refused(text: str, words: str) -> None:
    assert words in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "type: slurm-rest\nhost: h\ntoken: s3cret",
        "type: slurm-rest\nhost: h\ntokn: s3cret",
        "type: local\nsecret_env_vars: {KEY: s3cret}",
        "type: local\nenv_vars: {KEY: [s3cret]}",
        "slurm-rest:host=h|token=s3cret",
    ],
)
def test_secrets_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        files.loads(text)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_file_knows_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("type: local\ntimeout: 3600\nworking_dir: ../elsewhere\n")
    config = LocalConfig.from_file(path)
    assert config.working_dir == str(tmp_path / "../elsewhere")
    path.write_text("type: slurm-ssh\nhost: h\nkey_file: ~/.ssh/id\n")
    assert SlurmSshConfig.from_file(path).key_file == str(Path("~/.ssh/id").expanduser())
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "c.yml").write_text("type: docker\nimage: a\nvolumes: [./c:/c]\n")
    with pytest.raises(ConfigurationError, match="the container's part of"):
        DockerConfig.from_file(tmp_path / "a:b" / "c.yml")
    path.write_text("type: local\n")
    with pytest.raises(ConfigurationError, match="type: is local, not docker"):
        DockerConfig.from_file(str(path))
    with pytest.raises(FileNotFoundError):
        LocalConfig.from_file(tmp_path / "none.yml")
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="everybody may write"):
        LocalConfig.from_file(path)
    path.write_bytes(b"type: \xff")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="no text in UTF-8"):
        LocalConfig.from_file(path)
    with pytest.raises(ConfigurationError, match="is no file"):
        LocalConfig.from_file(tmp_path)


def test_named_configurations(tmp_path: Path) -> None:
    folder = tmp_path / "amore"
    assert files.named(folder) == {}
    for name, text in [
        ("cluster.yml", "type: slurm"),
        ("gpu.json", '{"type": "slurm", "partition": "gpu"}'),
        ("far.uri", "slurm-ssh:host=max-display\n"),
        ("notes.txt", "nothing"),
        ("a b.yml", "type: local"),
    ]:
        files.save(folder / "backends" / name, text)
    assert [*files.named(folder)] == ["cluster", "far", "gpu"]
    assert files.read_named(folder, "gpu") == SlurmConfig(partition="gpu")
    assert files.read_named(folder, "far") == SlurmSshConfig(host="max-display")
    assert (folder / "backends" / "gpu.json").stat().st_mode & 0o007 == 0
    for name in ("../amore/backends/gpu", "gpu.json", "", "/etc/passwd", ".", "a b"):
        with pytest.raises(ConfigurationError, match="is no name"):
            files.read_named(folder, name)
    for name in ("local", "sequential", "agent"):  # jobs would not look at the file
        with pytest.raises(ConfigurationError, match=f"{name} is always the type {name}"):
            files.read_named(folder, name)
    with pytest.raises(ConfigurationError, match="there are: cluster, far, gpu"):
        files.read_named(folder, "none")
    with pytest.raises(FileExistsError):
        files.save(folder / "backends" / "gpu.json", "")
    files.save(folder / "backends" / "gpu.yml", "type: local")
    with pytest.raises(ConfigurationError, match="gpu is there twice"):
        files.read_named(folder, "gpu")
    files.save(tmp_path / "outside.yml", "type: local")
    (folder / "backends" / "link.yml").symlink_to(tmp_path / "outside.yml")
    with pytest.raises(ConfigurationError, match="leads out of"):
        files.read_named(folder, "link")


DOCUMENTED: dict[str, dict[str, Any]] = {
    'type: local\ntimeout: 3600\ncommand: "python run_model.py"\nenv_vars:\n'
    '  OMP_NUM_THREADS: "4"\n': {"command": "python run_model.py"},
    'type: local\ntimeout: 7200  # 2 hours\ncommand: "python run.py --verbose"\nshell: true\n'
    'capture_output: true\nenv_vars:\n  PYTHONPATH: "/custom/path"\n  MODEL_DEBUG: "true"\n': {
        "env_vars": {"PYTHONPATH": "/custom/path", "MODEL_DEBUG": "true"}
    },
    'type: docker\nimage: "swan:latest"\ntimeout: 10800\ncpu: 8\nmemory: "4g"\n'
    'mpiexec: "mpirun -np 8"\nuser: "modeluser"\nvolumes:\n  - "/data/input:/app/input:ro"\n'
    '  - "/data/output:/app/output:rw"\nenv_vars:\n  DATA_DIR: "/app/input"\n': {
        "cpu": 8,
        "memory": "4g",
        "mpiexec": "mpirun -np 8",
        "user": "modeluser",
    },
    'type: docker\ndockerfile: "./docker/Dockerfile"\nbuild_context: "./docker"\nbuild_args:\n'
    '  MODEL_VERSION: "2.1.0"\ncpu: 4\nmemory: "2g"\n': {
        "dockerfile": "./docker/Dockerfile",
        "build_args": {"MODEL_VERSION": "2.1.0"},
    },
    "type: local\ntimeout: 21600  # 6 hours\n": {"timeout": 21600},
    'type: docker\nimage: "swan:hpc"\ntimeout: 86400  # 24 hours\ncpu: 32\nmemory: "64g"\n': {
        "cpu": 32
    },
}


@pytest.mark.parametrize("text", DOCUMENTED)
def test_the_documented_files(text: str) -> None:
    values = files.loads(text).model_dump()
    assert {name: values[name] for name in DOCUMENTED[text]} == DOCUMENTED[text]


def test_the_documented_way_to_read_a_file(tmp_path: Path) -> None:
    path = tmp_path / "backend_config.yml"
    path.write_text("type: docker\nimage: swan:latest\ncpu: 4\n")
    with path.open() as file:
        values = yaml.safe_load(file)
    assert values.pop("type") == "docker"
    config = DockerConfig(**values)
    assert DockerConfig.from_file(str(path)) == config
    assert json.loads(config.model_dump_json(indent=2))["cpu"] == 4
    assert {"timeout", "image"} <= set(DockerConfig.model_json_schema()["properties"])
    with pytest.raises(ValidationError) as caught:
        DockerConfig(image="swan:latest", cpu=0, memory="1x")
    assert [error["loc"] for error in caught.value.errors()] == [("cpu",), ("memory",)]
