"""What all tests share."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything that tests need is installed (RUNTABLE_NO_SKIPS), a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUNTABLE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\nTests were skipped, and RUNTABLE_NO_SKIPS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
