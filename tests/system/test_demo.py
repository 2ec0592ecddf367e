"""The demo: its context file is in order, and its runs arrive and fill their rows."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from example_runs import SCAN_RUN
from rich.console import Console
from run_demo import HERE, Demo

from ctxlib.context import load
from ctxlib.graph import Graph

pytestmark = pytest.mark.system


def test_the_context_file_is_in_order() -> None:
    graph = Graph(load(HERE / "context.py"))
    assert graph.problems == []
    assert len(graph.nodes) >= 12


@pytest.mark.timeout(240)
def test_a_run_arrives_and_its_row_fills(tmp_path: Path) -> None:
    shown = io.StringIO()
    demo = Demo(Console(file=shown, width=80), tmp_path / "demo", [SCAN_RUN])
    try:
        demo.run()
    finally:
        demo.stop()

    text = shown.getvalue()
    assert "All 1 runs are processed" in text
    assert "Sample temperature: SourceNameError" in text
    with closing(sqlite3.connect(demo.folder / "runs.sqlite")) as connection:
        rows = connection.execute("SELECT name, value, attributes FROM run_variables").fetchall()
    failed = {name for name, _, attributes in rows if "error_cls" in (attributes or "")}
    assert failed == {"temperature", "warm"}
    assert all(value is not None for name, value, _ in rows if name not in failed)
    assert {name for name, _, _ in rows} >= {"scan_steps", "detector", "xgm_hutch.energy"}
