"""A new HDF5 file that takes the place of another one when it is complete, or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ctxlib.whole_file import replaced

if TYPE_CHECKING:
    import h5py
    from _typeshed import ReadableBuffer, WriteableBuffer


@contextmanager
def published_as(path: Path, *, durable: bool = False) -> Iterator[h5py.File]:
    """Give a file under a temporary name, which is renamed to `path` after the block.

    With `durable` it is on disk before that, and the renaming after it. When anything fails, what
    was at `path` stays and nothing is left over. Raises OSError, with the path, for a full disk.
    """
    import h5py  # only here: a daemon has it in other processes alone

    with replaced(path, durable=durable) as new, _Sink(new, path) as sink:
        # Attributes beyond 64 kB need the layout of HDF5 1.8, which every reader knows.
        with h5py.File(sink, "w", libver=("v108", "v110")) as file:
            yield file
        if durable:
            sink.sync()


class _Sink(io.RawIOBase):
    """The file as HDF5 writes to it: nothing ever fails, until its end.

    HDF5 writes some of the data only when an object is forgotten, where an error would be lost, and
    a process in which it failed to close a file crashes when it exits: both seen with a full disk.
    So the first error is kept, and raised at the end of the block.
    """

    def __init__(self, path: Path, shown_as: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._shown_as = shown_as
        self._position = 0
        self._size = 0
        self._error: OSError | None = None

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self.close()
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Have the content on disk when this returns."""
        os.fsync(self._fd)

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            while view and self._error is None:
                written = os.pwrite(self._fd, view, self._position + length - len(view))
                view = view[written:]
        except OSError as error:
            self._fail(error)
        self._position += length
        self._size = max(self._size, self._position)
        return length

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        got = os.preadv(self._fd, [view], self._position)
        view[got:] = bytes(len(view) - got)  # what could not be written, or was not yet
        self._position += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._fail(error)
        return self._size

    def _fail(self, error: OSError) -> None:
        if self._error is None:
            self._error = OSError(error.errno, error.strerror, str(self._shown_as))
