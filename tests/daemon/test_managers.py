"""Attempts reach the manager of the configuration that their request has, and answers come back."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest

from ctxlib import claim
from daemon.backends import Status
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.local import LocalConfig, SequentialConfig
from daemon.backends.configurations.slurm import SlurmConfig
from daemon.backends.context import ManagerContext
from daemon.backends.managers import Managers
from daemon.backends.named import Backends, described
from daemon.backends.sequential import LOAD_SECONDS, TAKE_SECONDS, SequentialManager
from daemon.sandbox import Interpreter
from daemon.settings import Settings


class Remembering:
    """A manager that remembers what it was asked."""

    made: ClassVar[list["Remembering"]] = []

    def __init__(self, config: BackendConfig, context: ManagerContext) -> None:
        self.config, self.context = config, context
        self.asked: list[tuple[str, str]] = []
        self.made.append(self)

    def room(self, at_work: int) -> int:
        return 7 - at_work

    async def submit(self, attempt_dir: Path) -> str:
        self.asked.append(("submit", str(attempt_dir)))
        return "17:4" if self.config.env_vars else str(attempt_dir)

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        return {handle: Status("running", handle) for handle in handles}

    async def cancel(self, handle: str, reason: str) -> None:
        self.asked.append(("cancel", handle))

    async def fence(self, handle: str, reason: str) -> None:
        self.asked.append(("fence", handle))

    async def close(self) -> None:
        self.asked.append(("close", ""))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Remembering]:
    """All managers of local configurations that are made, in order."""
    monkeypatch.setattr(Remembering, "made", [])
    monkeypatch.setattr(LocalConfig, "manager_class", classmethod(lambda _: Remembering))
    return Remembering.made


def surroundings(folder: Path) -> ManagerContext:
    log = logging.getLogger("managers").warning
    return ManagerContext(
        folder=folder,
        library=Path(__file__).parents[2],
        interpreter=lambda: Interpreter("python"),
        settings=Settings,
        log=log,
        on_wake=log,
        on_end=log,
    )


def managers_of(folder: Path) -> Managers:
    return Managers(surroundings(folder), Backends(folder))


def sequential(now: list[float]) -> SequentialManager:
    return SequentialManager(SequentialConfig(), surroundings(Path("/")), lambda: now[0])


def attempt(root: Path, backend: str | None, config: BackendConfig | None = None) -> Path:
    folder = root / "jobs" / str(backend) / "1"
    folder.mkdir(parents=True)
    request: dict[str, object] = {} if backend is None else {"backend": backend}
    if config is not None:
        request["configuration"] = described(config)
    (folder.parent / "job.json").write_text(json.dumps(request))
    return folder


def configure(folder: Path, name: str, text: str) -> None:
    path = folder / "backends" / f"{name}.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


async def test_each_attempt_goes_to_the_manager_of_its_configuration(
    tmp_path: Path, made: list[Remembering]
) -> None:
    managers = managers_of(tmp_path)
    gpu = LocalConfig(timeout=90, env_vars={"GPU": "1"})
    folders = [attempt(tmp_path, "local"), attempt(tmp_path, "gpu", gpu), attempt(tmp_path, None)]
    handles = [await managers.submit(folder) for folder in folders]
    assert handles == [str(folders[0]), f"{folders[1]}\n17:4", str(folders[2])]
    assert [manager.config for manager in made] == [LocalConfig(), gpu]
    polled = await managers.poll(handles)
    assert [polled[handle].reason for handle in handles] == [handles[0], "17:4", handles[2]]
    await managers.cancel(handles[1], "why")
    await managers.close()
    assert made[1].asked == [("submit", str(folders[1])), ("cancel", "17:4"), ("close", "")]
    # The next daemon finds them by their requests alone.
    managers = managers_of(tmp_path)
    assert (await managers.poll(handles))[handles[1]].reason == "17:4"
    assert made[3].config == gpu
    gone = str(tmp_path / "jobs/gone/1")
    assert (await managers.poll([gone]))[gone].state == "running"
    assert [*(await managers.by_manager(handles)).values()] == [
        [handles[0], handles[2]],
        handles[1:2],
    ]


async def test_one_whose_manager_cannot_be_made_is_in_nobodys_way(
    tmp_path: Path, made: list[Remembering]
) -> None:
    odd = attempt(tmp_path, "odd")
    request = {"backend": "odd", "configuration": {"type": "of-a-package-that-was-removed"}}
    (odd.parent / "job.json").write_text(json.dumps(request))
    handles = [str(odd), str(attempt(tmp_path, "local", LocalConfig()))]
    managers = managers_of(tmp_path)
    assert [*(await managers.by_manager(handles)).values()] == [handles[:1], handles[1:]]
    assert len(made) == 1
    with pytest.raises(ConfigurationError, match="there is no 'of-a-package-that-was-removed'"):
        await managers.poll(handles[:1])


async def test_handles_of_the_version_before_are_understood(tmp_path: Path) -> None:
    managers = managers_of(tmp_path)
    folder = attempt(tmp_path, "sequential")
    assert (await managers.poll([f"sequential:{folder}"]))[f"sequential:{folder}"].state == "lost"


async def test_an_edit_is_noticed_and_what_was_submitted_stays_as_it_was(
    tmp_path: Path, made: list[Remembering]
) -> None:
    configure(tmp_path, "gpu", "type: local\ntimeout: 90\n")
    managers, backends = managers_of(tmp_path), Backends(tmp_path)
    assert await managers.room("gpu", {"gpu": 3}) == 4
    handle = await managers.submit(attempt(tmp_path, "gpu", backends.configuration("gpu")))
    configure(tmp_path, "gpu", "type: local\ntimeout: 100\n")
    await managers.room("gpu", {"gpu": 1})
    assert [manager.config.timeout for manager in made] == [90, 100]
    await managers.by_manager([handle])
    assert ("close", "") not in made[0].asked
    await managers.by_manager([])
    assert made[0].asked[-1] == ("close", "")
    assert made[1].asked == []
    configure(tmp_path, "gpu", "type: local\ntimeout: 1\n")
    with pytest.raises(ConfigurationError, match="timeout"):
        await managers.room("gpu", {})


async def test_this_machine_is_counted_once_for_all_its_configurations(
    tmp_path: Path, made: list[Remembering], monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in (ContainerConfig, SlurmConfig):
        monkeypatch.setattr(config, "manager_class", classmethod(lambda _: Remembering))
    configure(tmp_path, "night", "type: local\n")
    configure(tmp_path, "image", "type: docker\nimage: swan\n")
    configure(tmp_path, "away", "type: slurm\n")
    managers = managers_of(tmp_path)
    await managers.poll([str(attempt(tmp_path, "night"))])  # an earlier daemon's
    at_work = {"night": 1, "image": 2, "local": 1, "away": 5}
    assert await managers.room("away", at_work) == 2
    assert await managers.room("image", at_work) == 7 - 1 - 2
    assert await managers.room("local", at_work) == 7 - 4
    assert await managers.room("night", at_work) == 7 - 4


async def test_a_manager_that_does_not_close_keeps_no_other_from_it(
    tmp_path: Path,
    made: list[Remembering],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    managers = managers_of(tmp_path)
    for name in ("first", "second"):
        configure(tmp_path, name, "type: local\n")
        await managers.room(name, {})
    monkeypatch.setattr(made[0], "close", lambda: 1 / 0)
    await managers.close()
    assert made[1].asked == [("close", "")]
    assert "backend first: its manager did not close: ZeroDivisionError" in caplog.text


def test_backends_have_names(tmp_path: Path) -> None:
    backends = Backends(tmp_path, has_slurm=lambda: True)
    configure(tmp_path, "gpu", "type: local\n")
    assert backends.names() == ["agent", "cluster", "gpu", "local"]
    assert isinstance(backends.configuration("cluster"), SlurmConfig)
    assert Backends(tmp_path, has_slurm=lambda: False).configuration("cluster") == LocalConfig()
    configure(tmp_path, "cluster", "type: local\ntimeout: 77\n")
    assert backends.configuration("cluster").timeout == 77
    with pytest.raises(
        ConfigurationError, match=r"no backend 'gpo' \(did you mean 'gpu'\?; there are"
    ):
        backends.configuration("gpo")
    for name in ("a/b@1", "../gpu", "x@y"):
        with pytest.raises((ConfigurationError, FileNotFoundError)):
            backends.configuration(name)


def test_which_backends_variables_may_name(tmp_path: Path) -> None:
    backends = Backends(tmp_path)
    configure(tmp_path, "fits", "type: local\ncommand: make\n")
    configure(tmp_path, "hand", "type: sequential\n")
    configure(tmp_path, "wrong", "type: local\ntimeout: 1\n")
    found = backends.for_variables()
    assert [name for name, why in found.items() if not why] == [
        "agent",
        "cluster",
        "local",
        "wrong",
    ]
    assert found["fits"].startswith(
        "is for commands, by its command: `runtable run --backend fits`"
    )
    assert "`reprocess --foreground`" in found["hand"]
    new = tmp_path / "backends/new.yml"
    new.write_text("type: local\n")
    new.rename(tmp_path / "backends/fits.yml")
    assert backends.for_variables()["fits"] == ""


def test_a_configuration_for_once_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    backends = Backends(tmp_path)
    config = LocalConfig.model_validate({"timeout": 99, "secret_env_vars": {"TOKEN": "env:TOKEN"}})
    name = backends.once("fast", config)
    assert name == backends.once("fast", config)
    assert name.startswith("fast@")
    assert backends.configuration(name) == config
    assert name not in backends.names()


async def test_an_offered_attempt_waits_for_its_command_and_then_is_lost(tmp_path: Path) -> None:
    now = [0.0]
    manager = sequential(now)
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    assert (await manager.poll([handle]))[handle].state == "running"
    now[0] = TAKE_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"
    assert claim.exists(folder)  # so that the command cannot begin any more


async def test_a_command_that_has_taken_an_attempt_may_load_its_context_for_long(
    tmp_path: Path,
) -> None:
    now = [0.0]
    manager = sequential(now)
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    claim.make(folder, "sequential", name="taken")
    now[0] = LOAD_SECONDS - 1
    assert (await manager.poll([handle]))[handle].state == "running"
    now[0] = LOAD_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"


async def test_an_attempt_of_a_command_that_is_gone_is_lost_at_once(tmp_path: Path) -> None:
    now = [0.0]
    manager = sequential(now)
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    taken = claim.make(folder, "sequential", name="taken")
    assert taken is not None
    (folder / "taken").write_text(json.dumps({**asdict(taken), "pid": 1 << 22}))
    now[0] = TAKE_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"
