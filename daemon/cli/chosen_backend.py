"""The backend that a command line names: by its name, by a file, or by a configuration's line."""

import re
import shlex
from pathlib import Path
from typing import Any

import click

_NAME = re.compile(r"[A-Za-z0-9_@-]+")


def chosen_backend(given: str | None, *, variables: bool = False) -> dict[str, Any]:
    """The arguments of an operation that say which backend NAME, FILE or LINE is; none for None.

    A file or a line that is for commands is refused when it is for `variables`.
    """
    if given is None:
        return {}
    if _NAME.fullmatch(given):
        return {"backend": given}
    from daemon.backends.configurations import files
    from daemon.backends.configurations.errors import ConfigurationError
    from daemon.backends.named import not_for_variables

    try:
        config = files.given(given, Path.cwd())
    except ConfigurationError as error:
        raise click.UsageError(f"{given}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{given} cannot be read: {error.strerror}") from error
    # The operation does not know how it was spelled here.
    if variables and (words := not_for_variables(shlex.quote(given), config)):
        raise click.UsageError(f"backend {given!r} {words}")
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"type"})
    title = Path(given).stem if Path(given).exists() else config.type
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", title)
    return {"backend": name, "configuration": {"type": config.type, **values}}
