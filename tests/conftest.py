"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import docker, podman
from rest_servers import later_rest, slurmrestd
from slurm_cluster import slurm_cluster
from ssh_server import ssh_server

__all__ = ["docker", "later_rest", "podman", "slurm_cluster", "slurmrestd", "ssh_server"]


_PROGRAMS = {"slurm_cluster", "podman", "docker"}
"""Fixtures of programs that start once for all tests of a process."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything that tests need is installed (RUNTABLE_NO_SKIPS), a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUNTABLE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\nTests were skipped, and RUNTABLE_NO_SKIPS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in an order in which two processes end together, whose children disturb nobody.

    What looks at its own children comes before the programs that all tests of a process share, and
    what waits for such programs before what is quick: a long file in the end is waited for alone.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.path.parent.name == "ctxlib":
        return 0
    needs = set(getattr(item, "fixturenames", ()))
    return 1 if item.get_closest_marker("system") or needs & _PROGRAMS else 2


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    """A service sets the umask of its process; tests after it must not inherit that."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def example_proposal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proposal folder with one genuine run, raw/r0001 and proc/r0001; not to be written to."""
    from extra_data.tests.make_examples import make_spb_run

    proposal = tmp_path_factory.mktemp("example") / "p001234"
    for kind in ("raw", "proc"):
        folder = proposal / kind / "r0001"
        folder.mkdir(parents=True)
        make_spb_run(folder, raw=kind == "raw", sensor_size=(64, 48), format_version="1.2")
    return proposal
