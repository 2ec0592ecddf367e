"""The copy of ctxlib that a folder's jobs use: a context's own Python needs nothing of ours.

It lies in `lib/<version>-<hash of the sources>/` of the database folder: jobs that began with one
version end with it, here, in a container or on another node.
"""

import hashlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from daemon import __version__


def _sources() -> tuple[Path, list[Path]]:
    spec = find_spec("ctxlib")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "the package ctxlib is not installed beside daemon: install runtable again"
        )
    root = Path(spec.origin).parent
    return root, sorted(root.rglob("*.py"))


def install(folder: Path) -> Path:
    """Put ctxlib into `folder`/lib unless this version is there; return where to import from."""
    root, files = _sources()
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    target = folder / "lib" / f"{__version__}-{digest.hexdigest()[:10]}"
    if target.is_dir():
        return target
    target.parent.mkdir(exist_ok=True)
    made = target.parent / f".new-{os.getpid()}-{target.name}"
    shutil.rmtree(made, ignore_errors=True)
    for file in files:
        copy = made / "ctxlib" / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(made)  # somebody else was quicker: theirs is the same
    return target
