"""The copy of ctxlib in a database folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.library import install, restore


def test_the_copy_imports_alone(tmp_path: Path) -> None:
    library = install(tmp_path)
    code = "import ctxlib, sys; print(ctxlib.__file__); assert 'daemon' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(library)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(library)


def test_the_same_version_is_copied_once(tmp_path: Path) -> None:
    assert install(tmp_path) == install(tmp_path)
    assert len(list((tmp_path / "lib").iterdir())) == 1


def test_a_copy_that_is_not_whole_is_replaced(tmp_path: Path) -> None:
    library = install(tmp_path)
    whole = (library / "ctxlib/errors.py").read_bytes()
    (library / "ctxlib/errors.py").write_bytes(b"")
    (library / "ctxlib/context.py").unlink()
    assert install(tmp_path) == library
    assert (library / "ctxlib/errors.py").read_bytes() == whole
    assert (library / "ctxlib/context.py").exists()
    assert [path.name for path in (tmp_path / "lib").iterdir()] == [library.name]


def test_a_deleted_copy_is_made_again(tmp_path: Path) -> None:
    library = install(tmp_path)
    shutil.rmtree(tmp_path / "lib")
    restore(library)
    assert (library / "ctxlib/errors.py").exists()
    with pytest.raises(FileNotFoundError, match="restart the daemon"):
        restore(library.with_name("another-version"))
