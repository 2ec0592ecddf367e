"""Starts the container of one attempt with docker or podman: its image, its user, its command."""

import asyncio
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.container_command import environment, for_client, groups, mounts, run_command
from daemon.backends.container_engine import Engine, EngineError
from daemon.backends.container_image import ready


class Starter:
    """Starts containers as `config` says, for the database in `folder`."""

    def __init__(
        self, config: ContainerConfig, engine: Engine, folder: Path, library: Path
    ) -> None:
        self._config = config
        self._engine = engine
        self._folder = folder
        self._library = library
        self._making = asyncio.Lock()
        self._refused: tuple[float, str] | None = None
        self._users: dict[str, tuple[int, int]] = {}

    async def image(self) -> str:
        """The image, once it is here; all attempts wait for the one that pulls or builds it.

        Raises EngineError, for those that have waited too.
        """
        asked = time.monotonic()
        async with self._making:
            if self._refused is not None and self._refused[0] > asked:
                raise EngineError(self._refused[1])
            try:
                return await ready(self._config, self._engine)
            except EngineError as error:
                self._refused = time.monotonic(), str(error)
                raise

    async def start(self, attempt_dir: Path, request: Mapping[str, Any], image: str) -> None:
        """Start an attempt from an image.

        Raises EngineError, SecretError, ValueError for what cannot be given to a container, and
        Unavailable.
        """
        config = self._config
        user = await self._user(image)
        variables, lines = for_client(environment(config))
        log = Path(request["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        places = await asyncio.to_thread(
            mounts, config, self._folder, self._library, attempt_dir, request
        )
        if not (config.engine == "podman" and os.getuid() != 0):  # else it is the daemon's anyway
            await asyncio.to_thread(hand_over, attempt_dir, log, user)
        command = run_command(
            config,
            image,
            self._folder,
            self._library,
            attempt_dir,
            places,
            sorted(variables),
            user,
            groups(self._folder, request),
        )
        if lines:
            command[1:1] = ["--env-file", "{file}"]
        await self._engine.ask(*command, environment=variables, environment_file=lines)

    async def _user(self, image: str) -> tuple[int, int]:
        """The numbers of the user and the group in the container. Raises EngineError."""
        given = self._config.user
        if given is None:
            return os.getuid(), os.getgid()
        numbers = given.split(":")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            return int(numbers[0]), int(numbers[1])
        if image not in self._users:
            self._users[image] = await self._ask_user(image, given)
        return self._users[image]

    async def _ask_user(self, image: str, name: str) -> tuple[int, int]:
        options = ["--rm", "--network=none", f"--user={name}", "--entrypoint=sh"]
        try:
            said = await self._engine.ask("run", *options, image, "-c", "id -u; id -g")
            uid, gid = map(int, said.split())
        except (EngineError, ValueError) as error:
            raise EngineError(f"the image {image} has no user {name}: {error}") from None
        return uid, gid


def hand_over(attempt_dir: Path, log: Path, user: tuple[int, int]) -> None:
    """See to it that `user` can write an attempt's folder, and the log of its run.

    Their groups stay, so that whoever could read them still can. Raises ValueError when only root
    could do that, and when the job is closed to the groups that `user` gets.
    """
    uid, _ = user
    if uid in (0, os.getuid()):
        return
    if os.getuid() != 0:
        raise ValueError(
            f"user {uid} of the container could not write {attempt_dir}, and only root can give it "
            "to another user: leave `user` out, or run the daemon as that user"
        )
    if not attempt_dir.parent.stat().st_mode & stat.S_IRGRP:
        raise ValueError(
            f"user {uid} of the container could not read {attempt_dir.parent}, which is its "
            "owner's alone: leave `user` out, or set share_with to group, for jobs from then on"
        )
    for path in (attempt_dir, *attempt_dir.rglob("*"), log):
        os.chown(path, uid, -1, follow_symlinks=False)
