"""The copy of ctxlib that a folder's jobs use: a context's own Python needs nothing of ours.

It lies in `lib/<version>-<hash of the sources>/` of the database folder: jobs that began with one
version end with it, here, in a container or on another node.
"""

import hashlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import ctxlib
from daemon import __version__

HERE = Path(ctxlib.__file__).parent.parent
"""Where this process has ctxlib from."""


def _sources() -> dict[Path, bytes]:
    """The files of ctxlib, by their paths in the package."""
    spec = find_spec("ctxlib")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "the package ctxlib is not installed beside daemon: install runtable again"
        )
    root = Path(spec.origin).parent
    return {file.relative_to(root): file.read_bytes() for file in sorted(root.rglob("*.py"))}


def install(folder: Path) -> Path:
    """Put ctxlib into `folder`/lib unless this version is there; return where to import from.

    A copy that is not whole is replaced: the host lost its power while it was written, or somebody
    was there. Every job would fail with it.
    """
    sources = _sources()
    digest = hashlib.sha256()
    for name, content in sources.items():
        digest.update(str(name).encode() + b"\0" + content)
    target = folder / "lib" / f"{__version__}-{digest.hexdigest()[:10]}"
    if _is_whole(target, sources):
        return target
    target.parent.mkdir(exist_ok=True)
    made = target.parent / f".new-{os.getpid()}-{target.name}"
    shutil.rmtree(made, ignore_errors=True)
    for name, content in sources.items():
        copy = made / "ctxlib" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    _put_in_place(made, target, sources)
    return target


def restore(library: Path) -> None:
    """See to it that `library`, which `install` gave, is there: somebody may have deleted it.

    Raises OSError when it cannot be made again.
    """
    if library == HERE or (library / "ctxlib" / "__init__.py").exists():
        return
    if install(library.parent.parent) != library:
        raise FileNotFoundError(
            f"{library} was deleted, and another version is installed now: restart the daemon"
        )


def _put_in_place(made: Path, target: Path, sources: dict[Path, bytes]) -> None:
    damaged = target.parent / f".old-{os.getpid()}-{target.name}"
    try:
        if target.is_dir():
            target.rename(damaged)
        made.rename(target)
    except OSError:
        if not _is_whole(target, sources):
            raise
        shutil.rmtree(made)  # somebody else was quicker: theirs is the same
    shutil.rmtree(damaged, ignore_errors=True)


def _is_whole(library: Path, sources: dict[Path, bytes]) -> bool:
    try:
        return all(
            (library / "ctxlib" / name).read_bytes() == content for name, content in sources.items()
        )
    except (FileNotFoundError, NotADirectoryError):
        return False
