"""The backend that a command line names: by its name, or by a file with its configuration."""

from pathlib import Path
from typing import Any

import click

SUFFIXES = (".yml", ".yaml", ".json", ".uri")


def chosen_backend(given: str | None) -> dict[str, Any]:
    """The arguments of an operation that say which backend NAME or FILE is; none without one."""
    if given is None:
        return {}
    if "/" not in given and not given.endswith(SUFFIXES):
        return {"backend": given}
    from daemon.backends.configurations import files
    from daemon.backends.configurations.errors import ConfigurationError

    path = Path(given)
    try:
        config = files.read(path)
    except ConfigurationError as error:
        raise click.UsageError(f"{given}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{given} cannot be read: {error.strerror}") from error
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    return {"backend": path.stem, "configuration": {"type": config.type, **values}}
