"""Where the managers of our own types are; they are imported when jobs run, not before."""

import importlib
import importlib.util

from daemon.backends import Manager
from daemon.backends.configurations.errors import NoManager

ManagerClass = type[Manager]


def manager_at(module: str, name: str, package: str = "", extra: str = "") -> ManagerClass:
    """Return the manager class `name` of `daemon.backends.<module>`; NoManager without such.

    So it is without `package`, when the manager needs that, which comes with our `extra`.
    """
    if package and importlib.util.find_spec(package) is None:
        raise NoManager(f"{package} is not installed: `pip install 'runtable[{extra}]'`")
    path = f"daemon.backends.{module}"
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{path}.".startswith(f"{missing}."):
            raise NoManager("this version cannot run jobs in this way yet") from None
        if missing.partition(".")[0] in ("daemon", "ctxlib"):
            raise
        raise NoManager(f"{missing} is not installed: `pip install {missing}`") from error
    manager: ManagerClass = getattr(found, name)
    return manager
