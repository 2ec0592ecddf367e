import errno
import os

import pytest

from ctxlib.patience import until_written


class Disk:
    """A file that cannot be written for a while."""

    def __init__(self, *errors):
        self.errors, self.told, self.slept = list(errors), [], 0.0

    def write(self):
        if self.errors:
            raise self.errors.pop(0)
        return "written"

    def sleep(self, seconds):
        self.slept += seconds

    def until_written(self, folder):
        return until_written(self.write, folder, self.told.append, self.sleep)


def error(number, name):
    return OSError(number, os.strerror(number), str(name))


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]
)
def test_what_the_disk_refuses_is_tried_again_less_and_less_often(tmp_path, number, monkeypatch):
    monkeypatch.setattr("ctxlib.patience._room", lambda folder: 10)  # whoever else may write there
    errors = [error(number, tmp_path / "a.h5") for _ in range(7)]
    disk = Disk(*errors)
    assert disk.until_written(tmp_path) == "written"
    assert disk.told == errors
    assert disk.slept == 1 + 2 + 4 + 8 + 16 + 30 + 30


def test_where_there_is_more_room_it_is_tried_at_once(tmp_path, monkeypatch):
    room = iter([10, 10, 20])
    monkeypatch.setattr("ctxlib.patience._room", lambda folder: next(room))
    disk = Disk(error(errno.ENOSPC, tmp_path / "a.h5"))
    assert disk.until_written(tmp_path) == "written"
    assert disk.slept == 0.5


@pytest.mark.parametrize(
    ("number", "name"),
    [(errno.ENAMETOOLONG, "{}/a.h5"), (errno.ENOENT, "{}/a.h5"), (errno.EIO, "/elsewhere")],
)
def test_what_is_not_the_disks_raises(tmp_path, number, name):
    disk = Disk(error(number, name.format(tmp_path)))
    with pytest.raises(OSError, match=os.strerror(number)):
        disk.until_written(tmp_path)
    assert disk.told == []


def test_an_error_that_names_no_file_raises(tmp_path):
    with pytest.raises(OSError, match="of the user's own"):
        Disk(OSError(errno.ENOSPC, "of the user's own")).until_written(tmp_path)
