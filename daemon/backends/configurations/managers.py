"""Where the managers of our own types are; they are imported when jobs run, not before."""

import importlib

from daemon.backends import Manager
from daemon.backends.configurations.errors import NoManager

ManagerClass = type[Manager]


def manager_at(module: str, name: str) -> ManagerClass:
    """Return the manager class `name` of `daemon.backends.<module>`; NoManager without such."""
    path = f"daemon.backends.{module}"
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise NoManager(f"{error.name} is not installed: `pip install {error.name}`") from error
        raise NoManager("this version cannot run jobs in this way yet") from None
    manager: ManagerClass = getattr(found, name)
    return manager
