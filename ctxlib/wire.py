"""Values on their way from one process to another: JSON, arrays as they are, and saved values.

Nothing is pickled. What JSON has no word for is a dictionary of one item, whose key says what it
is; arrays lie before the JSON in the same file, and what HDF5 is needed for as an HDF5 image.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, BinaryIO

import h5py
import numpy as np

from ctxlib.cell import Cell
from ctxlib.errors import UnsavableError, error_text, foreign_error
from ctxlib.layout import read_object, write_data
from ctxlib.normalise import normalise
from ctxlib.plain import decode_plain, encode_plain
from ctxlib.results import Results

_END = struct.Struct("<Q")  # where the JSON begins, at the end of the file
_CELL = tuple(field.name for field in fields(Cell))


def write(value: object, file: BinaryIO) -> None:
    """Write a value to an empty file that is open for writing.

    None, booleans, numbers, texts, bytes, and lists, tuples and dictionaries of what can be written
    come out as they were, and so do NumPy arrays and scalars. Cells and Results do too, without the
    values of transient variables. Everything else that a variable can return comes out as it does
    from a run file: a pandas Series as a DataArray, a Matplotlib figure as its pixels. Raises
    TypeError, naming the type, for anything else.
    """
    document = json.dumps(_encoded(value, file))
    start = file.tell()
    file.write(document.encode("ascii"))
    file.write(_END.pack(start))


def read(file: BinaryIO) -> Any:
    """Read what `write` wrote; the file is at any position. ValueError if it is not whole."""
    end = file.seek(0, 2) - _END.size
    if end < 0:
        raise ValueError("the file of a value is not whole")
    file.seek(end)
    (start,) = _END.unpack(file.read(_END.size))
    file.seek(start)
    return _decoded(json.loads(file.read(end - start)), file)


def _encoded(value: Any, file: BinaryIO) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [_encoded(item, file) for item in value]
    if kind is tuple:
        return {"tuple": [_encoded(item, file) for item in value]}
    if kind is dict:
        items = ((_encoded(key, file), _encoded(item, file)) for key, item in value.items())
        return {"dict": list(items)}
    if kind is bytes:
        start = file.tell()
        file.write(value)
        return {"bytes": [start, len(value)]}
    if kind is np.ndarray and value.dtype.kind not in "OT" and not value.dtype.hasobject:
        start = file.tell()
        np.lib.format.write_array(file, value, allow_pickle=False)
        return {"array": start}
    if kind is Cell:
        return {"cell": [_encoded(getattr(value, name), file) for name in _CELL]}
    if kind is Results:
        return {"results": _encoded_results(value, file)}
    # Of other classes of numbers, an IntEnum say, only the number is kept.
    plain = (
        encode_plain(value) if kind in (float, complex) or isinstance(value, np.generic) else None
    )
    return {"plain": plain} if plain is not None else _encoded_other(value, file)


def _encoded_other(value: Any, file: BinaryIO) -> Any:
    try:
        data, objtype = normalise(value)
    except UnsavableError as error:
        raise TypeError(
            f"{type(value).__qualname__} cannot be given to another process: return numbers, "
            "texts, lists, dictionaries, arrays, xarray objects, figures or Results"
        ) from error
    if objtype in (None, "timestamp") and data is not value:
        return _encoded(data, file)
    with h5py.File("value", "w", driver="core", backing_store=False) as image:
        write_data(image, "value", data, objtype, itertools.count())
        image.flush()
        content = image.id.get_file_image()
    start = file.tell()
    file.write(content)
    return {"saved": [start, len(content)]}


def _encoded_results(results: Results, file: BinaryIO) -> Any:
    return {
        "cells": _encoded(results.cells, file),
        "errors": [[n, type(e).__name__, error_text(e)] for n, e in results.errors.items()],
        "transient": sorted(results.transient),
    }


def _decoded(value: Any, file: BinaryIO) -> Any:
    if isinstance(value, list):
        return [_decoded(item, file) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    return _DECODERS[kind](content, file)


def _bytes(content: Any, file: BinaryIO) -> bytes:
    start, length = content
    file.seek(start)
    return file.read(length)


def _array(start: int, file: BinaryIO) -> Any:
    file.seek(start)
    return np.lib.format.read_array(file, allow_pickle=False)


def _saved(content: Any, file: BinaryIO) -> Any:
    with h5py.File(h5py.h5f.open_file_image(_bytes(content, file))) as image:
        return read_object(image["value"])


def _results(content: Any, file: BinaryIO) -> Results:
    return Results(
        cells=_decoded(content["cells"], file),
        errors={name: foreign_error(kind, text) for name, kind, text in content["errors"]},
        transient=frozenset(content["transient"]),
    )


_DECODERS: dict[str, Callable[[Any, BinaryIO], Any]] = {
    "tuple": lambda content, file: tuple(_decoded(content, file)),
    "dict": lambda content, file: {_decoded(k, file): _decoded(v, file) for k, v in content},
    "bytes": _bytes,
    "array": _array,
    "cell": lambda content, file: Cell(*_decoded(content, file)),
    "results": _results,
    "plain": lambda content, _: decode_plain(content),
    "saved": _saved,
}
