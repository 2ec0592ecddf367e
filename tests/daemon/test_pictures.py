import logging
import os
import shutil
import sqlite3

import pytest

from ctxlib import processes
from ctxlib.cell import Cell
from ctxlib.files import write_fragment
from ctxlib.images import THUMBNAIL_SIZE
from ctxlib.journal import JournalReader, JournalWriter
from ctxlib.summaries import prepare
from ctxlib.summary import PLOTLY_PLACEHOLDER
from daemon.store.drawing import BROWSERS, figure_json
from daemon.store.ingest import Ingest
from daemon.store.outcomes import picture_beside
from daemon.store.pictures import Pictures
from daemon.store.results import collect
from daemon.store.table import RunsTable

go = pytest.importorskip("plotly.graph_objects", reason="needs Plotly: pip install 'runtable[dev]'")

JOB = {"id": "j1", "proposal": 1234, "run": 42}


def figure(width=None):
    return go.Figure(go.Scatter(x=[1, 2, 3], y=[3, 1, 2])).update_layout(width=width)


def make_job(tmp_path, **values):
    attempt = tmp_path / "jobs" / JOB["id"] / "1"
    (attempt / "fragments").mkdir(parents=True)
    writer = JournalWriter(attempt / "journal.1.jsonl")
    for name, value in values.items():
        prepared = prepare(value, log=print)
        assert prepared.summary.value == PLOTLY_PLACEHOLDER
        write_fragment(attempt / "fragments" / f"{name}.h5", name, prepared, None)
        fields = {"data": None, "fragment": f"{name}.h5", "objtype": prepared.objtype}
        summary = prepared.summary.to_json()
        writer.write("finished", variable=name, summary=summary, origin=None, **fields)
    writer.close()
    return attempt


def shown(table):
    connection = sqlite3.connect(table.path)
    try:
        return dict(connection.execute("SELECT name, value FROM run_variables"))
    finally:
        connection.close()


def size(png):
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


@pytest.fixture
async def table(tmp_path):
    table = RunsTable(tmp_path / "runs.sqlite", 1234)
    yield table
    await table.close()


@pytest.fixture
async def pictures(table):
    pictures = Pictures(table)
    yield pictures
    await pictures.close()


def test_figures_are_found_as_value_and_as_preview(tmp_path):
    attempt = make_job(tmp_path, f=figure(), cell=Cell([1.0, 2.0], preview=figure(400)))
    assert figure_json(attempt / "fragments" / "f.h5", "f")["data"][0]["type"] == "scatter"
    found = figure_json(attempt / "fragments" / "cell.h5", "cell")
    assert found["layout"]["width"] == 400
    with pytest.raises(KeyError, match="other has no Plotly figure"):
        figure_json(attempt / "fragments" / "f.h5", "other")


def children() -> set[int]:
    """The processes that this one has begun; other tests in it may have left servers."""
    return {process.pid for process in processes.everyone() if process.parent == os.getpid()}


@pytest.mark.system
async def test_a_real_browser_draws_in_place_of_the_placeholder(table, pictures, tmp_path):
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs a browser: apt-get install chromium-headless-shell")
    before = children()
    attempt = make_job(tmp_path, f=figure(), wide=figure(1333))
    await Ingest(table).apply(JOB, JournalReader(attempt).read())
    assert set(shown(table).values()) == {PLOTLY_PLACEHOLDER}
    assert sorted(await pictures.complete(JOB)) == ["f", "wide"]
    cells = shown(table)
    assert size(cells["f"]) == (THUMBNAIL_SIZE, round(THUMBNAIL_SIZE * 5 / 7))
    assert size(cells["wide"])[0] == THUMBNAIL_SIZE
    summaries = {result.name: result.summary.value for result in collect(attempt.parent).results}
    assert summaries == cells
    # Applied again after a restart, the lines bring the placeholder back; no browser is needed.
    await Ingest(table).apply(JOB, JournalReader(attempt).read())
    await pictures.close()
    again = Pictures(table)
    assert sorted(await again.complete(JOB)) == ["f", "wide"]
    assert await again.complete(JOB) == []
    assert shown(table) == cells
    await again.close()
    assert children() == before


async def test_a_newer_value_is_not_overwritten_by_a_late_picture(table, pictures, tmp_path):
    attempt = make_job(tmp_path, f=figure())
    picture_beside(attempt / "fragments" / "f.h5").write_bytes(b"late")
    await Ingest(table).apply(JOB, JournalReader(attempt).read())
    await table.replace_value(1234, 42, "f", PLOTLY_PLACEHOLDER, b"newer")
    assert await pictures.complete(JOB) == []
    assert shown(table) == {"f": b"newer"}


async def test_without_a_browser_the_log_says_so_once(
    table, pictures, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "missing"))
    attempt = make_job(tmp_path, f=figure(), g=figure())
    await Ingest(table).apply(JOB, JournalReader(attempt).read())
    with caplog.at_level(logging.WARNING):
        assert await pictures.complete(JOB) == []
        assert await pictures.complete(JOB) == []
    assert caplog.text.count("keep a placeholder") == 1
    assert "install chromium-headless-shell" in caplog.text
    assert set(shown(table).values()) == {PLOTLY_PLACEHOLDER}
