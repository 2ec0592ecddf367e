"""A proposal with genuine runs in the facility's layout, and database folders of both projects."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks import processes
from benchmarks.daemon import Daemon

PROPOSAL = 1234
PEER = Path(__file__).parents[1] / ".venv-peer/bin"
RUNTABLE = (sys.executable, "-m", "daemon.cli")


class Proposal:
    """One proposal folder; its runs are links to the same files, which none of us changes."""

    def __init__(self, root: Path) -> None:
        """Lay it out below `root`."""
        self.root = root
        self.path = root / f"SPB/202601/p{PROPOSAL:06d}"
        for kind in ("raw", "proc", "scratch", "usr/Shared"):
            (self.path / kind).mkdir(parents=True)

    def add(self, runs: Iterable[int], kind: str = "raw") -> None:
        """Let runs be there, whole."""
        for run in runs:
            target = self.path / kind / f"r{run:04d}"
            target.mkdir()
            # As small files come: one after the other, in no time.
            for file in sorted(_example(kind).iterdir()):
                os.link(file, target / file.name)

    def ours(self, context: str, **settings: object) -> "Ours":
        """A database folder of this project."""
        folder = self.path / "usr/Shared/amore"
        shutil.rmtree(folder, ignore_errors=True)
        source = self._context(context)
        command = (*RUNTABLE, "init", folder, "--proposal", PROPOSAL, "--context", source)
        processes.run(command, cwd=self.root)
        ours = Ours(folder)
        for key, value in {"proposal_path": self.path, **settings}.items():
            ours.command("db-config", key, value)
        return ours

    def peer(self, context: str) -> "Peer | None":
        """A database folder of the peer; None where that is not installed."""
        if not (PEER / "damnit").exists():
            return None
        folder = self.path / "usr/Shared/peer"
        shutil.rmtree(folder, ignore_errors=True)
        peer = Peer(folder, self.root)
        source = self._context(context)
        peer.command("init", folder, "--proposal", PROPOSAL, "--context", source)
        # Its default is a Python of the facility; without it, it uses its own.
        peer.command("db-config", "--delete", "context_python")
        return peer

    def _context(self, text: str) -> Path:
        source = self.root / "context.py"
        source.write_text(text)
        return source


@contextmanager
def proposal(runs: Iterable[int] = (1,), *, proc: bool = False) -> Iterator[Proposal]:
    """A proposal with `runs`, in a temporary folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=_examples().parent) as root:
        made = Proposal(Path(root))
        made.add(runs)
        if proc:
            made.add(runs, "proc")
        yield made


class Ours:
    """A database folder of this project."""

    def __init__(self, folder: Path) -> None:
        """It is `folder`, and there already."""
        self.folder = folder
        self.database = folder / "runs.sqlite"

    def command(self, *arguments: object) -> str:
        """Run a command of ours in the folder."""
        return processes.run((*RUNTABLE, *arguments), cwd=self.folder)

    @contextmanager
    def daemon(self, *wrapper: object) -> Iterator[Daemon]:
        """A daemon that serves the folder during the block, started by `wrapper` if given."""
        command = (*wrapper, *RUNTABLE, "listen", self.folder)
        log = self.folder.parent / "listen.out"
        with (
            processes.background(command, cwd=self.folder, log=log) as process,
            Daemon(self.folder, process) as daemon,
        ):
            yield daemon


class Peer:
    """A database folder of the peer."""

    def __init__(self, folder: Path, data_root: Path) -> None:
        """It will be `folder`; proposals are below `data_root`."""
        self.folder = folder
        self.database = folder / "runs.sqlite"
        # Its updates go out by Kafka, where there is one.
        self.environment = {"EXTRA_DATA_DATA_ROOT": str(data_root), "AMORE_BROKER": "none"}

    def command(self, *arguments: object, wrapper: tuple[object, ...] = ()) -> str:
        """Run a command of the peer's in the folder."""
        cwd = self.folder if self.folder.is_dir() else self.folder.parent
        command = (*wrapper, PEER / "damnit", *arguments)
        return processes.run(command, cwd=cwd, env=self.environment)

    def reprocess(self, *arguments: object) -> str:
        """Process runs in its direct mode, and put the results together as its combiner does."""
        return self.command("reprocess", *arguments, "--direct") + self.combine()

    def combine(self) -> str:
        """Put what there is into the run files."""
        return self.command("combiner", "now", self.folder)


@cache
def _examples() -> Path:
    """Where the runs lie that all proposals are made of; removed when the interpreter ends."""
    folder = tempfile.TemporaryDirectory(prefix="runtable-")
    _KEPT.append(folder)
    path = Path(folder.name) / "examples"
    path.mkdir()
    return path


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _example(kind: str) -> Path:
    from extra_data.tests import make_examples

    folder = _examples() / kind
    folder.mkdir()
    make_examples.make_spb_run(str(folder), raw=kind == "raw", format_version="1.0")
    return folder
