"""Thumbnails as PNG, with NumPy and zlib alone, so that every environment can make them."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

THUMBNAIL_SIZE = 300  # pixels of the longer side
_SHORTEST_SIDE = 75  # a 4 x 1000 array would otherwise be a line that nobody can see
_MISSING = 255  # palette index of NaN and infinity, transparent
_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Nine points of a dark blue to yellow scale of even steps in lightness, as scientists expect it.
_SCALE = (
    (68, 1, 84),
    (71, 45, 123),
    (59, 82, 139),
    (44, 114, 142),
    (33, 145, 140),
    (40, 174, 128),
    (94, 201, 98),
    (173, 220, 48),
    (253, 231, 37),
)


def _palette() -> npt.NDArray[np.uint8]:
    points = np.array(_SCALE, dtype=float)
    at = np.linspace(0, len(points) - 1, _MISSING)
    columns = [np.interp(at, np.arange(len(points)), points[:, i]) for i in range(3)]
    colours = np.full((_MISSING + 1, 3), 128, dtype=np.uint8)
    colours[:_MISSING] = np.stack(columns, axis=1).round()
    return colours


_PALETTE = _palette()


def encode_png(
    pixels: npt.NDArray[np.uint8], *, palette: npt.NDArray[np.uint8] | None = None
) -> bytes:
    """Encode pixels as PNG: shape (y, x, 3) or (y, x, 4), or (y, x) of indices into `palette`.

    `palette` has shape (n, 3); its index 255 is transparent.
    """
    height, width = pixels.shape[:2]
    colour_type = 3 if pixels.ndim == 2 else {3: 2, 4: 6}[pixels.shape[2]]
    rows = pixels.reshape(height, -1)
    # Each row is preceded by the number of its filter; 0 is none.
    body = np.zeros((height, rows.shape[1] + 1), dtype=np.uint8)
    body[:, 1:] = rows
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))]
    if palette is not None:
        chunks.append(_chunk(b"PLTE", palette.tobytes()))
        if len(palette) > _MISSING:
            chunks.append(_chunk(b"tRNS", b"\xff" * _MISSING + b"\x00"))
    chunks.append(_chunk(b"IDAT", zlib.compress(body.tobytes(), 6)))
    return _SIGNATURE + b"".join(chunks) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def array_thumbnail(array: npt.NDArray[Any]) -> bytes:
    """PNG of a two-dimensional numeric array that is not empty, at most 300 pixels wide and high.

    Colours span its 1st to 99th percentile; NaN and infinity are transparent; complex numbers show
    their magnitude. Shrinking averages, enlarging repeats.
    """
    longest = max(array.shape)
    height, width = (
        min(max(round(side * THUMBNAIL_SIZE / longest), _SHORTEST_SIDE), THUMBNAIL_SIZE)
        for side in array.shape
    )
    means = _block_means(array, min(height, array.shape[0]), min(width, array.shape[1]))
    indices = _colour_indices(means)
    rows = np.arange(height) * means.shape[0] // height
    columns = np.arange(width) * means.shape[1] // width
    return encode_png(indices[rows][:, columns], palette=_PALETTE)


def picture_thumbnail(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG of a picture of shape (y, x, 4), shrunk to at most 300 pixels wide and high."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > THUMBNAIL_SIZE:
        scale = THUMBNAIL_SIZE / longest
        means = _block_means(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = means.round().astype(np.uint8)
    opaque = bool((pixels[..., 3] == 255).all())
    return encode_png(np.ascontiguousarray(pixels[..., :3]) if opaque else pixels)


def _block_means(array: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Average blocks of the first two axes into (rows, columns, ...), without non-finite values.

    Goes through the array in strips, so that no copy of the whole is made. NaN where a block has
    no finite value.
    """
    height, width = array.shape[:2]
    tops = np.arange(rows + 1) * height // rows
    lefts = np.arange(columns) * width // columns
    means = np.empty((rows, columns, *array.shape[2:]))
    widths = np.diff(np.append(lefts, width)).reshape(-1, *[1] * (array.ndim - 2))
    # Infinity and values near the largest float leave no mean; they are not worth a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        for row in range(rows):
            strip = array[tops[row] : tops[row + 1]]
            if strip.dtype.kind == "c":
                strip = np.abs(strip)
            totals = strip.sum(axis=0, dtype=np.float64)
            counts = widths * len(strip)
            if strip.dtype.kind == "f" and not np.isfinite(totals).all():
                finite = np.isfinite(strip)
                totals = strip.sum(axis=0, dtype=np.float64, where=finite)
                counts = np.add.reduceat(finite.sum(axis=0), lefts, axis=0)
            means[row] = np.add.reduceat(totals, lefts, axis=0) / counts
    return means


def _colour_indices(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    finite = np.isfinite(values)
    indices = np.full(values.shape, _MISSING, dtype=np.uint8)
    if not finite.any():
        return indices
    # Halves, because the difference of two huge values may not be a number.
    known = values[finite] / 2
    low, high = np.percentile(known, [1, 99])
    if high <= low:
        low, high = known.min(), known.max()
    places = (known - low) / (high - low) if high > low else np.zeros_like(known)
    indices[finite] = (places.clip(0, 1) * (_MISSING - 1)).astype(np.uint8)
    return indices
