"""The types of configurations: those of installed packages, ours among them by the same road.

A package gives one as an entry point of the group `runtable.backends`: the name is the type, the
object its subclass of `BackendConfig`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError, NoManager, nearest

GROUP = "runtable.backends"
OWN = "runtable"


@dataclass(frozen=True)
class Kind:
    """A type as a package gives it. `problem` says why it cannot be used, "" that it can."""

    name: str
    package: str
    config: type[BackendConfig] | None
    problem: str = ""


def kinds() -> dict[str, Kind]:
    """Return all types by name, ours first; what is wrong with one does not touch the others."""
    found: dict[str, Kind] = {}
    points = metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda p: (_package(p) != OWN, p.name, _package(p))):
        if point.name in found and found[point.name].package != _package(point):
            name = f"{point.name} ({_package(point)})"
            other = found[point.name].package
            found[name] = Kind(
                name, _package(point), None, f"{other} has a type of that name: rename one"
            )
        elif point.name not in found:
            found[point.name] = _kind(point)
    return found


def config_class(name: str, also: Iterable[str] = ()) -> type[BackendConfig]:
    """Return the class of the type `name`; raises ConfigurationError naming the types there are.

    These are then said to be there `also`.
    """
    found = kinds()
    kind = found.get(name)
    if kind is None:
        names = [*found, *also]
        known = ", ".join(names) or "none: install Runtable again"
        raise ConfigurationError(
            [f"type: there is no {name!r}{nearest(name, names)}; there are: {known}"]
        )
    if kind.config is None:
        raise ConfigurationError([f"type {name} of {kind.package} cannot be used: {kind.problem}"])
    return kind.config


def without_manager(config: type[BackendConfig]) -> str:
    """Say why jobs cannot be run as `config` describes in this installation; "" when they can."""
    try:
        config.manager_class()
    except NoManager as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a package's own code
        return f"{type(error).__name__}: {error}"
    return ""


def host_problems(config: BackendConfig) -> list[str]:
    """What stands in the way of using `config` on this host: what it says itself, in words."""
    try:
        return config.check_host()
    except Exception as error:  # noqa: BLE001 - a package's own code
        return [f"its package cannot check this host: {type(error).__name__}: {error}"]


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"


def _kind(point: metadata.EntryPoint) -> Kind:
    package = _package(point)
    try:
        config = point.load()
    except Exception as error:  # noqa: BLE001 - a package's own code
        return Kind(point.name, package, None, f"{type(error).__name__}: {error}")
    if not (isinstance(config, type) and issubclass(config, BackendConfig)):
        return Kind(point.name, package, None, f"{point.value} is no subclass of BackendConfig")
    if config.type_name() != point.name:
        words = f"its type is {config.type_name()!r}: its entry point must have that name"
        return Kind(point.name, package, None, words)
    return Kind(point.name, package, config)
