"""Database folders as older releases of DAMNIT made them, written from what their formats are."""

import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np

PNG = b"\x89PNG\r\n\x1a\nnot really"

_BEFORE_1 = """\
CREATE TABLE metameta(key PRIMARY KEY NOT NULL, value);
CREATE TABLE variables(
    name TEXT PRIMARY KEY NOT NULL, type TEXT, title TEXT, description TEXT, attributes TEXT);
CREATE TABLE time_comments(timestamp, comment);
INSERT INTO metameta VALUES ('proposal', 1234);
INSERT INTO metameta VALUES ('db_id', 'abc');
INSERT INTO variables VALUES ('sample', 'string', 'Sample', 'what is in it', NULL);
INSERT INTO time_comments VALUES (5.0, 'beam is back');
"""
_RUN_INFO = """\
CREATE TABLE run_info(proposal, run, start_time, added_at);
CREATE UNIQUE INDEX proposal_run ON run_info (proposal, run);
INSERT INTO run_info VALUES (1234, 1, 100.0, 101.0), (1234, 2, 200.0, 201.0);
"""
_FORMAT_1 = """\
CREATE TABLE run_variables(
    proposal, run, name, version, value, timestamp, max_diff, provenance, summary_type,
    summary_method);
CREATE UNIQUE INDEX variable_version ON run_variables (proposal, run, name, version);
CREATE VIEW runs AS SELECT * FROM run_info;
CREATE VIEW max_diffs AS SELECT proposal, run FROM run_info;
INSERT INTO variables VALUES ('energy', NULL, 'Energy', NULL, NULL);
INSERT INTO run_variables VALUES
    (1234, 1, 'energy', 1, 9.3, 110.0, 0.5, 'context.py', NULL, 'mean'),
    (1234, 2, 'energy', 1, 9.4, 210.0, NULL, 'context.py', NULL, ''),
    (1234, 1, 'sample', 1, 'water', 120.0, NULL, NULL, NULL, NULL),
    (1234, 1, 'comment', 1, 'a good one', 130.0, NULL, NULL, NULL, NULL);
"""
_FORMAT_2 = "ALTER TABLE run_variables ADD COLUMN attributes;\n"
_FORMAT_3 = """\
CREATE TABLE tags(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL);
CREATE TABLE variable_tags(
    variable_name TEXT NOT NULL,
    tag_id INTEGER NOT NULL,
    FOREIGN KEY (variable_name) REFERENCES variables(name) ON DELETE CASCADE,
    FOREIGN KEY (tag_id) REFERENCES tags(id) ON DELETE CASCADE,
    PRIMARY KEY (variable_name, tag_id)
);
INSERT INTO tags VALUES (1, 'beam');
INSERT INTO variable_tags VALUES ('energy', 1);
"""
_V0 = """\
CREATE TABLE runs(proposal, runnr, start_time, added_at, comment, energy, line, sample, image);
CREATE UNIQUE INDEX proposal_run ON runs (proposal, runnr);
"""
_INTERMEDIATE = """\
CREATE TABLE run_variables(
    proposal, run, name, version, value, timestamp, max_diff, provenance, stored_type);
CREATE UNIQUE INDEX variable_version ON run_variables (proposal, run, name, version);
CREATE VIEW runs AS SELECT * FROM run_info;
INSERT INTO variables VALUES ('line', NULL, 'Line', NULL, NULL);
INSERT INTO run_variables VALUES
    (1234, 1, 'line', 1, 4.5, 110.0, 0.5, 'context.py', 'DataArray'),
    (1234, 1, 'sample', 1, 'water', 120.0, NULL, NULL, NULL);
"""


def make_numbered(folder: Path, version: int) -> Path:
    """A folder of format 1, 2 or 3 with two runs; returns its database."""
    scripts = [_BEFORE_1, _RUN_INFO, _FORMAT_1, _FORMAT_2, _FORMAT_3][: version + 2]
    setting = f"INSERT INTO metameta VALUES ('data_format_version', {version});"
    return _database(folder, [*scripts, setting])


def make_v0(folder: Path) -> Path:
    """A folder from before format 1, with two run files and a run without one."""
    path = _database(folder, [_BEFORE_1, _V0])
    rows = [
        (1234, 1, 100.0, 101.0, "a good one", 9.3, 4.5, "water", _npy(np.zeros((2, 2)))),
        (1234, 2, 200.0, 201.0, None, 9.4, 4.5, None, b"\x80\x04a pickle."),
        (1234, 3, 300.0, 301.0, None, 9.5, None, None, None),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * 9)})", rows)
    for run in (1, 2):
        with _run_file(folder, run) as file:
            file["energy/data"] = 9.3
            file["image/data"] = np.arange(40.0).reshape(5, 8)
            file["line/data"] = np.arange(10.0)
            file["line/x"] = np.arange(10.0) / 2
            file["line/moment"] = 7.0
            file[".reduced/energy"] = 9.3
            file[".reduced/line"] = 4.5
            file[".reduced/image"] = np.arange(40.0).reshape(5, 8)
    return path


def make_intermediate(folder: Path) -> Path:
    """A folder of the format between v0 and 1, with one run file."""
    import xarray as xr

    path = _database(folder, [_BEFORE_1, _RUN_INFO, _INTERMEDIATE])
    with _run_file(folder, 1) as file:
        name = str(file.filename)
        file["image/data"] = np.arange(40.0).reshape(5, 8)
        file[".reduced/line"] = 4.5
        file[".reduced/line"].attrs["stored_type"] = "DataArray"
        file[".reduced/image"] = np.full((6, 9, 4), 128, dtype=np.uint8)
        file[".reduced/image"].attrs["stored_type"] = "image"
    array = xr.DataArray(np.arange(10.0), dims=["x"], coords={"x": np.arange(10.0) / 2})
    array.to_netcdf(name, mode="a", group="line", engine="h5netcdf")
    return path


def _database(folder: Path, scripts: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "context.py").touch()
    path = folder / "runs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        for script in scripts:
            connection.executescript(script)
        connection.commit()
    return path


def _run_file(folder: Path, run: int) -> h5py.File:
    (folder / "extracted_data").mkdir(exist_ok=True)
    return h5py.File(folder / "extracted_data" / f"p1234_r{run}.h5", "w")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
