"""The backend that a command line names: by its name, by a file, or by a configuration's line."""

import re
from pathlib import Path
from typing import Any

import click

_NAME = re.compile(r"[A-Za-z0-9_@-]+")


def chosen_backend(given: str | None) -> dict[str, Any]:
    """The arguments of an operation that say which backend NAME, FILE or LINE is; none for None."""
    if given is None:
        return {}
    if _NAME.fullmatch(given):
        return {"backend": given}
    from daemon.backends.configurations import files
    from daemon.backends.configurations.errors import ConfigurationError

    try:
        config = files.given(given, Path.cwd())
    except ConfigurationError as error:
        raise click.UsageError(f"{given}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{given} cannot be read: {error.strerror}") from error
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"type"})
    title = Path(given).stem if Path(given).exists() else config.type
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", title)
    return {"backend": name, "configuration": {"type": config.type, **values}}
