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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything that tests need is installed (RUNTABLE_NO_SKIPS), a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUNTABLE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\nTests were skipped, and RUNTABLE_NO_SKIPS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what drives real programs first: a long file in the end would be waited for alone."""
    items.sort(key=lambda item: item.get_closest_marker("system") is None)


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
