"""The image that a container is made from: there, pulled, or built from a Dockerfile.

What is built gets a tag that says what it was built from, so that it is built once, and again when
a file of its build context, the Dockerfile or an argument has changed.
"""

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.container_engine import IMAGE_SECONDS, Engine, EngineError

BUILT = "runtable-build"


async def ready(config: ContainerConfig, engine: Engine) -> str:
    """Return the image of a configuration once it is on this host.

    Raises EngineError, in the engine's words, when it can be neither pulled nor built.
    """
    build = config.build_from()
    if build is None:
        return await _pulled(str(config.image), engine)
    dockerfile, context = build
    try:
        tag = await asyncio.to_thread(tag_of, dockerfile, context, config.build_args)
    except OSError as error:
        raise EngineError(f"{dockerfile} cannot be built: {error}") from None
    if not await engine.has_image(tag):
        # docker's older builder would leave the container of a step that failed behind.
        arguments = ["--force-rm"]
        arguments += [f"--build-arg={name}={value}" for name, value in config.build_args.items()]
        try:
            await engine.ask(
                *("build", "--tag", tag, "--file", str(dockerfile), *arguments, str(context)),
                seconds=IMAGE_SECONDS,
            )
        except EngineError as error:
            raise EngineError(f"{dockerfile} cannot be built: {error}") from None
    return tag


async def _pulled(image: str, engine: Engine) -> str:
    if not await engine.has_image(image):
        try:
            await engine.ask("pull", "--quiet", image, seconds=IMAGE_SECONDS)
        except EngineError as error:
            mend = f"`{engine.program} pull {image}` on this host has to work"
            raise EngineError(f"the image {image} cannot be had: {error} ({mend})") from None
    return image


def tag_of(dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> str:
    """The tag of what is built: a hash of the arguments and of all that is in the context.

    Names, contents, links and whether files can be executed count; owners and times do not.
    """
    found = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else os.fsencode(part)
            found.update(len(raw).to_bytes(8) + raw)

    add(json.dumps(dict(arguments), sort_keys=True))
    add(os.path.relpath(dockerfile, context), dockerfile.read_bytes())
    for folder, folders, files in os.walk(context):
        folders.sort()
        for name in sorted(files + folders):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            add(os.path.relpath(path, context), f"{stat.S_IFMT(mode)} {mode & 0o111}")
            if stat.S_ISLNK(mode):
                add(str(path.readlink()))
            elif stat.S_ISREG(mode):
                with path.open("rb") as file:
                    add(hashlib.file_digest(file, "sha256").digest())
    return f"{BUILT}:{found.hexdigest()[:24]}"
