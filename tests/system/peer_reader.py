"""Run by the Python in which the published `damnit` package is installed.

`python peer_reader.py FOLDER RUN OUT.json` writes what its API gives for every variable of a run.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from damnit import Damnit  # noqa: E402


def described(value):
    """Give a value as JSON, with its type."""
    kind = type(value).__name__
    if isinstance(value, xr.DataArray):
        coords = {str(name): described(coord.values) for name, coord in value.coords.items()}
        attrs = {name: described(attr) for name, attr in value.attrs.items()}
        whole = {"name": value.name, "dims": value.dims, "coords": coords, "attrs": attrs}
        return {"type": kind, **whole, "values": described(value.values)["values"]}
    if isinstance(value, xr.Dataset):
        members = {str(name): described(member) for name, member in value.items()}
        return {"type": kind, "members": members}
    if isinstance(value, (np.ndarray, np.generic)):
        plain = value.astype(str) if value.dtype.kind in "cMm" else value
        return {"type": kind, "dtype": value.dtype.str, "values": plain.tolist()}
    if isinstance(value, bytes):
        return {"type": kind, "values": value.hex()}
    if isinstance(value, complex):
        return {"type": kind, "values": [value.real, value.imag]}
    if hasattr(value, "to_plotly_json"):
        return {"type": kind, "values": value.to_json()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"type": kind, "values": value}
    return {"type": kind, "values": str(value)}


def attempt(function):
    """Describe what a call gives, or what it raises."""
    try:
        return described(function())
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return {"type": "raised", "values": f"{type(error).__name__}: {error}"}


def main():
    """Read everything that the API offers."""
    folder, run, out = sys.argv[1:]
    damnit = Damnit(folder)
    variables = damnit[int(run)]
    found = {"keys": list(variables.keys()), "titles": list(variables.titles()), "variables": {}}
    for name in found["keys"]:
        variable = variables[name]
        found["variables"][name] = {
            "read": attempt(variable.read),
            "summary": attempt(variable.summary),
            "preview": attempt(variable.preview_data),
            "units": variable.units,
            "title": variable.title,
        }
    for with_titles, key in ((True, "table"), (False, "names")):
        table = damnit.table(with_titles=with_titles)
        rows = table.to_dict(orient="records")
        found[key] = [{k: attempt(lambda v=v: v) for k, v in row.items()} for row in rows]
    Path(out).write_text(json.dumps(found), encoding="utf-8")


main()
